"""Which times of a schedule have come, and what becomes of each. No rows are read or written here."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile

from personas import timing
from personas.models import Firing, Schedule

ON_TIME = timedelta(seconds=60)  # a firing started within this of its nominal time was not missed
LONGEST_JITTER = timedelta(hours=1)
MOST_CAUGHT_UP = 100  # the rest of a longer absence is neither run nor written down, whatever the rule says
MOST_WAITING = 10  # runs of one schedule that wait for the one before; further times are skipped

Outcome = Firing.Outcome


@dataclass(slots=True)
class Upcoming:
    """
    The time that follows another one of a rule, computed once however many schedules share both.

    One for each look at what is due.
    """

    known: dict[tuple[timing.Rule, datetime], datetime] = field(default_factory=dict)

    def after(self, rule: timing.Rule, last: datetime) -> datetime:
        """Raises Over when there is none."""
        key = rule, last
        if key not in self.known:
            self.known[key] = rule.next(last)
        return self.known[key]


def fires_at(schedule: Schedule, nominal: datetime) -> datetime:
    """When a schedule fires for a time of its rule: up to its jitter later."""
    return nominal + timing.jitter(schedule.pk, nominal, schedule.jitter_seconds)


def due_times(schedule: Schedule, now: datetime, upcoming: Upcoming) -> list[datetime]:
    """The nominal times from the next one up to now; of a long absence, the latest ones. Never none if it is due."""
    times = takewhile(lambda nominal: fires_at(schedule, nominal) <= now, _from_the_next(schedule, now, upcoming))
    return list(deque(times, maxlen=MOST_CAUGHT_UP)) or [schedule.nominal_at or schedule.next_at]


def _from_the_next(schedule: Schedule, now: datetime, upcoming: Upcoming) -> Iterator[datetime]:
    rule, nominal = schedule.rule, schedule.nominal_at or schedule.next_at
    yield nominal
    if rule.kind == timing.EVERY:  # no need to count through a long absence
        nominal = max(
            nominal, now - timedelta(seconds=(rule.every_seconds or 0) * (MOST_CAUGHT_UP + 1)) - LONGEST_JITTER
        )
    while True:
        try:
            nominal = upcoming.after(rule, nominal)
        except timing.Over:
            return
        yield nominal


def outcomes(schedule: Schedule, times: list[datetime], now: datetime, *, busy: int, paused: bool) -> list[Outcome]:
    """
    What becomes of each nominal time. `busy`: how many runs of this schedule are not over.

    `paused`: its team paused all schedules.
    """
    found = []
    for nominal in times:
        outcome = _outcome(schedule, nominal, nominal == times[-1], now, busy, paused)
        busy = _busy_after(outcome, busy)
        found.append(outcome)
    return found


def _outcome(schedule: Schedule, nominal: datetime, is_last: bool, now: datetime, busy: int, paused: bool) -> Outcome:
    if paused or (schedule.paused_until and nominal < schedule.paused_until):
        return Outcome.PAUSED
    if _is_dropped(schedule, nominal, is_last, now):
        return Outcome.MISSED
    return _beside(schedule, busy) if busy else Outcome.STARTED


def _is_dropped(schedule: Schedule, nominal: datetime, is_last: bool, now: datetime) -> bool:
    if schedule.overlap == Schedule.Overlap.REPLACE and not is_last:
        return True  # the next one would put itself in its place at once
    late = now - fires_at(schedule, nominal)
    match schedule.catch_up:
        case Schedule.CatchUp.ALL:
            return False
        case Schedule.CatchUp.LATEST:
            return not is_last
        case Schedule.CatchUp.WINDOW:
            return late > max(ON_TIME, timedelta(seconds=schedule.catch_up_seconds or 0))
        case _:
            return late > ON_TIME


def _beside(schedule: Schedule, busy: int) -> Outcome:
    """What becomes of a time that comes while runs of the schedule are not over."""
    match schedule.overlap:
        case Schedule.Overlap.ALLOW:
            return Outcome.STARTED
        case Schedule.Overlap.REPLACE:
            return Outcome.REPLACED
        case Schedule.Overlap.QUEUE if busy <= MOST_WAITING:
            return Outcome.QUEUED
        case _:
            return Outcome.OVERLAP


def _busy_after(outcome: Outcome, busy: int) -> int:
    if outcome == Outcome.REPLACED:
        return 1
    return busy + (outcome in (Outcome.STARTED, Outcome.QUEUED))
