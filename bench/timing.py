"""
Next times of 20,000 random cron rules in all zones, against a reference that looks at every minute.

Most of the windows lie around a change of the zone's clocks, where rules go wrong. The reference shares no code
with `personas.timing`: it asks of each minute whether the rule fires then.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import takewhile
from zoneinfo import ZoneInfo

RULES, SEED = 20_000, 5
WINDOW = timedelta(days=3)
FIRST, LAST = datetime(2024, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
QUIET = 0.1  # of the windows lie anywhere
ASKED_ALONE = 8  # firings of each rule whose next one is asked for by itself


def run() -> dict:
    """Compare, print how it went, and return the figures."""
    began = time.perf_counter()
    cases, wrong, firings = list(random_cases(RULES, SEED)), 0, 0
    for case in cases:
        expected = case.expected()
        firings += len(expected)
        if case.found() != expected:
            wrong += 1
            print(f"differs: {case}")
    taken = round(time.perf_counter() - began, 1)
    print(f"{len(cases):,} rules in {len({case.zone for case in cases})} zones, {firings:,} firings, {taken} s")
    print(f"{wrong} differences (aim: 0); seed {SEED}")
    return {"name": "timing", "rules": len(cases), "firings": firings, "differences": wrong, "seconds": taken}


@dataclass(frozen=True, slots=True)
class Case:
    """One rule in one zone, watched for some days."""

    cron: str
    zone: str
    after: datetime

    def found(self) -> list[datetime]:
        """What the product computes; nothing if the one after another is not the same as the next of each."""
        from personas.timing import Rule

        rule = Rule(zone=self.zone, cron=self.cron)
        times = list(takewhile(lambda instant: instant <= self.after + WINDOW, rule.instants(self.after)))
        places = range(0, len(times) - 1, max(1, len(times) // ASKED_ALONE))
        follows = all(rule.next(times[place]) == times[place + 1] for place in places)
        return times if follows else []

    def expected(self) -> list[datetime]:
        """What the reference says."""
        minutes, hours, days, months, weekdays = (
            _values(*field) for field in zip(self.cron.split(), LIMITS, strict=True)
        )
        both = "*" in (self.cron.split()[2][0], self.cron.split()[4][0])

        def fires(local: datetime) -> bool:
            by_date, by_week = local.day in days, local.isoweekday() % 7 in weekdays
            is_day = (by_date and by_week) if both else (by_date or by_week)
            return is_day and local.month in months and local.hour in hours and local.minute in minutes

        every_hour = len(hours) == 24
        return [
            minute.at
            for minute in minutes_of(self.zone, self.after)
            if (fires(minute.local) and (every_hour or not minute.is_again))
            or (not every_hour and any(fires(local) for local in minute.skipped))
        ]


@dataclass(frozen=True, slots=True)
class Minute:
    """A minute, what the local clock shows then, whether it showed that before, and what it never showed."""

    at: datetime
    local: datetime
    is_again: bool
    skipped: list[datetime]


@lru_cache(maxsize=1)
def minutes_of(zone: str, after: datetime) -> list[Minute]:
    """Every whole minute of the window."""
    tz, found = ZoneInfo(zone), []
    at = after.replace(second=0, microsecond=0) + MINUTE
    before = (at - MINUTE).astimezone(tz).replace(tzinfo=None)
    while at <= after + WINDOW:
        aware = at.astimezone(tz)
        local = aware.replace(tzinfo=None)
        gap = (local - before) // MINUTE
        skipped = [before + MINUTE * count for count in range(1, gap)]
        found.append(Minute(at, local, bool(aware.fold), skipped))
        at, before = at + MINUTE, local
    return found


# --- random rules -----------------------------------------------------------------------

LIMITS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]


def _values(text: str, limits: tuple[int, int]) -> set[int]:
    """What a field allows: a number, a list, a range, a step, or all."""
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        first, last = limits if span == "*" else (int(low), int(high or low))
        found |= set(range(first, last + 1, int(step or 1)))
    return found


def random_cases(count: int, seed: int) -> Iterator[Case]:
    """Yield as many rules, each in a window of a zone; the same ones for a seed."""
    dice = random.Random(seed)
    windows = [_window(dice, zone) for zone in dice.sample(_zones(), min(len(_zones()), max(8, count // 20)))]
    for number in range(count):
        zone, after = windows[number * len(windows) // count]
        yield Case(_cron(dice), zone, after)


@cache
def _zones() -> list[str]:
    from accounts.zones import known_zones

    return sorted(known_zones())


def _window(dice: random.Random, zone: str) -> tuple[str, datetime]:
    changes = _changes(zone)
    if not changes or dice.random() < QUIET:
        return zone, FIRST + timedelta(seconds=dice.randrange(int((LAST - FIRST).total_seconds())))
    return zone, dice.choice(changes) - timedelta(seconds=dice.randrange(2 * 86_400))


@cache
def _changes(zone: str) -> list[datetime]:
    """About when the clocks of a zone change: to a day."""
    tz, day, found = ZoneInfo(zone), FIRST, []
    while day < LAST:
        if day.astimezone(tz).utcoffset() != (day + DAY).astimezone(tz).utcoffset():
            found.append(day + DAY)
        day += DAY
    return found


def _cron(dice: random.Random) -> str:
    return " ".join(_field(dice, low, high) for low, high in LIMITS)


def _field(dice: random.Random, low: int, high: int) -> str:
    any_number = dice.randint(low, high)
    few = sorted(dice.sample(range(low, high + 1), 3))
    night = f"{dice.randint(0, 1)}-{dice.randint(2, 4)}" if high in (59, 23) else "*"  # where clocks change
    steps = f"*/{dice.randint(2, max(2, high // 2))}"
    choices = [
        "*",
        str(any_number),
        ",".join(map(str, few)),
        f"{few[0]}-{few[2]}",
        night,
        steps,
        f"{few[0]}-{few[2]}/2",
    ]
    return dice.choices(choices, [6 if high < 59 else 1, 1 if high < 59 else 3, 2, 2, 4, 3, 1])[0]
