"""From a question to an answer that has been paid for: choosing a model, falling back, charging."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from . import tokens
from .ask import Ask
from .brain import Thought, think
from .catalog import Catalog, Row
from .endpoints import some
from .errors import ApiError
from .exchange import Request
from .free import SUFFIX
from .guardrails import Guardrail
from .keys import Key, Keys
from .money import Cost, affordable_tokens, cost_of, price
from .routing import choose_hosts
from .rules import WILLS, Fault, Rules

SETTINGS = "https://openrouter.ai/settings"
DEFAULT_MODEL = "openrouter/auto"
MARKS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Faults after which nothing was generated, so nothing is charged.
UNCHARGED = {"error_in_200", "empty", "mid_stream_error", "silence", "garbage"}
# After these a model's next host is asked; any other refusal is the model's own.
NEXT_HOST_AFTER = {408, 429, *range(500, 600)}


@dataclass(frozen=True)
class Served:
    """One answer: who gave it, what it says, what it costs and how it is to go wrong."""

    generation_id: str
    at: datetime
    requested: str
    strategy: str
    model: Row
    endpoint: Row
    thought: Thought
    prompt_tokens: int
    cost: Cost
    fault: Fault | None
    ask: Ask
    attempts: list[dict[str, Any]] = field(default_factory=list)
    hosts: list[Row] = field(default_factory=list)  # those that could have answered, first choice first
    hosts_in_all: int = 0
    waited: float = 0  # seconds that those asked before took to refuse

    @property
    def answered_by(self) -> str:
        """The model as answers name it: its permanent slug, with the variant kept."""
        variant = self.model["id"].partition(":")[2]
        slug = self.model["canonical_slug"]
        return f"{slug}:{variant}" if variant and ":" not in slug else slug

    @property
    def provider(self) -> str:
        return self.endpoint["provider_name"]

    @property
    def completion_tokens(self) -> int:
        return 0 if self.is_blank else self.thought.completion_tokens

    @property
    def is_blank(self) -> bool:
        """Whether a fault leaves nothing of the answer."""
        return self.fault is not None and self.fault.kind in ("empty", "error_in_200")

    def fault_is(self, kind: str) -> bool:
        return self.fault is not None and self.fault.kind == kind

    def routing(self) -> dict[str, Any]:
        """The `openrouter_metadata` of this answer."""
        rows = [
            {"provider": row["provider_name"], "model": self.answered_by, "selected": row is self.endpoint}
            for row in self.hosts
        ]
        return {
            "requested": self.requested,
            "strategy": self.strategy,
            "region": None,
            "summary": f"available={len(rows)}, selected={self.provider}",
            "attempt": len(self.attempts),
            "is_byok": False,
            "endpoints": {"total": self.hosts_in_all, "available": rows},
            "attempts": self.attempts,
        }


@dataclass(frozen=True)
class Desk:
    """One question, who asks it, and the part of the world that answers."""

    catalog: Catalog
    keys: Keys
    rules: Rules
    seed: int
    request: Request
    ask: Ask
    key: Key
    guardrail: Guardrail | None
    generation_id: str
    fault: Fault | None
    now: datetime

    def hosts_of(self, model: Row) -> list[Row]:
        """Who may answer for a model at all; raises ApiError(404) where the key's guardrail lets nobody."""
        rows = self.catalog.endpoints_of(model)
        return self.guardrail.hosts(model, rows) if self.guardrail else rows


@dataclass(frozen=True)
class Failure:
    """A model, or one of its hosts, that was asked in vain."""

    model: str
    provider: str
    error: ApiError

    def attempt(self) -> dict[str, Any]:
        return {"provider": self.provider, "model": self.model, "status": self.error.status}


def serve(desk: Desk) -> Served:
    """
    Ask the models of the question in turn until one answers, and charge for it.

    Raises ApiError: the last one met, with those before it in its metadata.
    """
    check_key(desk)
    prompt_tokens = count_prompt(desk.ask)
    failures: list[Failure] = []
    for name in desk.ask.models or [DEFAULT_MODEL]:
        try:
            served = _attempt(desk, name, prompt_tokens, failures)
        except ApiError as error:
            failures.append(Failure(name, error.metadata.get("provider_name") or "", error))
            continue
        desk.keys.charge(desk.key, served.cost.total, now=desk.now)
        return served
    raise _last_of(failures)


def check_key(desk: Desk) -> None:
    """Raise ApiError where the key may not spend: 403 for its kind or a cap, 402 for an empty account."""
    key = desk.key
    if key.management:
        raise ApiError(403, "Management keys cannot be used for completions. Use an API key.")
    if desk.guardrail:
        desk.guardrail.check_budget(key, now=desk.now)
    remaining = key.limit_remaining(desk.now)
    if remaining is not None and remaining <= 0:
        interval = key.limit_reset or "total"
        raise ApiError(403, f"Key limit exceeded ({interval} limit). Manage it using {SETTINGS}/keys")
    # Below zero nothing works any more, not even free models.
    if desk.keys.account_of(key).balance < 0:
        raise ApiError(402, metadata={"provider_name": None, "limit_source": "openrouter_credits"})


def count_prompt(ask: Ask) -> int:
    text = sum(tokens.count(turn.text) + tokens.MESSAGE_OVERHEAD for turn in ask.turns)
    images = sum(turn.images for turn in ask.turns) * tokens.IMAGE_TOKENS
    return text + images + tokens.count(ask.system) + tokens.count(ask.overhead)


def _attempt(desk: Desk, name: str, prompt_tokens: int, failures: list[Failure]) -> Served:
    ask = desk.ask
    model, strategy = _choose_model(desk, name, prompt_tokens)
    if model["id"].endswith(SUFFIX):
        desk.keys.count_free(desk.key, now=desk.now)
    rows = desk.hosts_of(model)
    hosts = _with_room(choose_hosts(rows, ask, model=model, prompt_tokens=prompt_tokens), ask, prompt_tokens)
    is_fallback = bool(failures)
    fault = _scripted(desk, name, model, hosts[0]) or desk.fault
    endpoint, fault_of_host = _first_willing(desk, name, model, hosts, failures)
    fault = fault_of_host or fault
    _check_money(desk.keys, desk.key, ask, model, endpoint, prompt_tokens)

    reasons = ask.wants_reasoning and "reasoning" in model["supported_parameters"]
    will = fault if fault and fault.kind in WILLS else None
    thought = think(ask, model=model["id"], reasons=reasons, seed=desk.seed, will=will)
    cost = cost_of(endpoint["pricing"], prompt_tokens=prompt_tokens, completion_tokens=thought.completion_tokens)
    answered = {"provider": endpoint["provider_name"], "model": model["id"], "status": 200}
    return Served(
        generation_id=desk.generation_id,
        at=desk.now,
        requested=(ask.models or [DEFAULT_MODEL])[0],
        strategy="fallback" if is_fallback else strategy,
        model=model,
        endpoint=endpoint,
        thought=thought,
        prompt_tokens=prompt_tokens,
        cost=_charged(cost, fault),
        fault=fault,
        ask=ask,
        attempts=[*(failure.attempt() for failure in failures), answered],
        hosts=hosts,
        hosts_in_all=len(rows),
        waited=sum(failure.error.wait for failure in failures),
    )


def _charged(cost: Cost, fault: Fault | None) -> Cost:
    """What is charged for an answer that went wrong in this way."""
    if fault is None:
        return cost
    if fault.kind == "dear":
        return cost.times(fault.factor)
    return Cost() if fault.kind in UNCHARGED else cost


def _choose_model(desk: Desk, name: str, prompt_tokens: int) -> tuple[Row, str]:
    """The model to ask for a name; routers choose among those that some host may answer for."""

    def fits(model: Row) -> bool:
        try:
            return bool(choose_hosts(desk.hosts_of(model), desk.ask, model=model, prompt_tokens=prompt_tokens))
        except ApiError:
            return False

    return desk.catalog.choose(name, prompt=desk.ask.last, fits=fits)


def _with_room(hosts: list[Row], ask: Ask, prompt_tokens: int) -> list[Row]:
    """The hosts whose context holds prompt and answer; raises ApiError(400) where there is none."""
    output = ask.max_tokens or 0
    roomy = [row for row in hosts if not row["context_length"] or prompt_tokens + output <= row["context_length"]]
    if roomy:
        return roomy
    message = (
        f"This endpoint's maximum context length is {max(row['context_length'] for row in hosts)} tokens. However, "
        f"you requested about {prompt_tokens + output} tokens ({prompt_tokens} of text input, {output} in the output). "
        "Please reduce the length of either one, or use the context-compression plugin."
    )
    raise ApiError(400, message, error_type="context_length_exceeded")


def _first_willing(
    desk: Desk, name: str, model: Row, hosts: list[Row], failures: list[Failure]
) -> tuple[Row, Fault | None]:
    """The first host that no rule refuses for, and how its answer goes wrong. Raises ApiError when all refuse."""
    for endpoint in hosts[:-1]:
        try:
            return endpoint, _scripted(desk, name, model, endpoint, of_host=True)
        except ApiError as error:
            if error.status not in NEXT_HOST_AFTER:
                raise
            failures.append(Failure(name, endpoint["provider_name"], error))
    return hosts[-1], _scripted(desk, name, model, hosts[-1], of_host=True)


def _scripted(desk: Desk, name: str, model: Row, endpoint: Row, *, of_host: bool = False) -> Fault | None:
    """What a rule has in store for this model, or for this host of it; raises ApiError where that is a refusal."""
    names = tuple(dict.fromkeys((name, model["id"], model["canonical_slug"])))
    tag = endpoint["tag"]
    host = (tag, tag.partition("/")[0], endpoint["provider_name"]) if of_host else ()
    fault = desk.rules.fault(path=desk.request.path, headers=desk.request.headers, models=names, host=host)
    if fault and fault.kind == "status":
        raise fault.error(provider=endpoint["provider_name"])
    return fault


def _check_money(keys: Keys, key: Key, ask: Ask, model: Row, endpoint: Row, prompt_tokens: int) -> None:
    """The service sets aside what the longest answer would cost before it asks anybody."""
    pricing, balance = endpoint["pricing"], keys.account_of(key).balance
    longest = ask.max_tokens or model["top_provider"].get("max_completion_tokens") or endpoint["context_length"]
    most = cost_of(pricing, prompt_tokens=prompt_tokens, completion_tokens=longest).total
    if most <= balance or most == 0:
        return
    nobody = {"provider_name": None, "limit_source": "openrouter_credits"}
    if balance <= 0:
        raise ApiError(402, metadata=nobody)
    affordable = affordable_tokens(pricing, prompt_tokens=prompt_tokens, balance=balance)
    if affordable == 0:
        most_prompt = int(balance / (price(pricing, "prompt") or Decimal(1)))
        raise ApiError(
            402,
            f"Prompt tokens limit exceeded: {prompt_tokens} > {most_prompt}. "
            f"To increase, visit {SETTINGS}/credits and upgrade to a paid account",
            metadata=nobody,
        )
    raise ApiError(
        402,
        f"This request requires more credits, or fewer max_tokens. You requested up to {longest} tokens, "
        f"but can only afford {affordable}. To increase, visit {SETTINGS}/credits and upgrade to a paid account",
        metadata=nobody,
    )


def _last_of(failures: list[Failure]) -> ApiError:
    *earlier, last = failures
    if earlier:
        tried = [{"provider": f.provider, "code": f.error.error_type, "status": f.error.status} for f in earlier]
        last.error.metadata = {**last.error.metadata, "previous_errors": tried}
        last.error.wait += sum(failure.error.wait for failure in earlier)
    return last.error


def make_generation_id(*, seed: int, born: int, number: int, now: datetime) -> str:
    """`gen-`, the unix time, and 20 letters or digits that never repeat."""
    left, tail = some(f"{seed}.{born}.{number}", below=len(MARKS) ** 20), ""
    while len(tail) < 20:
        left, place = divmod(left, len(MARKS))
        tail += MARKS[place]
    return f"gen-{int(now.timestamp())}-{tail}"
