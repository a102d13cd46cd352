from datetime import UTC, datetime
from itertools import pairwise

import pytest

from personas.timing import BadRule, in_words, next_instant, next_instants

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_the_next_instant_is_in_utc():
    assert next_instant("0 6 * * 1", "Europe/Berlin", NOW) == datetime(2026, 11, 23, 5, tzinfo=UTC)


def test_a_skipped_local_time_fires_once_at_the_end_of_the_gap():
    before = datetime(2026, 3, 28, 12, tzinfo=UTC)
    assert next_instants("30 2 * * *", "Europe/Berlin", before, 2) == [
        datetime(2026, 3, 29, 1, tzinfo=UTC),
        datetime(2026, 3, 30, 0, 30, tzinfo=UTC),
    ]


def test_a_doubled_local_time_fires_once():
    before = datetime(2026, 10, 24, 12, tzinfo=UTC)
    found = next_instants("30 2 * * *", "Europe/Berlin", before, 2)
    assert found == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 26, 1, 30, tzinfo=UTC)]


def test_an_hourly_rule_keeps_an_even_pace_over_a_clock_change():
    before = datetime(2026, 10, 24, 22, 30, tzinfo=UTC)
    found = next_instants("0 * * * *", "Europe/Berlin", before, 6)
    assert {later - sooner for sooner, later in pairwise(found)} == {found[1] - found[0]}
    assert (found[1] - found[0]).total_seconds() == 3600


@pytest.mark.requirement("IN-9")
@pytest.mark.parametrize("cron", ["0 0 30 2 *", "61 * * * *", "a b c d e", "* * * *", "* * * * * *", ""])
def test_a_rule_that_never_fires_or_cannot_be_read_is_refused(cron):
    with pytest.raises(BadRule):
        next_instant(cron, "UTC", NOW)


@pytest.mark.requirement("IN-9")
@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "europe/berlin"])
def test_a_zone_that_does_not_exist_is_refused(zone):
    with pytest.raises(BadRule, match="is not a time zone"):
        next_instant("* * * * *", zone, NOW)


def test_a_rule_is_said_in_words():
    assert in_words("0 6 * * 1") == "At 06:00 on Monday"
