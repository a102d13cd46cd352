"""Reading one answer, whole or as a stream, successful or not."""

import re
import time
from collections.abc import Callable
from typing import Any

import httpx

from integrations.errors import BadAnswer, Unreachable, UpstreamError
from integrations.openrouter.connections import pieces
from integrations.openrouter.explain import INSIDE_A_SUCCESS, explain
from integrations.openrouter.payload import as_dict, as_text, decode, encode
from integrations.openrouter.reading import read_answer, settle
from integrations.openrouter.streams import ASSEMBLIES, DONE, Assembly, events
from integrations.redaction import Redactor
from integrations.wire import Answer, Request
from vault.secret import Secret

Listener = Callable[[str], None] | None

IDENTIFIER = re.compile(r"[\w.:-]{1,120}", re.ASCII)


class Exchange:
    """The answer to one request, as it comes in. Use it once."""

    def __init__(
        self,
        request: Request,
        redactor: Redactor,
        on_text: Listener = None,
        on_generation: Listener = None,
        on_reasoning: Listener = None,
    ) -> None:
        self._request = request
        self._redactor = redactor
        self._on_text = on_text
        self._on_generation = on_generation
        self._on_reasoning = on_reasoning
        self._began = time.monotonic()
        self._first_token_ms: int | None = None
        self._assembly: Assembly | None = None
        self._whole: dict[str, Any] = {}
        self._secret: Secret | None = None

    def read(self, response: httpx.Response) -> Answer:
        """Return what the response says, or raise what went wrong, with all that arrived before."""
        try:
            return self._read(response)
        except UpstreamError as error:
            settle(error, self._data(), request=self._request)
            error.generation_id = self._generation_id(response)
            raise

    def _read(self, response: httpx.Response) -> Answer:
        if response.status_code >= 400:
            raise self._refusal(response)
        if response.status_code >= 300:
            raise BadAnswer("OpenRouter answered with a redirect, which is not followed.", code=response.status_code)
        self._announce(response)
        if self._request.streams and response.headers.get("content-type", "").startswith("text/event-stream"):
            self._assembly = ASSEMBLIES[self._request.streams]()
            self._follow(self._assembly, response)
        else:
            self._whole = self._parse(self._body(response))
        return self._answer(response)

    def _announce(self, response: httpx.Response) -> None:
        began = self._generation_id(response) if self._request.billable else ""
        if began and self._on_generation:
            self._on_generation(began)
            self._on_generation = None

    def _answer(self, response: httpx.Response) -> Answer:
        answer = read_answer(
            self._data(),
            request=self._request,
            redactor=self._redactor,
            headers=response.headers,
            status=response.status_code,
            generation_id=self._generation_id(response),
            secret=self._secret,
            first_token_ms=self._first_token_ms,
            latency_ms=self._elapsed_ms(),
        )
        if self._request.streams and not self._assembly:
            self._show(answer.text)  # it came in one piece after all
        return answer

    def _refusal(self, response: httpx.Response) -> UpstreamError:
        payload = None
        try:
            payload = self._whole = self._parse(self._body(response))
        except UpstreamError:
            pass  # the status says enough
        return explain(response.status_code, response.headers, payload, request=self._request, redactor=self._redactor)

    def _follow(self, assembly: Assembly, response: httpx.Response) -> None:
        try:
            for data in events(pieces(response, billable=self._request.billable)):
                if data == DONE:
                    assembly.finished = True
                else:
                    self._take(assembly, self._parse(data), response)
        except UpstreamError as error:
            # After the end nothing can be missing but the goodbye. An error that was said (with
            # a code) is another matter: it takes back what came before.
            if error.code or not assembly.finished:
                raise
        if not assembly.finished:
            raise Unreachable("The answer stopped in the middle.", maybe_billed=self._request.billable)

    def _take(self, assembly: Assembly, event: dict[str, Any], response: httpx.Response) -> None:
        first = not assembly.begun
        text = assembly.add(event)
        if first:
            self._announce(response)  # a service that names it in no header names it here
        if assembly.reasoning and self._on_reasoning:
            self._on_reasoning(assembly.reasoning)
        self._show(text)
        if event.get("error"):
            raise explain(INSIDE_A_SUCCESS, response.headers, event, request=self._request, redactor=self._redactor)

    def _show(self, text: str) -> None:
        if not text:
            return
        if self._first_token_ms is None:
            self._first_token_ms = self._elapsed_ms()
        if self._on_text:
            self._on_text(text)

    def _body(self, response: httpx.Response) -> bytes:
        return b"".join(pieces(response, billable=self._request.billable))

    def _parse(self, body: bytes) -> dict[str, Any]:
        try:
            value = decode(body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise BadAnswer("OpenRouter's answer is not the JSON it should be.", maybe_billed=self._request.billable)
        if self._request.mints:
            body = self._keep_back(value)
        # A success may echo the key too, in a name that we show; only then is it worth reading every text.
        return self._redactor.everything(value) if self._redactor.holds_own(body) else value

    def _keep_back(self, value: dict[str, Any]) -> bytes:
        """Take the new key out of the answer that brings it, before anybody can see it there; returns the rest."""
        # At the top by the specification; the provider's own recipe reads it one floor down.
        found = [as_text(place.pop("key", None)) for place in (value, as_dict(value.get("data")))]
        if plain := found[0] or found[1]:
            self._secret = Secret(plain)
            self._redactor = self._redactor.also(self._secret)
        return encode(value)

    def _data(self) -> dict[str, Any]:
        return self._assembly.body() if self._assembly else self._whole

    def _generation_id(self, response: httpx.Response) -> str:
        data = self._data() if self._request.billable else {}
        for said in (response.headers.get("x-generation-id"), data.get("id"), data.get("request_id")):
            # It ends up in rows and logs, so nothing but an id passes, and never a key.
            if IDENTIFIER.fullmatch(as_text(said)) and self._redactor.text(said) == said:
                return str(said)
        return ""

    def _elapsed_ms(self) -> int:
        return round((time.monotonic() - self._began) * 1000)
