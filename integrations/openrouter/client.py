"""OpenRouter over HTTP: a request for each of its endpoints, and the one way to send one. Knows no teams."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

import httpx

from integrations.errors import BadAnswer, InvalidRequest, KeyRefused, UpstreamError
from integrations.openrouter.connections import OnWait, Timeouts, connections
from integrations.openrouter.exchange import Exchange, Listener
from integrations.openrouter.payload import as_dict, encode
from integrations.redaction import Redactor
from integrations.wire import Answer, Request, Streams
from vault.secret import Secret

# What one page holds when only its start is given; see `_pages`.
PAGE = 500
HEADER_SAFE = re.compile(r"[\x21-\x7e]+")

Filter = str | int | bool | Decimal | Iterable[str] | None


class OpenRouter:
    """
    A client of one OpenRouter host: cheap to make, safe to share between threads.

    The methods named after endpoints only build a Request; `send` sends it.
    `referer` and `title` name this installation to OpenRouter, for its own lists of apps.
    """

    def __init__(self, base_url: str, *, timeouts: Timeouts | None = None, referer: str = "", title: str = "") -> None:
        self._base_url = base_url.rstrip("/")
        self._connections = connections(timeouts or Timeouts())
        named = {"HTTP-Referer": referer, "X-OpenRouter-Title": title}
        self._headers = {
            "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "identity",
            "User-Agent": "Definable",
        } | {name: value for name, value in named.items() if value}
        limits = self._connections.timeouts
        self._limits = {"connect": limits.connect, "pool": limits.connect, "read": limits.read, "write": limits.read}

    # --- models -------------------------------------------------------------------------

    @staticmethod
    def chat_completions(body: dict[str, Any]) -> Request:
        """Ask a model, in OpenAI's format. Raises InvalidRequest for what JSON cannot carry."""
        body = _replayable(body)
        streams: Streams = "chat" if body.get("stream") else None
        return Request("POST", "/chat/completions", body=encode(body), streams=streams, billable=True)

    @staticmethod
    def messages(body: dict[str, Any]) -> Request:
        """Ask a model, in Anthropic's format. Raises InvalidRequest for what JSON cannot carry."""
        streams: Streams = "messages" if body.get("stream") else None
        return Request("POST", "/messages", body=encode(body), streams=streams, billable=True)

    # --- the account --------------------------------------------------------------------

    @staticmethod
    def credits() -> Request:
        """What the account bought and used, in US dollars; needs a management key."""
        return Request("GET", "/credits")

    @staticmethod
    def key() -> Request:
        """What the key itself is, may spend and has spent."""
        return Request("GET", "/key")

    @staticmethod
    def generation(id: str) -> Request:
        """Tokens and cost of an earlier answer; NotReady for some seconds after it."""
        return Request("GET", "/generation", query=(("id", id),))

    @staticmethod
    def user_models(**filters: Filter) -> Request:
        """The models that the account's own settings leave over."""
        return Request("GET", "/models/user", query=_query(_pages(filters)))

    @staticmethod
    def coinbase_charge(body: dict[str, Any]) -> Request:
        """A purchase that OpenRouter withdrew: the answer is always Gone. Takes no key."""
        return Request("POST", "/credits/coinbase", body=encode(body), needs_key=False)

    # --- the catalog: public, but with a key some answers say more ----------------------

    @staticmethod
    def models(**filters: Filter) -> Request:
        """The models, by the filters of the endpoint under their own names."""
        return Request("GET", "/models", query=_query(_pages(filters)), needs_key=False)

    @staticmethod
    def models_count(**filters: Filter) -> Request:
        """How many models there are, for the given `output_modalities`."""
        return Request("GET", "/models/count", query=_query(filters), needs_key=False)

    @staticmethod
    def embedding_models(**filters: Filter) -> Request:
        """The models that make embeddings."""
        return Request("GET", "/embeddings/models", query=_query(_pages(filters)), needs_key=False)

    @staticmethod
    def endpoints(author: str, slug: str) -> Request:
        """Who serves one model, and for how much. Raises InvalidRequest for a name that is no name."""
        path = f"/models/{_segment(author)}/{_segment(slug)}/endpoints"
        return Request("GET", path, needs_key=False)

    @staticmethod
    def providers() -> Request:
        """Every provider behind OpenRouter."""
        return Request("GET", "/providers", needs_key=False)

    @staticmethod
    def zdr_endpoints() -> Request:
        """The endpoints that keep no data."""
        return Request("GET", "/endpoints/zdr", needs_key=False)

    # --- keys: with a management key ----------------------------------------------------

    @staticmethod
    def list_keys(**filters: Filter) -> Request:
        """A hundred keys from `offset`; without `include_disabled` and `include_expired`, only those that work."""
        return Request("GET", "/keys", query=_query(filters))

    @staticmethod
    def create_key(
        name: str,
        *,
        limit: Decimal | None = None,
        limit_reset: str | None = None,
        include_byok_in_limit: bool | None = None,
        expires_at: datetime | None = None,
    ) -> Request:
        """A new key, in the answer's `secret`. `limit` is in US dollars; the end cannot be changed afterwards."""
        body = {
            "name": name,
            "limit": limit,
            "limit_reset": limit_reset,
            "include_byok_in_limit": include_byok_in_limit,
            "expires_at": expires_at and _in_utc(expires_at),
        }
        return Request("POST", "/keys", body=_said(body), mints=True)

    @staticmethod
    def hash_of(key: Secret) -> str:
        """What the service calls a key: it may be kept and shown, for nobody gets back from it to the key."""
        return sha256(key.use().encode()).hexdigest()

    @staticmethod
    def get_key(hash: str) -> Request:
        """One key by its hash; NotFound where there is none."""
        return Request("GET", f"/keys/{_id(hash)}")

    @staticmethod
    def update_key(hash: str, **changes: str | bool | Decimal | None) -> Request:
        """Change `name`, `disabled`, `limit`, `limit_reset` or `include_byok_in_limit`; None takes a limit away."""
        return Request("PATCH", f"/keys/{_id(hash)}", body=encode(changes))

    @staticmethod
    def delete_key(hash: str) -> Request:
        """End a key for good; NotFound where it ended before."""
        return Request("DELETE", f"/keys/{_id(hash)}")

    # --- keys: by the consent of their owner --------------------------------------------

    def consent_url(self, *, code_challenge: str, callback_url: str = "", key_label: str = "") -> str:
        """
        Where to send a browser so that its owner lets us have a key.

        What `callback_url` holds already comes back beside the `code`. Without it the code is
        shown to be copied. The challenge is made by S256.
        """
        asked = {"callback_url": callback_url, "key_label": key_label}
        said = {name: value for name, value in asked.items() if value}
        query = said | {"code_challenge": code_challenge, "code_challenge_method": "S256"}
        return f"{self._base_url.removesuffix('/api/v1')}/auth?{urlencode(query, quote_via=quote)}"

    @staticmethod
    def create_code(
        callback_url: str, *, code_challenge: str, key_label: str | None = None, limit: Decimal | None = None
    ) -> Request:
        """A code for a key of one's own account, without a browser; of no use without the verifier."""
        body = {
            "callback_url": callback_url,
            "code_challenge": code_challenge,
            "code_challenge_method": "S256",
            "key_label": key_label,
            "limit": limit,
        }
        return Request("POST", "/auth/keys/code", body=_said(body))

    @staticmethod
    def exchange_code(code: Secret, *, verifier: Secret) -> Request:
        """The key that a code stands for, in the answer's `secret`. InvalidRequest where the code is no longer good."""
        body = {"code": code.use(), "code_verifier": verifier.use(), "code_challenge_method": "S256"}
        secrets = (code, verifier)
        return Request("POST", "/auth/keys", body=encode(body), needs_key=False, mints=True, secrets=secrets)

    # --- guardrails and activity: with a management key ---------------------------------

    @staticmethod
    def activity(**filters: Filter) -> Request:
        """What was asked on the last 30 UTC days but today, or on one `date`, by model and host."""
        return Request("GET", "/activity", query=_query(filters))

    @staticmethod
    def list_guardrails(**filters: Filter) -> Request:
        """The guardrails of the account, fifty from `offset` unless `limit` says otherwise."""
        return Request("GET", "/guardrails", query=_query(filters))

    @staticmethod
    def get_guardrail(id: str) -> Request:
        """One guardrail; NotFound where there is none."""
        return Request("GET", f"/guardrails/{_id(id)}")

    @staticmethod
    def list_key_assignments(**filters: Filter) -> Request:
        """Which keys of the account hold which guardrail, fifty from `offset` unless `limit` says otherwise."""
        return Request("GET", "/guardrails/assignments/keys", query=_query(filters))

    @staticmethod
    def list_guardrail_keys(id: str, **filters: Filter) -> Request:
        """The keys that hold one guardrail, fifty from `offset` unless `limit` says otherwise."""
        return Request("GET", f"/guardrails/{_id(id)}/assignments/keys", query=_query(filters))

    @staticmethod
    def assign_guardrail_keys(id: str, hashes: Iterable[str]) -> Request:
        """Give keys a guardrail in place of any they hold; keys that are not there are left out of the count."""
        body = {"key_hashes": list(hashes)}
        return Request("POST", f"/guardrails/{_id(id)}/assignments/keys", body=encode(body))

    @staticmethod
    def unassign_guardrail_keys(id: str, hashes: Iterable[str]) -> Request:
        """Take a guardrail from keys; those that do not hold it are left out of the count."""
        body = {"key_hashes": list(hashes)}
        return Request("POST", f"/guardrails/{_id(id)}/assignments/keys/remove", body=encode(body))

    # --- sending ------------------------------------------------------------------------

    def send(
        self,
        request: Request,
        *,
        key: Secret | None,
        request_id: UUID,
        on_text: Listener = None,
        on_generation: Listener = None,
        on_reasoning: Listener = None,
        on_wait: OnWait = None,
    ) -> Answer:
        """
        Make exactly one HTTP exchange and return the answer, or raise a kind of UpstreamError.

        `on_text` gets the text of a stream piece by piece, `on_reasoning` what the model thinks
        before it, `on_generation` the id of what it began to make, before any of it is read, and
        `on_wait` is called several times a second, also while nothing comes. What they raise stops
        the stream, which ends the generation at most providers, and is passed on.
        """
        exchange = Exchange(request, Redactor(key, *request.secrets), on_text, on_generation, on_reasoning)
        try:
            return self._exchange(request, key, request_id, exchange, on_wait)
        except RecursionError:
            failure: UpstreamError = BadAnswer("The answer is nested too deeply.", maybe_billed=request.billable)
        except UpstreamError as error:
            failure = error
        # Raised anew: the old traceback keeps frames alive in which the key was at hand.
        failure.__cause__ = failure.__context__ = None
        raise failure.with_traceback(None)

    def _exchange(
        self, request: Request, key: Secret | None, request_id: UUID, exchange: Exchange, on_wait: OnWait
    ) -> Answer:
        if key is None and request.needs_key:
            raise KeyRefused("OpenRouter answers this only with a key, and none was given.", sent=False)
        outgoing = self._outgoing(request, key, request_id)
        with self._connections.open(outgoing, billable=request.billable, on_wait=on_wait) as response:
            return exchange.read(response)

    def _outgoing(self, request: Request, key: Secret | None, request_id: UUID) -> httpx.Request:
        headers = self._headers | {"X-Request-Id": str(request_id)}
        if request.body:
            headers["Content-Type"] = "application/json"
        if key is not None:
            headers["Authorization"] = _bearer(key)
        url = f"{self._base_url}{request.path}"
        if request.query:
            url = f"{url}?{urlencode(request.query, quote_via=quote)}"
        return httpx.Request(
            request.method, url, headers=headers, content=request.body, extensions={"timeout": self._limits}
        )


def _bearer(key: Secret) -> str:
    # What no header can hold makes httpx raise an error that quotes it.
    if not HEADER_SAFE.fullmatch(key.use()):
        raise KeyRefused("The key holds a character that no key has: paste it again.", sent=False)
    return f"Bearer {key.use()}"


def _replayable(body: dict[str, Any]) -> dict[str, Any]:
    """Put null where an assistant's turn has tool calls and empty text: some providers refuse the empty text."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body
    return body | {"messages": [_without_empty_text(message) for message in messages]}


def _without_empty_text(message: Any) -> Any:
    turn = as_dict(message)
    return turn | {"content": None} if turn.get("tool_calls") and turn.get("content") == "" else message


def _pages(filters: dict[str, Filter]) -> dict[str, Filter]:
    """Complete half a page: the service turns pages only when it gets both, where they start and how long they are."""
    if filters.get("offset") is None and filters.get("limit") is None:
        return filters
    whole: dict[str, Filter] = {"offset": 0, "limit": PAGE}
    return whole | {name: value for name, value in filters.items() if value is not None}


def _query(filters: dict[str, Filter]) -> tuple[tuple[str, str], ...]:
    return tuple((name, _plain(value)) for name, value in filters.items() if value is not None)


def _plain(value: Filter) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | Decimal):
        return str(value)
    return ",".join(value or ())


def _said(body: dict[str, Any]) -> bytes:
    """The body with only what was said in it."""
    return encode({name: value for name, value in body.items() if value is not None})


def _in_utc(moment: datetime) -> str:
    """A time as the service wants it: in UTC, to the second, with a Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _segment(part: str, wrong: str = "A model is named author/name.") -> str:
    # A part of dots alone would climb to another endpoint.
    if not part.strip("."):
        raise InvalidRequest(wrong, sent=False)
    return quote(part, safe=":~")


def _id(text: str) -> str:
    return _segment(text, "Nothing is named by dots alone, or by nothing.")
