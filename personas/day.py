"""The next 24 hours of a team's schedules, laid out on one line of time. Pure arithmetic, no rows are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from personas.models import Schedule

DAY = timedelta(hours=24)
MOST_LANES = 4  # what the drawing has room for
MOST_DOTS = 48  # a lane with more is drawn as a band
LANE_HEIGHT = 12
MOST_COUNTED = 1440


@dataclass(frozen=True, slots=True)
class Lane:
    """One schedule: where it fires, in percent of the day; `is_band` when the dots would run together."""

    schedule: Schedule
    colour: int
    y: int
    dots: list[float]
    is_band: bool
    count: int

    @property
    def width(self) -> float:
        """How long the band is, in percent."""
        return round(self.dots[-1] - self.dots[0], 2)


@dataclass(frozen=True, slots=True)
class Day:
    """The drawing: lanes, ticks on the hour, and labels as (percent, text, anchor)."""

    lanes: list[Lane]
    more: int
    ticks: list[float]
    labels: list[tuple[float, str, str]]
    total: int

    @property
    def sentence(self) -> str:
        """What the drawing shows, for those who do not see it."""
        said = [f"{lane.schedule.flow.name} {_times(lane.count)}" for lane in self.lanes]
        return f"Next 24 hours: {', '.join(said)}{f', and {self.more} more flows' if self.more else ''}."


def lay_out(schedules: Sequence[Schedule], now: datetime, zone: ZoneInfo) -> Day:
    """Lay out the active schedules that fire within 24 hours, the soonest first."""
    lanes = [_lane(place, schedule, now) for place, schedule in enumerate(schedules[:MOST_LANES])]
    total = sum(lane.count for lane in lanes)
    return Day(lanes, len(schedules[MOST_LANES:]), _hours(now), _labels(now, zone), total)


def _lane(place: int, schedule: Schedule, now: datetime) -> Lane:
    later = schedule.rule.instants(schedule.next_at)
    instants = [schedule.next_at, *takewhile(lambda instant: instant < now + DAY, later)][:MOST_COUNTED]
    dots = [_percent(instant, now) for instant in instants]
    is_band = len(dots) > MOST_DOTS
    y = 8 + place * LANE_HEIGHT
    return Lane(schedule, place % 8 + 1, y, [dots[0], dots[-1]] if is_band else dots, is_band, len(dots))


def _percent(instant: datetime, now: datetime) -> float:
    return round(min(100.0, max(0.0, (instant - now) / DAY * 100)), 2)


def _hours(now: datetime) -> list[float]:
    first = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return [_percent(first + timedelta(hours=hour), now) for hour in range(24)]


def _labels(now: datetime, zone: ZoneInfo) -> list[tuple[float, str, str]]:
    quarters = [(25.0, "middle"), (50.0, "middle"), (75.0, "middle"), (100.0, "end")]
    later = [(x, (now + DAY * x / 100).astimezone(zone).strftime("%H:%M"), anchor) for x, anchor in quarters]
    return [(0.0, f"Now {now.astimezone(zone):%H:%M}", "start"), *later]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
