from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from bench.timing import random_cases
from personas.timing import BadRule, Rule, interval_in_words, jitter

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def cron(rule: str, zone: str = "UTC", **more) -> Rule:
    return Rule(zone=zone, cron=rule, **more)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_next_instant_is_in_utc():
    assert cron("0 6 * * 1", "Europe/Berlin").next(NOW) == utc("2026-11-23 05:00")


def test_an_hourly_rule_keeps_an_even_pace_over_a_clock_change():
    found = cron("0 * * * *", "Europe/Berlin").next_few(utc("2026-10-24 22:30"))
    assert {later - sooner for sooner, later in pairwise(found)} == {timedelta(hours=1)}


# Each zone's clocks, as its own law has it. A rule of the local times around the change fires at these times in UTC.
CHANGES = {
    "a gap of an hour: once at its end": (
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00"),
        ["2026-03-29 01:00", "2026-03-30 00:30"],
    ),
    "an hour that comes twice: the first": (
        ("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00"),
        ["2026-10-25 00:30", "2026-10-26 01:30"],
    ),
    "two times in one gap fire once": (
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-28 12:00"),
        ["2026-03-29 01:00", "2026-03-30 00:00", "2026-03-30 00:30"],
    ),
    "New York, a gap": (("15 2 8 3 *", "America/New_York", "2026-03-07 12:00"), ["2026-03-08 07:00"]),
    "New York, twice": (("15 1 1 11 *", "America/New_York", "2026-10-31 12:00"), ["2026-11-01 05:15"]),
    "Cairo, a gap at midnight": (("0 0 * * 5", "Africa/Cairo", "2026-04-23 12:00"), ["2026-04-23 22:00"]),
    "Cairo, midnight comes after a doubled hour": (
        ("0 0 * * *", "Africa/Cairo", "2026-10-29 12:00"),
        ["2026-10-29 22:00", "2026-10-30 22:00"],
    ),
    "Lord Howe, a gap of half an hour": (
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00"),
        ["2026-10-03 15:30", "2026-10-04 15:15"],
    ),
    "Lord Howe, every hour's start": (
        ("0 * * * *", "Australia/Lord_Howe", "2026-10-03 14:31"),
        ["2026-10-03 16:00", "2026-10-03 17:00"],
    ),
    "Apia, a day that never was": (
        ("0 9 * * *", "Pacific/Apia", "2011-12-29 12:00"),
        ["2011-12-29 19:00", "2011-12-30 10:00", "2011-12-30 19:00"],
    ),
    "Sao Paulo, which changes no more": (
        ("0 0 * * *", "America/Sao_Paulo", "2026-11-01 00:00"),
        ["2026-11-01 03:00", "2026-11-02 03:00"],
    ),
    "a last start within the doubled hour": (
        ("30 2,3 * * *", "Europe/Berlin", "2026-10-25 01:10"),
        ["2026-10-25 02:30", "2026-10-26 01:30"],
    ),
}


@pytest.mark.requirement("SCH-5", "SCH-6")
@pytest.mark.parametrize("name", CHANGES)
def test_clock_changes_of_real_zones(name):
    (rule, zone, after), expected = CHANGES[name]
    assert cron(rule, zone).next_few(utc(after), len(expected)) == [utc(each) for each in expected]


@pytest.mark.requirement("SCH-6")
def test_random_rules_in_random_zones_fire_when_a_look_at_every_minute_says_so():
    for case in random_cases(60, seed=11):
        assert case.found() == case.expected(), case


@pytest.mark.requirement("SCH-8")
def test_the_next_time_follows_the_last_one_whatever_the_zone_said_before():
    """Another zone stands for the same zone with newer rules: what has fired stays behind, and nothing is repeated."""
    fired = cron("30 2 * * *", "Europe/Berlin").next(NOW)
    changed = cron("30 2 * * *", "Africa/Cairo").next_few(fired, 3)
    assert all(later > fired for later in changed)
    assert changed[0] - fired == timedelta(hours=23)


@pytest.mark.requirement("IN-9")
@pytest.mark.parametrize(
    "rule", ["0 0 30 2 *", "0 * 30 2 *", "61 * * * *", "a b c d e", "* * * *", "* * * * * *", "", "@daily"]
)
def test_a_rule_that_never_fires_or_cannot_be_read_is_refused(rule):
    with pytest.raises(BadRule):
        cron(rule).next(NOW)


@pytest.mark.requirement("IN-9")
@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "europe/berlin"])
def test_a_zone_that_does_not_exist_is_refused(zone):
    with pytest.raises(BadRule, match="is not a time zone"):
        cron("* * * * *", zone).next(NOW)


def test_a_rule_is_said_in_words():
    assert cron("0 6 * * 1").in_words() == "At 06:00 on Monday"
    assert Rule(zone="UTC", kind="every", every_seconds=5400).in_words() == "Every 90 minutes"
    assert Rule(zone="Europe/Berlin", kind="once", starts_at=NOW).in_words() == "Once, 22 Nov 2026 13:00"
    assert [interval_in_words(seconds) for seconds in (60, 86_400, 7200, 45)] == [
        "minute",
        "day",
        "2 hours",
        "45 seconds",
    ]


def test_a_start_and_an_end_bound_a_rule_and_count_themselves():
    rule = cron("0 6 * * *", starts_at=utc("2026-11-24 06:00"), ends_at=utc("2026-11-25 06:00"))
    assert rule.next_few(NOW) == [utc("2026-11-24 06:00"), utc("2026-11-25 06:00")]
    with pytest.raises(BadRule, match="is over"):
        rule.next(utc("2026-11-25 06:00"))


def test_an_interval_is_counted_from_its_start_and_does_not_drift():
    rule = Rule(zone="UTC", kind="every", every_seconds=90, starts_at=utc("2026-11-22 11:00"))
    assert rule.next(NOW) == utc("2026-11-22 12:01:30")  # noon itself is not after noon
    assert rule.next(NOW + timedelta(days=400, seconds=1)) == NOW + timedelta(days=400, seconds=90)
    assert rule.next(utc("2026-11-01 00:00")) == utc("2026-11-22 11:00")


@pytest.mark.parametrize(
    "bad", [{"every_seconds": 9, "starts_at": NOW}, {"every_seconds": None, "starts_at": NOW}, {"every_seconds": 60}]
)
def test_an_interval_without_a_start_or_too_short_is_refused(bad):
    with pytest.raises(BadRule):
        Rule(zone="UTC", kind="every", **bad).next(NOW)


def test_what_fires_once_has_one_time():
    rule = Rule(zone="UTC", kind="once", starts_at=NOW)
    assert rule.next_few(NOW - timedelta(seconds=1)) == [NOW]
    with pytest.raises(BadRule, match="is over"):
        rule.next(NOW)
    with pytest.raises(BadRule, match="Say when"):
        Rule(zone="UTC", kind="once").next(NOW)


@pytest.mark.requirement("SCH-10")
def test_jitter_is_fixed_for_a_schedule_and_a_time_and_spreads_over_its_bound():
    one, other = UUID(int=1), UUID(int=2)
    assert jitter(one, NOW, 600) == jitter(one, NOW, 600) != jitter(other, NOW, 600)
    assert jitter(one, NOW, 0) == timedelta()
    spread = [jitter(one, NOW + timedelta(minutes=count), 600).total_seconds() for count in range(300)]
    assert 0 <= min(spread) < 60
    assert 540 < max(spread) < 600
