from datetime import UTC, datetime, timedelta

import pytest

from personas.due import MOST_CAUGHT_UP, MOST_WAITING, Upcoming, due_times, fires_at, outcomes
from personas.models import Firing, Schedule

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
STARTED, QUEUED, REPLACED, OVERLAP, MISSED, PAUSED = (
    Firing.Outcome[name] for name in ("STARTED", "QUEUED", "REPLACED", "OVERLAP", "MISSED", "PAUSED")
)


def hourly(**more) -> Schedule:
    return Schedule(**{"cron": "0 * * * *", "zone": "UTC", "next_at": NINE, "nominal_at": NINE} | more)


def become(schedule: Schedule, now: datetime, *, busy: int = 0, paused: bool = False) -> list[Firing.Outcome]:
    return outcomes(schedule, due_times(schedule, now, Upcoming()), now, busy=busy, paused=paused)


@pytest.mark.requirement("SCH-3")
@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ({"catch_up": "skip"}, [MISSED] * 4),
        ({"catch_up": "latest"}, [MISSED, MISSED, MISSED, STARTED]),
        ({"catch_up": "all"}, [STARTED] * 4),
        ({"catch_up": "window", "catch_up_seconds": 7200}, [MISSED, MISSED, STARTED, STARTED]),
        ({"catch_up": "window", "catch_up_seconds": None}, [MISSED] * 4),
    ],
)
def test_of_an_absence_the_rule_for_missed_times_decides(catch_up, expected):
    assert become(hourly(overlap="allow", **catch_up), NINE + timedelta(hours=3, minutes=30)) == expected


@pytest.mark.requirement("SCH-3", "SCH-12")
def test_of_a_long_absence_the_latest_times_are_looked_at_and_no_more():
    now = NINE + timedelta(days=400, minutes=1)
    for schedule in (hourly(), Schedule(kind="every", every_seconds=10, starts_at=NINE, zone="UTC", next_at=NINE)):
        times = due_times(schedule, now, Upcoming())
        assert len(times) == MOST_CAUGHT_UP
        assert now - times[-1] < timedelta(hours=1)


@pytest.mark.requirement("SCH-4")
@pytest.mark.parametrize(
    ("overlap", "busy", "expected"),
    [
        ("skip", 0, STARTED),
        ("skip", 1, OVERLAP),
        ("allow", 1, STARTED),
        ("queue", 0, STARTED),
        ("queue", 1, QUEUED),
        ("queue", MOST_WAITING + 1, OVERLAP),
        ("replace", 0, STARTED),
        ("replace", 2, REPLACED),
    ],
)
def test_a_time_that_comes_while_runs_are_going(overlap, busy, expected):
    assert become(hourly(overlap=overlap), NINE + timedelta(seconds=1), busy=busy) == [expected]


def test_times_that_come_together_meet_each_other():
    now = NINE + timedelta(hours=2, minutes=1)
    assert become(hourly(catch_up="all", overlap="skip"), now) == [STARTED, OVERLAP, OVERLAP]
    assert become(hourly(catch_up="all", overlap="queue"), now) == [STARTED, QUEUED, QUEUED]
    assert become(hourly(catch_up="all", overlap="replace"), now) == [MISSED, MISSED, STARTED]


@pytest.mark.requirement("SCH-10")
def test_jitter_delays_a_time_and_does_not_make_it_late():
    schedule = hourly(jitter_seconds=3600, catch_up="skip")
    at = fires_at(schedule, NINE)
    assert NINE <= at < NINE + timedelta(hours=1)
    assert become(schedule, at + timedelta(seconds=1))[0] == STARTED
    assert due_times(schedule, at + timedelta(seconds=1), Upcoming())[0] == NINE


def test_times_of_a_pause_are_skipped_and_those_after_it_are_not():
    schedule = hourly(paused_until=NINE + timedelta(hours=2), catch_up="all", overlap="allow")
    now = NINE + timedelta(hours=2, seconds=5)
    assert become(schedule, now) == [PAUSED, PAUSED, STARTED]
    assert become(schedule, now, paused=True) == [PAUSED] * 3
