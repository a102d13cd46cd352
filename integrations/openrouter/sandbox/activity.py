"""What each key asked of each model and host on each UTC day, and GET /activity, which shows the days that are over."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from . import wishes
from .accounts import user_id, workspace_id
from .clock import Clock
from .errors import ApiError, invalid
from .exchange import Reply, Request, json_reply
from .keys import Key, Keys
from .money import as_text
from .router import Route
from .serving import Served

SHOWN_DAYS = 30


class Subject(NamedTuple):
    """Whose answers are counted together."""

    account: str
    key: str
    day: date
    model: str
    permaslug: str
    provider: str
    tag: str


@dataclass
class Tally:
    """How many answers, how long they were and what they cost."""

    requests: int = 0
    prompt: int = 0
    completion: int = 0
    reasoning: int = 0
    usage: Decimal = Decimal(0)

    def add(self, other: "Tally") -> None:
        self.requests += other.requests
        self.prompt += other.prompt
        self.completion += other.completion
        self.reasoning += other.reasoning
        self.usage += other.usage


class Activity:
    """The counts of the last days; older ones are forgotten."""

    def __init__(self) -> None:
        self.changed = False
        self._tallies: dict[Subject, Tally] = defaultdict(Tally)
        self._oldest = date.min

    def count(self, served: Served, key: Key, *, now: datetime) -> None:
        """Count one answer, whatever became of it on its way."""
        model = served.model
        subject = Subject(
            key.account,
            key.sha256,
            now.date(),
            model["id"],
            model["canonical_slug"],
            served.provider,
            served.endpoint["tag"],
        )
        self._tallies[subject].add(_tally(served))
        self.changed = True
        self._forget(now.date() - timedelta(days=SHOWN_DAYS))

    def rows(self, *, account: str, days: tuple[date, date], key: str | None) -> list[tuple[Subject, Tally]]:
        """The counts of these days, both included, newest first, with all keys together."""
        found: dict[Subject, Tally] = defaultdict(Tally)
        for subject, tally in self._tallies.items():
            if subject.account == account and days[0] <= subject.day <= days[1] and key in (None, subject.key):
                found[subject._replace(key="")].add(tally)
        return sorted(found.items(), key=lambda row: (-row[0].day.toordinal(), *row[0][3:]))

    def data(self) -> list[dict[str, Any]]:
        """All counts, as they are kept in a file."""
        return [
            {**subject._asdict(), "day": subject.day.isoformat(), **vars(tally), "usage": as_text(tally.usage)}
            for subject, tally in self._tallies.items()
        ]

    def load(self, rows: Iterable[dict[str, Any]]) -> None:
        for row in rows:
            subject = Subject(**{name: row[name] for name in Subject._fields} | {"day": date.fromisoformat(row["day"])})
            counts = {name: row[name] for name in vars(Tally())} | {"usage": Decimal(row["usage"])}
            self._tallies[subject] = Tally(**counts)

    def _forget(self, oldest: date) -> None:
        if oldest <= self._oldest:
            return
        self._oldest = oldest
        for subject in [each for each in self._tallies if each.day < oldest]:
            del self._tallies[subject]


class ActivityDesk:
    """/activity: for management keys. Every handler raises ApiError."""

    def __init__(self, keys: Keys, activity: Activity, clock: Clock) -> None:
        self._keys = keys
        self._activity = activity
        self._clock = clock

    def routes(self) -> list[Route]:
        return [("GET", "/activity", self._show)]

    def _show(self, request: Request) -> Reply:
        now = self._clock.now()
        account = self._keys.need_management(request.bearer, now=now).account
        query = dict(request.query)
        wishes.workspace(query, account=account, otherwise=ApiError(404))
        splits = wishes.one_of(query, "group_by", ("workspace",)) is not None
        days = _days(query.get("date"), today=now.date())
        # Members are for organisations; here there is one user.
        nobody = query.get("user_id", user_id(account)) != user_id(account)
        rows = [] if nobody else self._activity.rows(account=account, days=days, key=query.get("api_key_hash"))
        extra = {"workspace_id": workspace_id(account)} if splits else {}
        return json_reply({"data": [_shown(subject, tally) | extra for subject, tally in rows]})


def _days(wanted: str | None, *, today: date) -> tuple[date, date]:
    """The days to show: today never is, since it is not over. Raises ApiError(400) for a day that cannot be shown."""
    first, last = today - timedelta(days=SHOWN_DAYS), today - timedelta(days=1)
    if wanted is None:
        return first, last
    try:
        day = date.fromisoformat(wanted) if len(wanted) == len("2025-08-24") else date.max
    except ValueError:
        day = date.max
    if not first <= day <= last:
        raise invalid(f"date: expected one of the last {SHOWN_DAYS} completed UTC days as YYYY-MM-DD")
    return day, day


def _tally(served: Served) -> Tally:
    blank = served.is_blank
    return Tally(
        requests=1,
        prompt=0 if blank else served.prompt_tokens,
        completion=served.completion_tokens,
        reasoning=0 if blank else served.thought.reasoning_tokens,
        usage=served.cost.total,
    )


def _shown(subject: Subject, tally: Tally) -> dict[str, Any]:
    return {
        "date": subject.day.isoformat(),
        "model": subject.model,
        "model_permaslug": subject.permaslug,
        "endpoint_id": str(uuid5(NAMESPACE_URL, f"endpoint:{subject.model}:{subject.tag}")),
        "provider_name": subject.provider,
        "usage": float(tally.usage),
        "byok_usage_inference": 0,
        "requests": tally.requests,
        "prompt_tokens": tally.prompt,
        "completion_tokens": tally.completion,
        "reasoning_tokens": tally.reasoning,
        "cached_tokens": 0,
    }
