"""The next 30 days of a team's schedules, day by day. Pure arithmetic, no rows are read."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import islice, takewhile
from uuid import UUID
from zoneinfo import ZoneInfo

from personas import timing
from personas.models import Schedule

DAYS = 30
MOST_OF_SCHEDULE = 5_000  # times that are counted; the rest of one that fires more often is named as "more"
MOST_MEETINGS = 3  # a day, named one by one


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run of a flow usually takes: platform credits and US dollars. None where nothing is known."""

    credits: int | None = None
    usd: Decimal | None = None


@dataclass(slots=True)
class Entry:
    """One schedule on one day: how often it fires, first and last."""

    schedule: Schedule
    first: datetime
    last: datetime
    count: int = 0


@dataclass(slots=True)
class Day:
    """One local day: its entries, what they take in all, and minutes at which several flows start together."""

    date: date
    entries: list[Entry] = field(default_factory=list)
    meetings: list[tuple[datetime, int]] = field(default_factory=list)
    more_meetings: int = 0
    credits: int = 0
    usd: Decimal = Decimal(0)
    unknown: int = 0

    @property
    def count(self) -> int:
        return sum(entry.count for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Month:
    """Thirty days. `cut`: schedules that fire more often than was counted."""

    days: list[Day]
    cut: list[Schedule]
    most: int = MOST_OF_SCHEDULE

    @property
    def count(self) -> int:
        return sum(day.count for day in self.days)

    @property
    def credits(self) -> int:
        return sum(day.credits for day in self.days)

    @property
    def usd(self) -> Decimal:
        return sum((day.usd for day in self.days), Decimal(0))

    @property
    def unknown(self) -> int:
        return sum(day.unknown for day in self.days)


def lay_out(schedules: Sequence[Schedule], costs: Mapping[UUID, Cost], now: datetime, zone: ZoneInfo) -> Month:
    """Lay out active schedules over the reader's next 30 days, today first."""
    today = now.astimezone(zone).date()
    days = {today + timedelta(days=n): Day(today + timedelta(days=n)) for n in range(DAYS)}
    minutes: dict[date, Counter[datetime]] = defaultdict(Counter)
    cut = []
    for schedule in schedules:
        times = list(islice(times_of(schedule, now), MOST_OF_SCHEDULE + 1))
        if len(times) > MOST_OF_SCHEDULE:
            cut.append(schedule)
        for at in times[:MOST_OF_SCHEDULE]:
            local = at.astimezone(zone)
            if day := days.get(local.date()):
                _count(day, schedule, at, costs.get(schedule.flow_id, Cost()))
                minutes[day.date][at.replace(second=0, microsecond=0)] += 1
    for day in days.values():
        met = sorted(((at, count) for at, count in minutes[day.date].items() if count > 1), key=lambda each: -each[1])
        day.meetings, day.more_meetings = met[:MOST_MEETINGS], len(met[MOST_MEETINGS:])
    return Month(list(days.values()), cut)


def times_of(schedule: Schedule, now: datetime) -> Iterator[datetime]:
    """The times at which a schedule will fire in the next 30 days, in order."""
    first = schedule.nominal_at or schedule.next_at
    after = max(now, schedule.paused_until or now, first - timedelta(microseconds=1))
    try:
        yield from takewhile(lambda at: at < now + timedelta(days=DAYS), schedule.rule.instants(after))
    except timing.BadRule:
        return


def _count(day: Day, schedule: Schedule, at: datetime, cost: Cost) -> None:
    if not day.entries or day.entries[-1].schedule is not schedule:
        day.entries.append(Entry(schedule, at, at))
    entry = day.entries[-1]
    entry.last, entry.count = at, entry.count + 1
    day.credits += cost.credits or 0
    day.usd += cost.usd or Decimal(0)
    day.unknown += cost.credits is None
