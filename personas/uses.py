"""Where a persona is used: what stops when it stops."""

from dataclasses import dataclass

from django.db.models import Q, QuerySet

from accounts.models import Team
from integrations.models import Connection
from personas.models import Flow, Persona, Run, Schedule, StageRun
from personas.queries import granted_connections
from personas.stages import work_of

MOST_RUNS = 50


@dataclass(frozen=True, slots=True)
class FlowUse:
    """A flow and the names of its stages that a persona works on."""

    flow: Flow
    stages: list[str]


@dataclass(frozen=True, slots=True)
class Uses:
    """Everything that stops when a persona stops."""

    flows: list[FlowUse]
    schedules: list[Schedule]
    runs: list[Run]
    chats: int
    grants: list[tuple[Connection, set[str]]]

    @property
    def active_schedules(self) -> list[Schedule]:
        return [schedule for schedule in self.schedules if schedule.paused_at is None]

    @property
    def any(self) -> bool:
        return bool(self.flows or self.runs or self.chats or self.grants)


def uses_of(*, team: Team, persona: Persona) -> Uses:
    """Return where a persona is used: flows that are not archived, their schedules, waiting runs, chats, grants."""
    work = {"persona": str(persona.pk)}
    named = Q(version__stages__contains=[work]) | Q(version__stages__contains=[{"do": work}])
    flows = team.flows.filter(named, archived_at=None).select_related("version")
    used = [FlowUse(flow, _stages_of(flow, persona)) for flow in flows.order_by("name")]
    schedules = team.schedules.filter(flow__in=[use.flow.pk for use in used]).select_related("flow")
    waiting = Run.objects.unfinished().outside_chats().filter(team=team, pk__in=_running_stages(team, persona))
    waiting = waiting.select_related("flow", "approval").order_by("-id")
    lent = [(row, tools) for row, tools in granted_connections(team=team, persona=persona) if tools]
    chats = team.chats.live().filter(persona=persona).count()
    return Uses(used, list(schedules.order_by("next_at")), list(waiting[:MOST_RUNS]), chats, lent)


def _stages_of(flow: Flow, persona: Persona) -> list[str]:
    return [stage["name"] for stage in flow.version.stages if work_of(stage).get("persona") == str(persona.pk)]


def _running_stages(team: Team, persona: Persona) -> QuerySet[StageRun]:
    return StageRun.objects.filter(team=team, persona=persona, run__state__in=Run.UNFINISHED).values("run")
