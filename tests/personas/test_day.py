from datetime import UTC, datetime
from types import SimpleNamespace
from zoneinfo import ZoneInfo

from personas.day import lay_out
from personas.timing import Rule

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def schedule(name, cron, next_at):
    return SimpleNamespace(flow=SimpleNamespace(name=name), rule=Rule(zone="UTC", cron=cron), next_at=next_at)


def test_dots_stand_where_the_schedule_fires():
    day = lay_out([schedule("Digest", "0 */6 * * *", datetime(2026, 11, 22, 18, tzinfo=UTC))], NOW, ZoneInfo("UTC"))
    assert day.lanes[0].dots == [25.0, 50.0, 75.0]
    assert day.total == 3


def test_many_firings_are_one_band():
    day = lay_out([schedule("Minute", "* * * * *", NOW)], NOW, ZoneInfo("UTC"))
    assert day.lanes[0].is_band
    assert (day.lanes[0].dots[0], day.lanes[0].count) == (0.0, 1440)


def test_flows_beyond_the_drawing_are_counted():
    many = [schedule(f"Flow {n}", "0 18 * * *", datetime(2026, 11, 22, 18, tzinfo=UTC)) for n in range(6)]
    assert lay_out(many, NOW, ZoneInfo("UTC")).more == 2


def test_labels_are_in_the_readers_zone():
    day = lay_out([], NOW, ZoneInfo("Europe/Berlin"))
    assert [text for _, text, _ in day.labels] == ["Now 13:00", "19:00", "01:00", "07:00", "13:00"]


def test_the_drawing_is_said_in_a_sentence():
    day = lay_out([schedule("Digest", "0 18 * * *", datetime(2026, 11, 22, 18, tzinfo=UTC))], NOW, ZoneInfo("UTC"))
    assert day.sentence == "Next 24 hours: Digest once."
