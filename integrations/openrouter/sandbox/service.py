"""The service itself: which request gets which reply. Knows no sockets."""

import time
from dataclasses import dataclass
from typing import Any

from . import listing
from .accounts import user_id
from .activity import ActivityDesk
from .books import Books
from .catalog import Catalog
from .chat import chat_events, chat_result, read_chat
from .clock import Clock
from .endpoints import public
from .errors import ApiError, invalid
from .exchange import Reply, Request, json_reply
from .faults import spoil
from .generations import Generations
from .guardrail_desk import GuardrailDesk
from .key_desk import KeyDesk
from .messages import error_data, messages_events, messages_result, read_messages
from .oauth import OAuthDesk
from .router import Router
from .rules import Fault, Rules
from .serving import Desk, Served, make_generation_id, serve
from .shown import own_data

PREFIX = "/api/v1"
CATALOG_HEADERS = {"access-control-allow-origin": "*", "cdn-cache-control": "max-age=300"}
COINBASE_GONE = (
    "The Coinbase APIs used by this endpoint have been deprecated, so the Coinbase Commerce credits API has been "
    "removed. Use the web credits purchase flow instead."
)
# Faults that need an answer's inside; elsewhere they are errors under status 200, or an empty list.
INFERENCE = ("/chat/completions", "/messages")
# Every so many answers carry something no documentation mentions.
SURPRISE_EVERY = 4


@dataclass(frozen=True)
class Pace:
    """How long things take, in seconds."""

    latency: float = 0.3
    generation_delay: float = 1.5


class Service:
    """One sandbox: its catalog, books, rules and what it has generated so far."""

    def __init__(self, *, catalog: Catalog, books: Books, seed: int, pace: Pace) -> None:
        self.catalog = catalog
        self.books = books
        self.keys = books.keys
        self.clock = Clock()
        self.oauth = OAuthDesk(books.keys, self.clock)
        self.rules = Rules()
        self.generations = Generations()
        self._seed = seed
        self._pace = pace
        self._born = time.time_ns()
        self._answers = 0
        self._router = Router(
            [
                ("POST", "/chat/completions", self._infer),
                ("POST", "/messages", self._infer),
                ("POST", "/credits/coinbase", self._coinbase),
                ("GET", "/credits", self._credits),
                ("GET", "/key", self._key),
                ("GET", "/auth/key", self._key),
                ("GET", "/generation", self._generation),
                ("GET", "/models", self._models),
                ("GET", "/models/count", self._models_count),
                ("GET", "/models/user", self._models_user),
                ("GET", "/models/{}/{}/endpoints", self._endpoints),
                ("GET", "/embeddings/models", self._embedding_models),
                ("GET", "/providers", self._providers),
                ("GET", "/endpoints/zdr", self._zdr),
                *KeyDesk(books.keys, books.guardrails, self.clock).routes(),
                *GuardrailDesk(books.keys, books.guardrails, self.clock).routes(),
                *ActivityDesk(books.keys, books.activity, self.clock).routes(),
                *self.oauth.routes(),
            ]
        )

    def reply(self, request: Request) -> Reply:
        """Answer one request under /api/v1; refusals come back as replies too."""
        try:
            fault = self.rules.fault(path=request.path, headers=request.headers, method=request.method)
            if fault and fault.kind == "status":
                raise fault.error()
            if request.path in INFERENCE and request.method == "POST":
                return self._infer(request, fault)
            reply = self._router.answer(request)
            if request.method != "GET":
                self.books.save()  # a key that was made or deleted is so after a crash too
            return spoil(self._emptied(reply, fault), fault)
        except ApiError as error:
            return self._refusal(request, error)

    def _emptied(self, reply: Reply, fault: Fault | None) -> Reply:
        if fault and fault.kind in ("error_in_200", "mid_stream_error"):
            return json_reply({"error": fault.error().chat_error()})
        return json_reply({"data": []}) if fault and fault.kind == "empty" else reply

    def _refusal(self, request: Request, error: ApiError) -> Reply:
        if request.path == "/messages":
            body = error_data(error, None)
        else:
            key = self.keys.find(request.bearer, now=self.clock.now())
            body = {"error": error.chat_error()} | (
                {"user_id": user_id(key.account)} if key and error.status != 410 else {}
            )
        return json_reply(body, error.status, error.headers, wait=error.wait, model=_model_named(request))

    # Inference

    def _infer(self, request: Request, fault: Fault | None = None) -> Reply:
        now = self.clock.now()
        key = self.keys.need(request.bearer, now=now)
        is_chat = request.path == "/chat/completions"
        ask = read_chat(request.json) if is_chat else read_messages(request.json)
        self._answers += 1
        generation_id = make_generation_id(seed=self._seed, born=self._born, number=self._answers, now=now)
        served = serve(
            Desk(
                catalog=self.catalog,
                keys=self.keys,
                rules=self.rules,
                seed=self._seed,
                request=request,
                ask=ask,
                key=key,
                guardrail=self.books.guardrails.of(key),
                generation_id=generation_id,
                fault=fault,
                now=now,
            )
        )
        self.books.activity.count(served, key, now=now)
        record = self.generations.add(
            served,
            request,
            account=key.account,
            latency=served.waited + self._pace.latency,
            delay=self._pace.generation_delay,
        )
        reply = self._answer(request, served, is_chat=is_chat)
        reply.headers["x-generation-id"] = generation_id
        reply.model, reply.generation_id, reply.cost = served.answered_by, generation_id, served.cost.total
        reply.on_gone = record.cancel
        reply.wait += served.waited
        return spoil(reply, served.fault)

    def _answer(self, request: Request, served: Served, *, is_chat: bool) -> Reply:
        latency = self._pace.latency
        metadata = served.routing() if request.wants_metadata else None
        if served.ask.streams:
            events = chat_events(served, metadata) if is_chat else messages_events(served, metadata)
            headers = {"content-type": "text/event-stream", "cache-control": "no-cache"}
            return Reply(200, events, headers, streams=True, wait=latency * 0.3, spread=latency * 0.7)
        body = chat_result(served) if is_chat else messages_result(served)
        if "error" not in body:
            body |= self._surprise() | ({"openrouter_metadata": metadata} if metadata else {})
        return json_reply(body, wait=latency)

    def _surprise(self) -> dict[str, Any]:
        """Now and then a field and a value that nobody announced, as the real service adds them."""
        if self._answers % SURPRISE_EVERY:
            return {}
        return {"service_tier": "lunar", "x_unannounced": {"since": "today", "values": [1, None]}}

    # Money and keys

    def _coinbase(self, _request: Request) -> Reply:
        raise ApiError(410, COINBASE_GONE)

    def _credits(self, request: Request) -> Reply:
        account = self.keys.account_of(self.keys.need_management(request.bearer, now=self.clock.now()))
        return json_reply(
            {"data": {"total_credits": float(account.total_credits), "total_usage": float(account.total_usage)}}
        )

    def _key(self, request: Request) -> Reply:
        now = self.clock.now()
        key = self.keys.need(request.bearer, now=now)
        held = self.books.guardrails.of(key)
        budget = held.budget(key, now=now) if held else None
        return json_reply({"data": own_data(key, self.keys.account_of(key), now=now, guardrail=budget)})

    def _generation(self, request: Request) -> Reply:
        now = self.clock.now()
        key = self.keys.need(request.bearer, now=now)
        if not request.query.get("id"):
            raise invalid("id: required")
        record = self.generations.find(request.query["id"], account=key.account, now=now)
        return json_reply({"data": record.data})

    # The catalog

    def _models(self, request: Request) -> Reply:
        rows = listing.list_models(self.catalog, request.query, now=self.clock.now())
        if request.query.get("use_rss") == "true":
            return Reply(200, [listing.rss(rows)], {"content-type": "application/rss+xml"} | CATALOG_HEADERS)
        return json_reply(listing.page_of(rows, request.query, path=f"{PREFIX}/models"), headers=CATALOG_HEADERS)

    def _models_count(self, request: Request) -> Reply:
        wanted = {"output_modalities": request.query.get("output_modalities", "")}
        rows = listing.list_models(self.catalog, wanted, now=self.clock.now())
        return json_reply({"data": {"count": len(rows)}}, headers=CATALOG_HEADERS)

    def _models_user(self, request: Request) -> Reply:
        self.keys.need(request.bearer, now=self.clock.now())
        wanted = {name: request.query[name] for name in ("output_modalities", "sort") if name in request.query}
        rows = listing.list_models(self.catalog, wanted, now=self.clock.now())
        return json_reply(listing.page_of(rows, request.query, path=f"{PREFIX}/models/user"))

    def _embedding_models(self, request: Request) -> Reply:
        rows = listing.list_models(self.catalog, {"output_modalities": "embeddings"}, now=self.clock.now())
        page = listing.page_of(rows, request.query, path=f"{PREFIX}/embeddings/models")
        return json_reply(page, headers=CATALOG_HEADERS)

    def _providers(self, _request: Request) -> Reply:
        return json_reply({"data": self.catalog.providers}, headers=CATALOG_HEADERS)

    def _endpoints(self, request: Request, author: str, slug: str) -> Reply:
        model = self.catalog.find(f"{author}/{slug}")
        if model is None:
            raise ApiError(404)
        rows = [public(row, with_speed=self._is_known(request)) for row in self.catalog.endpoints_of(model)]
        shown = {field: model.get(field) for field in ("id", "name", "created", "description", "architecture")}
        headers = {"access-control-allow-origin": "*", "cache-control": "s-maxage=300, stale-while-revalidate=600"}
        return json_reply({"data": {**shown, "endpoints": rows}}, headers=headers)

    def _zdr(self, request: Request) -> Reply:
        rows = [public(row, with_speed=self._is_known(request)) for row in self.catalog.zdr]
        return json_reply({"data": rows}, headers=CATALOG_HEADERS)

    def _is_known(self, request: Request) -> bool:
        return self.keys.find(request.bearer, now=self.clock.now()) is not None


def _model_named(request: Request) -> str | None:
    """The model a refused request asked for, where it can be read."""
    if request.path not in INFERENCE:
        return None
    try:
        model = request.json.get("model")
    except ApiError:
        return None
    return model if isinstance(model, str) else None
