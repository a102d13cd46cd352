"""
How far a team's platform credits reach: held against what its schedules will take, as the last 30 days went.

What members start by hand and what chats take is not foreseen, so the day may come earlier than is said here.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import islice, takewhile

from django.db import transaction

from accounts.models import Team
from accounts.queries import account_of_month
from audit.clock import app_now
from integrations.sweeping import one_by_one
from personas import month
from personas.models import Notice, Schedule
from personas.noticing import end_notices, open_notice
from personas.schedule_queries import active_schedules, usual_costs

NAMED = 3  # flows that go without, named in a notice
KIND = Notice.Kind.CREDITS

Firing = tuple[datetime, str, int]  # when, which flow, and what it takes in platform credits


@dataclass(frozen=True, slots=True)
class End:
    """When credits end, and the flows that are the first without."""

    at: datetime
    flows: list[str]


def watch() -> None:
    """Open a notice for each team whose credits end before the month does, and end those that are over."""
    wanting = Team.objects.filter(schedules__in=Schedule.objects.active()).distinct()
    told = Notice.objects.filter(kind=KIND, over_at=None).values("team")
    one_by_one(list(wanting.union(Team.objects.filter(pk__in=told))), look_at)


@transaction.atomic
def look_at(team: Team) -> None:
    """Tell a team, once, when its credits will end before they come again; and when that is over."""
    now = app_now()
    left = account_of_month(team=team, month=now.date().replace(day=1)).left
    until = _next_month(now)
    end = end_of(left, firings_of(team, now, until))
    about = f"team:{team.pk}"
    if end is None:
        end_notices(team_id=team.pk, kind=KIND, about=[about])
    elif not team.notices.filter(kind=KIND, about=about, over_at=None).exists():
        open_notice(team_id=team.pk, kind=KIND, about=about, name=team.name, text=_words(left, end, until))


def end_of(left: int, firings: Iterable[Firing]) -> End | None:
    """The first of these firings, in order of time, that so many credits do not reach; None when they reach all."""
    without: dict[str, datetime] = {}
    for at, flow, credits in firings:
        left -= credits
        if left < 0 and credits:
            without.setdefault(flow, at)
        if len(without) == NAMED:
            break
    return End(min(without.values()), list(without)) if without else None


def firings_of(team: Team, now: datetime, until: datetime) -> Iterator[Firing]:
    """What the active schedules of a team will start before a time, with what a run of each usually takes."""
    schedules = active_schedules(team=team)
    costs = usual_costs(team=team, flows={schedule.flow_id for schedule in schedules})
    known = [(schedule, costs[schedule.flow_id].credits) for schedule in schedules if schedule.flow_id in costs]
    return heapq.merge(*(_of(schedule, credits or 0, now, until) for schedule, credits in known))


def _of(schedule: Schedule, credits: int, now: datetime, until: datetime) -> Iterator[Firing]:
    times = takewhile(lambda at: at < until, islice(month.times_of(schedule, now), month.MOST_OF_SCHEDULE))
    return ((at, schedule.flow.name, credits) for at in times)


def _next_month(now: datetime) -> datetime:
    first = (now.date().replace(day=1) + timedelta(days=32)).replace(day=1)
    return now.replace(year=first.year, month=first.month, day=1, hour=0, minute=0, second=0, microsecond=0)


def _words(left: int, end: End, until: datetime) -> str:
    again: date = until.date()
    return (
        f"{left:,} are left this month. As the last 30 days went, they end on {end.at:%Y-%m-%d at %H:%M} UTC; the first"
        f" without: {', '.join(end.flows)}. New ones come on {again:%Y-%m-%d}. Add a pack, or pause what can wait."
    )
