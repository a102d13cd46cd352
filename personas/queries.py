"""Reads shared by pages: personas with what happened last, runs with their attempts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import F, Prefetch, Q, QuerySet, Sum
from django.db.models.functions import Coalesce

from accounts.models import Membership, Team
from audit.clock import AppNow
from integrations.models import Approval, Call, Connection
from integrations.scopes import allowed_tools
from personas import chains
from personas.models import Flow, Persona, Run, Schedule, StageRun
from personas.stages import work_of
from vault.models import Grant

PAGE = 50
GAVE_UP = "gave_up"  # in the place of a state: runs that ended after attempts without progress
SPEND_DAYS = 30


@dataclass(frozen=True, slots=True)
class PersonaRow:
    """One line of the persona list."""

    persona: Persona
    tools: int
    last: StageRun | None
    schedule: Schedule | None
    spend_usd: Decimal


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows and the cursor of the next ones, empty at the end."""

    rows: list
    after: str


def persona_page(*, team: Team, search: str = "", after: str = "", archived: bool = False) -> Page:
    """Return a page of a team's personas by name, each with its tools, last stage, next firing and spend."""
    found = team.personas.filter(archived_at__isnull=not archived, slug__gt=after)
    found = found.select_related("version", "draft").order_by("slug")
    if search:
        found = found.filter(Q(name__icontains=search) | Q(purpose__icontains=search))
    personas = list(found[: PAGE + 1])
    rows = _persona_rows(team, personas[:PAGE])
    return Page(rows, personas[PAGE - 1].slug if len(personas) > PAGE else "")


def _persona_rows(team: Team, personas: list[Persona]) -> list[PersonaRow]:
    ids = [persona.pk for persona in personas]
    tools, last, next_up, spend = (
        _tools(team, ids),
        _last_stages(team, ids),
        schedules_by_persona(team=team),
        _spend(team),
    )
    return [
        PersonaRow(
            persona,
            len(tools.get(persona.pk, ())),
            last.get(persona.pk),
            next(iter(next_up.get(persona.pk, ())), None),
            spend.get(persona.pk, Decimal(0)),
        )
        for persona in personas
    ]


def _tools(team: Team, holders: Iterable[UUID]) -> dict[UUID, set[str]]:
    allowed: dict[UUID, set[str]] = {}
    for grant in Grant.objects.live().filter(team=team, holder__in=holders):
        allowed.setdefault(grant.holder, set()).update(allowed_tools(grant.scopes))
    return allowed


def _last_stages(team: Team, personas: Iterable[UUID]) -> dict[UUID, StageRun]:
    """The newest stage that each persona worked on or is to work on, with its run."""
    waits = Q(state=StageRun.State.WAITING, run__state__in=Run.UNFINISHED)
    newest = StageRun.objects.filter(Q(started_at__isnull=False) | waits, team=team, persona__in=personas)
    newest = newest.filter(run__chat=None).order_by("persona", Coalesce("started_at", "run__queued_at").desc())
    newest = newest.distinct("persona").select_related("run")
    return {stage.persona_id: stage for stage in newest}


def schedules_by_persona(*, team: Team) -> Mapping[UUID, list[Schedule]]:
    """Return each persona's active schedules, the soonest first: those of flows with a stage of its."""
    found: dict[UUID, list[Schedule]] = {}
    for schedule in team.schedules.active().select_related("flow__version").order_by("next_at"):
        named = {work_of(stage).get("persona") for stage in schedule.flow.version.stages}
        for persona in filter(None, named):
            found.setdefault(UUID(persona), []).append(schedule)
    return found


def _spend(team: Team) -> dict[UUID, Decimal]:
    since = AppNow() - timedelta(days=SPEND_DAYS)
    calls = Call.objects.filter(team=team, started_at__gte=since, cost_usd__isnull=False)
    sums = calls.order_by().values_list("persona_id").annotate(sum=Sum("cost_usd"))
    return dict(sums)


def granted_connections(*, team: Team, persona: Persona) -> list[tuple[Connection, set[str]]]:
    """Return the live connections of a team, each with the tools this persona may use of it."""
    grants = Grant.objects.live().filter(team=team, holder=persona.pk)
    allowed = {grant.connection: allowed_tools(grant.scopes) for grant in grants}
    return [(row, allowed.get(row.pk, set())) for row in team.connections.live().order_by("created_at")]


def runs(*, team: Team, state: str = "", flow: str = "", persona: str = "") -> QuerySet[Run]:
    """Return a team's runs, newest first, by state or GAVE_UP, flow slug or persona slug."""
    found = Run.objects.outside_chats().filter(team=team).select_related("flow", "user", "approval").order_by("-id")
    if state in Run.State.values:
        found = found.filter(state=state)
    if state == GAVE_UP:
        found = found.filter(gave_up=True)
    if flow:
        found = found.filter(flow__slug=flow)
    if persona:
        found = found.filter(pk__in=StageRun.objects.filter(team=team, persona__slug=persona).values("run"))
    return found


def stages_of(path: str) -> Prefetch:
    """Return what brings the stages of runs along, without the items of their lists: there may be thousands."""
    return Prefetch(path, StageRun.objects.filter(item=0))


def run_page(*, team: Team, after: UUID | None = None, **filters: str) -> Page:
    """Return a page of a team's runs, newest first, each with its stages as `stage_list`."""
    found = runs(team=team, **filters).prefetch_related(stages_of("stages"))
    if after:
        found = found.filter(pk__lt=after)
    rows = list(found[: PAGE + 1])
    return Page(rows[:PAGE], str(rows[PAGE - 1].pk) if len(rows) > PAGE else "")


def calls_of(*, run: Run) -> list[Call]:
    """Return every call of a run, in order."""
    return list(Call.objects.filter(team_id=run.team_id, run_id=run.pk).order_by("started_at", "id"))


def usual_duration(*, run: Run) -> timedelta | None:
    """Return how long the flow's last runs took, the middle one of up to nine; None without any."""
    if run.flow_id is None:
        return None
    done = Run.objects.filter(team_id=run.team_id, flow_id=run.flow_id, state=Run.State.SUCCEEDED)
    done = done.exclude(trigger=Run.Trigger.TRIAL)
    times = done.order_by("-id").values_list("started_at", "finished_at")[:9]
    taken = sorted(end - start for start, end in times if start and end)
    return taken[len(taken) // 2] if taken else None


def next_day(*, team: Team, now: datetime) -> list[Schedule]:
    """Return the schedules that fire within the next 24 hours, the soonest first."""
    soon = team.schedules.active().filter(next_at__lt=now + timedelta(hours=24))
    return list(soon.select_related("flow").order_by("next_at"))


@dataclass(frozen=True, slots=True)
class FlowRow:
    """One line of the flow list: with the schedule that fires soonest."""

    flow: Flow
    schedule: Schedule | None
    last: Run | None


def flow_page(*, team: Team, after: str = "") -> Page:
    """Return a page of a team's flows by name, each with its schedule and last run."""
    found = team.flows.filter(archived_at=None, slug__gt=after).select_related("version", "draft").order_by("slug")
    flows = list(found[: PAGE + 1])
    shown = flows[:PAGE]
    rows = team.schedules.filter(flow__in=shown).order_by(F("paused_at").desc(nulls_last=True), "-next_at")
    schedules = {row.flow_id: row for row in rows}  # of several the last: the soonest that is switched on
    newest = Run.objects.filter(team=team, flow__in=shown).exclude(trigger=Run.Trigger.TRIAL)
    newest = newest.order_by("flow", "-id").distinct("flow")
    last = {run.flow_id: run for run in newest.select_related("approval").prefetch_related(stages_of("stages"))}
    lines = [FlowRow(flow, schedules.get(flow.pk), last.get(flow.pk)) for flow in shown]
    return Page(lines, shown[-1].slug if len(flows) > PAGE else "")


def notice_page(*, team: Team, after: str = "") -> Page:
    """Return a page of a team's notices that are over, the newest first. `after`: the id of the last one shown."""
    found = team.notices.filter(over_at__isnull=False).select_related("run", "over_by").order_by("-id")
    if _is_uuid(after):
        found = found.filter(pk__lt=after)
    rows = list(found[: PAGE + 1])
    return Page(rows[:PAGE], str(rows[PAGE - 1].pk) if len(rows) > PAGE else "")


def _is_uuid(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False


# --- approvals --------------------------------------------------------------------------


def approval_page(*, team: Team, waiting: bool, after: UUID | None = None) -> Page:
    """Return a page of a team's approvals, those that wait or the others, the newest first."""
    found = team.approvals.select_related("connection", "decided_by").order_by("-asked_at", "-id")
    waits = Q(state=Approval.State.WAITING)
    found = found.filter(waits if waiting else ~waits)
    place = team.approvals.filter(pk=after).values_list("asked_at", flat=True).first() if after else None
    if place:
        found = found.filter(asked_at__lte=place).exclude(asked_at=place, pk__gte=after)
    rows = list(found[: PAGE + 1])
    return Page(rows[:PAGE], str(rows[PAGE - 1].pk) if len(rows) > PAGE else "")


def other_approvals(*, approval: Approval) -> list[Approval]:
    """Return what else the same stage asked, the newest first."""
    if approval.stage_id is None:
        return []
    same = Approval.objects.filter(team_id=approval.team_id, stage_id=approval.stage_id).exclude(pk=approval.pk)
    return list(same.select_related("decided_by").order_by("-asked_at")[:5])


def deciders(*, approval: Approval) -> list[str]:
    """Return the addresses of the members whom the grant names to decide; empty when it names none."""
    if not approval.approvers:
        return []
    named = Membership.objects.filter(team_id=approval.team_id, user__in=approval.approvers, user__is_active=True)
    return list(named.order_by("user__email").values_list("user__email", flat=True))


def models_in_use() -> set[str]:
    """Return the models that personas and flows of all teams name one by one: whose endpoints are worth reading."""
    of_personas = Persona.objects.live().exclude(version=None).values_list("version__chain", flat=True)
    of_flows = Flow.objects.filter(archived_at=None).exclude(version=None).values_list("version__stages", flat=True)
    of_stages = [
        chains.with_chain(work_of(stage)).get("chain", ()) for stages in of_flows.iterator() for stage in stages
    ]
    return {model for chain in (*of_personas.iterator(), *of_stages) for model in chains.named(chain)}


@dataclass(frozen=True, slots=True)
class Users:
    """The personas and flows of a team that name a model, and the personas that do not."""

    personas: list[Persona]
    flows: list[Flow]
    others: list[Persona]


def users_of_model(*, team: Team, model_id: str) -> Users:
    """Return who names a model, by what is published; a pattern such as openai/* names none."""
    personas = list(team.personas.live().select_related("version").order_by("name"))
    using = [each for each in personas if each.version and model_id in chains.named(each.version.chain)]
    flows = team.flows.filter(archived_at=None).exclude(version=None).select_related("version").order_by("name")
    return Users(
        using,
        [flow for flow in flows if any(model_id in _named_by(stage) for stage in flow.version.stages)],
        [each for each in personas if each not in using],
    )


def _named_by(stage: dict[str, Any]) -> list[str]:
    return chains.named(chains.with_chain(work_of(stage)).get("chain", ()))
