"""
When a rule fires: by cron in a zone with clock changes, at an interval, or once. Pure.

The same rule, zone and last instant give the same next one on every machine. Local times follow two
sentences, whatever the zone does:

- A rule for every hour (`*` in the second field) goes by the real clock: it fires whenever the local
  clock shows one of its minutes, in an hour that comes twice too.
- A rule that names hours fires once for each local time it names: at the end of the gap if a clock
  change skips that time, at the first of the two if it comes twice.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, takewhile
from uuid import UUID
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from cronsim.explain import Expression

from accounts.zones import known_zones

CRON, EVERY, ONCE = "cron", "every", "once"
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
LONGEST_STEP_BACK = timedelta(hours=3)  # of clocks
YEARS_AHEAD = 50  # a rule without a date in that time never fires
NEVER = "This rule never fires: no such date comes in the next 50 years."
SHORTEST_EVERY = 10  # seconds


class BadRule(Exception):
    """The rule or the zone cannot be used; the message says what to do."""


class Over(BadRule):
    """The rule can be used and has no further time."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When something fires. `starts_at` is the time of one that fires once, and where an interval is counted from."""

    zone: str
    kind: str = CRON
    cron: str = ""
    every_seconds: int | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None

    def instants(self, after: datetime) -> Iterator[datetime]:
        """
        Yield the instants, in UTC, at which it fires after a given one, each later than the one before.

        Raises BadRule when the rule or the zone cannot be read.
        """
        later = self._unbounded(after)
        return takewhile(lambda instant: instant <= self.ends_at, later) if self.ends_at else later

    def next(self, after: datetime) -> datetime:
        """Return the first instant after a given one. Raises Over when there is none, and BadRule as `instants`."""
        for instant in self.instants(after):
            return instant
        raise Over("This schedule is over: it has no further time." if self.is_bounded else NEVER)

    def next_few(self, after: datetime, count: int = 6) -> list[datetime]:
        """Return up to `count` instants after a given one; none when it is over. Raises BadRule as `instants`."""
        return list(islice(self.instants(after), count))

    def in_words(self) -> str:
        """Say a readable rule, such as “At 06:00 on Monday” or “Every 90 minutes”."""
        if self.kind == EVERY:
            return f"Every {interval_in_words(self.every_seconds or 0)}"
        if self.kind == ONCE and self.starts_at:
            return f"Once, {self.starts_at.astimezone(zone(self.zone)):%-d %b %Y %H:%M}"
        return Expression(self.cron.split()).explain()

    def names(self, local: datetime) -> bool:
        """Whether the rule itself names this local time; a cron rule may fire at another one, after a gap."""
        if self.kind != CRON:
            return True
        fields = _Cron(self.cron, zone(self.zone)).fields
        return local.hour in fields.hours and local.minute in fields.minutes

    @property
    def is_bounded(self) -> bool:
        """Whether it ends by itself."""
        return self.kind == ONCE or self.ends_at is not None

    def _unbounded(self, after: datetime) -> Iterator[datetime]:
        if self.kind == EVERY:
            return _intervals(self.every_seconds, self.starts_at, after)
        if self.kind == ONCE:
            return _single(self.starts_at, after)
        if self.starts_at:
            after = max(after, self.starts_at - timedelta(microseconds=1))
        return _Cron(self.cron, zone(self.zone)).instants(after)


def zone(name: str) -> ZoneInfo:
    """Return an IANA time zone. Raises BadRule for a name that is none."""
    if name not in known_zones():
        raise BadRule(f"“{name}” is not a time zone. Choose one such as Europe/Berlin or UTC.")
    return ZoneInfo(name)


def jitter(schedule_id: UUID, nominal: datetime, most_seconds: int) -> timedelta:
    """
    Return how much later than its nominal time a schedule fires: less than `most_seconds`.

    A fixed function of both, so that every dispatcher computes the same, before a crash and after it.
    """
    digest = hashlib.sha256(f"{schedule_id} {nominal.astimezone(UTC).isoformat()}".encode()).digest()
    return timedelta(milliseconds=int.from_bytes(digest[:8]) % (most_seconds * 1000)) if most_seconds else timedelta()


UNITS = {"day": 86_400, "hour": 3600, "minute": 60, "second": 1}


def interval_in_words(seconds: int) -> str:
    """Say an interval in the largest unit that it is a whole number of: 5400 is “90 minutes”."""
    name, size = next((name, size) for name, size in UNITS.items() if seconds % size == 0)
    count = seconds // size
    return name if count == 1 else f"{count:,} {name}s"


# --- intervals --------------------------------------------------------------------------


def _intervals(seconds: int | None, first: datetime | None, after: datetime) -> Iterator[datetime]:
    if not seconds or seconds < SHORTEST_EVERY:
        raise BadRule(f"The shortest interval is {SHORTEST_EVERY} seconds.")
    if first is None:
        raise BadRule("An interval is counted from a time: say when it starts.")
    return _steps(first.astimezone(UTC), timedelta(seconds=seconds), after)


def _steps(first: datetime, step: timedelta, after: datetime) -> Iterator[datetime]:
    count = max(0, (after - first) // step + 1)
    while True:
        yield first + step * count
        count += 1


def _single(at: datetime | None, after: datetime) -> Iterator[datetime]:
    if at is None:
        raise BadRule("Say when it fires.")
    return iter([at.astimezone(UTC)] if at > after else [])


# --- cron -------------------------------------------------------------------------------


class _Cron:
    """
    A readable cron rule in a zone.

    cronsim reads the fields and knows which days match; the times are found here, since its own walk misses
    times around changes of half an hour, at midnight, and of two times in one gap.
    """

    def __init__(self, text: str, tz: ZoneInfo) -> None:
        if len(text.split()) != 5:
            raise BadRule("A cron rule has five fields: minute, hour, day of month, month, day of week.")
        try:
            self.fields = CronSim(text, datetime(2024, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise BadRule(f"This cron rule cannot be read: {error}. Example: 0 6 * * 1 is Monday 06:00.") from None
        self.tz = tz

    def instants(self, after: datetime) -> Iterator[datetime]:
        """Yield the instants after a given one, in UTC, each later than the one before."""
        every_hour = len(self.fields.hours) == 24
        return self._by_the_clock(after) if every_hour else self._by_named_times(after)

    def _by_named_times(self, after: datetime) -> Iterator[datetime]:
        times = [time(hour, minute) for hour in sorted(self.fields.hours) for minute in sorted(self.fields.minutes)]
        last, day = after, after.astimezone(self.tz).date() - DAY
        while matching := self._next_day(day):
            for named in times:
                instant = self._at(matching, named)
                if instant > last:
                    yield instant
                    last = instant
            day = matching

    def _by_the_clock(self, after: datetime) -> Iterator[datetime]:
        at: datetime | None = after.astimezone(UTC).replace(second=0, microsecond=0) + MINUTE
        while at:
            local = at.astimezone(self.tz)
            if not self._is_day(local.date()):
                at = self._skip_to_day(at, local)
            elif local.minute not in self.fields.minutes:
                at = self._skip_to_minute(at, local)
            else:
                yield at
                at += MINUTE

    def _skip_to_minute(self, at: datetime, local: datetime) -> datetime:
        wait = timedelta(minutes=min((minute - local.minute) % 60 for minute in self.fields.minutes))
        return at + MINUTE if self._changes(at, at + wait) else at + wait

    def _skip_to_day(self, at: datetime, local: datetime) -> datetime | None:
        matching = self._next_day(local.date())
        if matching is None or self._changes(at, at + LONGEST_STEP_BACK):
            return matching and at + MINUTE  # soon it may be yesterday again
        return max(at + MINUTE, self._at(matching, time()))

    def _changes(self, since: datetime, until: datetime) -> bool:
        return since.astimezone(self.tz).utcoffset() != until.astimezone(self.tz).utcoffset()

    def _at(self, day: date, named: time) -> datetime:
        """The instant of a local time: the first of two, or the end of the gap that skips it."""
        local = datetime.combine(day, named, self.tz)
        instant = local.astimezone(UTC)
        if instant.astimezone(self.tz).replace(tzinfo=None) == local.replace(tzinfo=None):
            return instant
        return self._end_of_gap(local)

    def _end_of_gap(self, local: datetime) -> datetime:
        # With fold 1 the offset after the change counts, which puts a skipped time before the change.
        before, after = local.replace(fold=1).astimezone(UTC), local.astimezone(UTC)
        offset = before.astimezone(self.tz).utcoffset()
        while after - before > MINUTE:
            middle = before + (after - before) // 2 // MINUTE * MINUTE
            unchanged = middle.astimezone(self.tz).utcoffset() == offset
            before, after = (middle, after) if unchanged else (before, middle)
        return after

    def _is_day(self, day: date) -> bool:
        return day.month in self.fields.months and self.fields.match_day(day)

    def _next_day(self, day: date) -> date | None:
        """The first matching day after a given one."""
        last = day.year + YEARS_AHEAD
        while (day := self._later(day)).year <= last:
            if self._is_day(day):
                return day
        return None

    def _later(self, day: date) -> date:
        day += DAY
        return day if day.month in self.fields.months else (day.replace(day=1) + 31 * DAY).replace(day=1)
