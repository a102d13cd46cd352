"""Scripted faults: which request goes wrong, and how."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from .errors import ApiError

KINDS = {"status", "error_in_200", "empty", "mid_stream_error", "silence", "slow", "cut", "garbage", "dear"}
# Not faults of the service but of the model: what it asks for, whatever it was told.
WILLS = {"calls", "obeys"}
MATCHES = {"model", "provider", "path", "method", "nth", "every", "header"}
ANSWERS = {
    "kind",
    "status",
    "retry_after",
    "message",
    "metadata",
    "error_type",
    "availability",
    "headers",
    "delay",
    "at",
    "factor",
    "times",
    "calls",
}


@dataclass(frozen=True)
class Fault:
    """What a rule makes of one request. `delay` is in seconds and means what its kind says."""

    kind: str
    status: int = 429
    message: str = ""
    error_type: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    availability: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float | None = None
    at: str = "body"
    factor: int = 10
    calls: tuple[dict[str, Any], ...] = ()
    number: int = 1  # how often its rule has fired, this time included

    def error(self, *, provider: str = "") -> ApiError:
        """The refusal this fault stands for; an upstream's one names its provider."""
        metadata = {"provider_name": provider, "is_byok": False} if provider else {}
        return ApiError(
            self.status,
            self.message,
            error_type=self.error_type,
            metadata=metadata | self.metadata,
            availability=self.availability,
            headers=self.headers,
            wait=self.delay or 0,
        )


@dataclass
class Rule:
    match: dict[str, Any]
    answer: dict[str, Any]
    seen: int = 0
    fired: int = 0

    def describe(self) -> dict[str, Any]:
        return {"match": self.match, "answer": self.answer, "seen": self.seen, "fired": self.fired}

    def fits(
        self, method: str, path: str, headers: dict[str, str], models: tuple[str, ...], host: tuple[str, ...]
    ) -> bool:
        """Whether this rule speaks of the request at all, its counters aside."""
        if self.match.get("method", method).upper() != method:
            return False
        wanted = self.match.get("path")
        if wanted and not fnmatchcase(path, wanted.removeprefix("/api/v1")):
            return False
        model, provider = self.match.get("model"), self.match.get("provider")
        if bool(provider) != bool(host) or (provider and not any(fnmatchcase(name, provider) for name in host)):
            return False
        if bool(model or provider) != bool(models) or (model and not any(fnmatchcase(name, model) for name in models)):
            return False
        return all(_has_header(headers, name, value) for name, value in self._headers())

    def _headers(self) -> list[tuple[str, str | None]]:
        header = self.match.get("header")
        if isinstance(header, str):
            name, colon, value = header.partition(":")
            return [(name.strip().lower(), value.strip() if colon else None)]
        return [(name.lower(), value) for name, value in (header or {}).items()]

    def is_due(self) -> bool:
        """Count this request and say whether it is one that goes wrong."""
        self.seen += 1
        nth, every, times = self.match.get("nth"), self.match.get("every"), self.answer.get("times")
        if times is not None and self.fired >= times:
            return False
        if nth is not None and self.seen not in (nth if isinstance(nth, list) else [nth]):
            return False
        if every is not None and self.seen % every:
            return False
        self.fired += 1
        return True

    def fault(self) -> Fault:
        answer = self.answer
        headers = {name.lower(): str(value) for name, value in (answer.get("headers") or {}).items()}
        if answer.get("retry_after") is not None:
            headers["retry-after"] = str(answer["retry_after"])
        return Fault(
            kind=answer["kind"],
            status=answer.get("status", 429 if answer["kind"] == "status" else 502),
            message=answer.get("message", ""),
            error_type=answer.get("error_type", ""),
            metadata=answer.get("metadata") or {},
            availability=answer.get("availability"),
            headers=headers,
            delay=answer.get("delay"),
            at=answer.get("at", "body"),
            factor=answer.get("factor", 10),
            calls=tuple(answer.get("calls") or ()),
            number=self.fired,
        )


class Rules:
    """
    The rules in force, oldest first; the first one that is due decides.

    A rule that names a model is asked once per model, so that the next one of
    the request gets its turn; one that names a provider, once per host. Any
    other rule is asked once per request.
    """

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(self, rules: Any) -> None:
        """Append one rule or a list of them; raises ApiError(400) and adds none if one is malformed."""
        self._rules += [read_rule(rule) for rule in (rules if isinstance(rules, list) else [rules])]

    def clear(self) -> None:
        self._rules.clear()

    def describe(self) -> list[dict[str, Any]]:
        return [rule.describe() for rule in self._rules]

    def fault(
        self,
        *,
        path: str,
        headers: dict[str, str],
        method: str = "POST",
        models: tuple[str, ...] = (),
        host: tuple[str, ...] = (),
    ) -> Fault | None:
        due = [rule for rule in self._rules if rule.fits(method, path, headers, models, host) and rule.is_due()]
        return due[0].fault() if due else None


def read_rule(data: Any) -> Rule:
    match, answer = (data.get("match") or {}, data.get("answer")) if isinstance(data, dict) else (None, None)
    if not isinstance(match, dict) or not isinstance(answer, dict) or answer.get("kind") not in KINDS | WILLS:
        raise ApiError(
            400, f"A rule is {{match, answer: {{kind}}}} with kind one of {', '.join(sorted(KINDS | WILLS))}"
        )
    unknown = (match.keys() - MATCHES) | (answer.keys() - ANSWERS)
    if unknown:
        raise ApiError(400, f"Unknown words in a rule: {', '.join(sorted(unknown))}")
    calls = answer.get("calls", [])
    if not isinstance(calls, list) or not all(isinstance(call, dict) and "name" in call for call in calls):
        raise ApiError(400, "calls must be a list of {name, arguments}")
    if not isinstance(match.get("method", ""), str):
        raise ApiError(400, "method must be a string")
    if not isinstance(match.get("every", 1), int) or match.get("every", 1) < 1:
        raise ApiError(400, "every must be a whole number above zero")
    for name in ("status", "delay", "times", "factor"):
        value = answer.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ApiError(400, f"{name} must be a number from zero")
    if not isinstance(answer.get("factor", 1), int):
        raise ApiError(400, "factor must be a whole number")
    return Rule(match, answer)


def _has_header(headers: dict[str, str], name: str, value: str | None) -> bool:
    return name in headers if value is None else headers.get(name) == value
