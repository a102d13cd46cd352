"""What a team's calls took: by day, by what they can be told apart by, and which calls those are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import F, Max, Q, QuerySet, Sum, Value
from django.db.models.functions import Coalesce, NullIf

from accounts.models import Team
from audit.places import place, read_place
from integrations.models import Call, SpendDay

# What spend can be told apart by: the column that says which, and the one that names it.
COLUMNS = {
    "persona": ("persona_id", "persona_name"),
    "flow": ("flow_id", "flow_id"),
    "member": ("actor_id", "actor_name"),
    "model": ("model", "model"),
    "provider": ("provider", "provider"),
    "tool": ("tool", "tool"),
    "day": ("day", "day"),
}
UNITS = {"usd": "cost_usd", "credits": "credits"}
WAY = ("persona_id", "flow_id", "asked", "model", "provider", "answered", "usd", "read", "written", "most")
PAGE = 50
Key = UUID | str | date | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums of calls. `cost_usd` in US dollars, `credits` in platform credits; what is unknown is in neither."""

    calls: int = 0
    failed: int = 0
    unknown: int = 0
    cost_usd: Decimal = Decimal(0)
    credits: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def __add__(self, other: "Figures") -> "Figures":
        return Figures(*(getattr(self, name) + getattr(other, name) for name in NAMES))

    def in_unit(self, unit: str) -> Decimal:
        """The amount in one of `UNITS`."""
        return Decimal(getattr(self, UNITS[unit]))


NAMES = [field.name for field in fields(Figures)]
SUMS = {f"sum_{name}": Sum(name) for name in NAMES}


@dataclass(frozen=True, slots=True)
class Group:
    """What all calls of one persona took, or one model, day and so on. `name` is empty for those of none."""

    key: Key
    name: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Asked:
    """Which calls: those begun from one day of the team's zone to another, both whole, and only some of them."""

    team: Team
    first: date
    last: date
    only: Mapping[str, Key]


@dataclass(frozen=True, slots=True)
class Taken:
    """
    The calls that went one way: what was asked, what answered, and who served it as the provider's answer names it.

    `longest`: tokens in and out of the longest of them. Calls that failed are not among them.
    """

    persona_id: UUID | None
    flow_id: UUID | None
    asked: str
    model: str
    provider: str
    calls: int
    cost_usd: Decimal
    tokens_in: int
    tokens_out: int
    longest: int


@dataclass(frozen=True, slots=True)
class CallPage:
    """Some calls, the newest first, and the place after which the next ones come: empty at the end."""

    calls: list[Call]
    older: str


def by_day(asked: Asked) -> dict[date, Figures]:
    """Return each day that had calls. One query."""
    rows = _rows(asked).values("day").annotate(**SUMS)
    return {row["day"]: _figures(row) for row in rows}


def by_group(asked: Asked, by: str, unit: str, most: int | None = None) -> list[Group]:
    """Return what took most, in one of `UNITS`, first; days in their order. One query."""
    key, name = COLUMNS[by]
    order = ["-key"] if by == "day" else [f"-sum_{UNITS[unit]}", "-sum_calls", "key"]
    rows = _rows(asked).values(key=F(key)).annotate(name=Max(name) if by in ("persona", "member") else F(name), **SUMS)
    return [Group(row["key"], str(row["name"] or ""), _figures(row)) for row in rows.order_by(*order)[:most]]


def by_day_and_group(asked: Asked, by: str, keys: Sequence[Key] | None = None) -> list[tuple[date, Group]]:
    """Return each day of each group, or only of those with such keys. One query."""
    key, name = COLUMNS[by]
    rows = _rows(asked).values("day", key=F(key)).annotate(named=Max(name) if by in ("persona", "member") else F(name))
    if keys is not None:
        rows = rows.filter(_is_one_of(key, keys))
    rows = rows.annotate(**SUMS).order_by("day", "key")
    return [(row["day"], Group(row["key"], str(row["named"] or ""), _figures(row))) for row in rows.iterator()]


def ways_taken(asked: Asked, tools: Sequence[str]) -> list[Taken]:
    """Return the ways that answered calls of some tools went, the most used first. One query over days."""
    rows = _rows(asked).filter(tool__in=tools).exclude(asked="")
    rows = rows.values("persona_id", "flow_id", "asked", "model", "provider").annotate(
        answered=Sum("calls") - Sum("failed"),
        usd=Sum("cost_usd"),
        read=Sum("tokens_in"),
        written=Sum("tokens_out"),
        most=Max("longest"),
    )
    rows = rows.filter(answered__gt=0).order_by("-answered", "asked", "provider")
    return [Taken(*row) for row in rows.values_list(*WAY)]


def call_page(asked: Asked, after: str = "") -> CallPage:
    """Return the calls themselves, from after a place; a place that is none means the newest."""
    found = _calls(asked)
    if (after_this := read_place(after)) is not None:
        at, id = after_this
        found = found.filter(started_at__lte=at).exclude(started_at=at, id__gte=id)
    calls = list(found.order_by("-started_at", "-id")[: PAGE + 1])
    more = len(calls) > PAGE
    return CallPage(calls[:PAGE], place(calls[PAGE - 1].started_at, calls[PAGE - 1].pk) if more else "")


def _rows(asked: Asked) -> QuerySet[SpendDay]:
    rows = SpendDay.objects.filter(team=asked.team, day__range=(asked.first, asked.last))
    return rows.filter(*(_is_one_of(COLUMNS[by][0], [key]) for by, key in asked.only.items()))


def _calls(asked: Asked) -> QuerySet[Call]:
    """The calls that those rows were added up from."""
    zone, day = ZoneInfo(asked.team.zone), asked.only.get("day")
    first, last = (max(asked.first, day), min(asked.last, day)) if isinstance(day, date) else (asked.first, asked.last)
    begun = (_start(first, zone), _start(last + timedelta(days=1), zone))
    calls = Call.objects.filter(team=asked.team, started_at__gte=begun[0], started_at__lt=begun[1])
    calls = calls.exclude(state="sent").annotate(answered=Coalesce(NullIf("model_served", Value("")), "model"))
    columns = {by: "answered" if by == "model" else column for by, (column, _) in COLUMNS.items()}
    return calls.filter(*(_is_one_of(columns[by], [key]) for by, key in asked.only.items() if by != "day"))


def _start(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone)


def _is_one_of(column: str, keys: Sequence[Key]) -> Q:
    known = Q(**{f"{column}__in": [key for key in keys if key is not None]})
    return known | Q(**{f"{column}__isnull": True}) if None in keys else known


def _figures(row: dict[str, Any]) -> Figures:
    return Figures(**{name: row[f"sum_{name}"] for name in NAMES})
