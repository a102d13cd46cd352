"""Reads for the pages of schedules."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from statistics import median
from uuid import UUID

from django.db.models import Sum

from accounts.models import Team
from audit.clock import AppNow
from integrations.models import Call
from personas.models import Firing, Run, Schedule
from personas.month import Cost
from personas.queries import PAGE, Page, stages_of

HISTORY = timedelta(days=30)
NEWEST = 2_000  # runs of a team that its usual costs are taken from


def active_schedules(*, team: Team) -> list[Schedule]:
    """Return a team's schedules that are switched on, the soonest first."""
    return list(team.schedules.active().select_related("flow").order_by("next_at"))


def firing_page(*, schedule: Schedule, after: str = "") -> Page:
    """Return a page of what became of a schedule's times, the latest first. `after`: the id of the last one shown."""
    found = Firing.objects.filter(team_id=schedule.team_id, schedule=schedule).order_by("-nominal_at")
    if place := _nominal(found, after):
        found = found.filter(nominal_at__lt=place)
    rows = list(found.select_related("run", "run__approval").prefetch_related(stages_of("run__stages"))[: PAGE + 1])
    return Page(rows[:PAGE], str(rows[PAGE - 1].pk) if len(rows) > PAGE else "")


def _nominal(found, after: str):
    try:
        return found.filter(pk=UUID(after)).values_list("nominal_at", flat=True).first()
    except ValueError:
        return None


def usual_costs(*, team: Team, flows: Iterable[UUID]) -> dict[UUID, Cost]:
    """Return what a run of each flow usually takes: the middle of its runs that succeeded in the last 30 days."""
    since = AppNow() - HISTORY
    done = Run.objects.filter(team=team, flow__in=set(flows), state=Run.State.SUCCEEDED, queued_at__gte=since)
    done = done.exclude(trigger=Run.Trigger.TRIAL)
    of = dict(done.order_by("-id").values_list("pk", "flow")[:NEWEST])
    sums = Call.objects.filter(team=team, run_id__in=of).order_by().values_list("run_id")
    spent = {
        run: (credits or 0, usd or Decimal(0)) for run, credits, usd in sums.annotate(Sum("credits"), Sum("cost_usd"))
    }
    taken: dict[UUID, list[tuple[int, Decimal]]] = defaultdict(list)
    for run, flow in of.items():
        taken[flow].append(spent.get(run, (0, Decimal(0))))
    return {flow: _middle(each) for flow, each in taken.items()}


def _middle(taken: list[tuple[int, Decimal]]) -> Cost:
    credits, usd = zip(*taken, strict=True)
    return Cost(round(median(credits)), median(usd))
