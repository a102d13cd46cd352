"""Making a run: its row, its stages, and a hint to a worker, in the caller's transaction."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from accounts.models import User
from audit.actions import Actor, Entry, record_all, store
from audit.bulk import insert_alike
from audit.clock import app_now
from audit.ids import uuid7
from audit.models import Content
from integrations.registry import InvalidArguments, Tool
from personas import estimates, fair, stages
from personas.models import Firing, Flow, FlowVersion, Persona, Run, Schedule, StageRun
from personas.queue import hint_later
from vault.content import open_content, seal_content

OF_A_FIRING = (  # what differs between runs that schedules start together
    *("id", "team_id", "flow_id", "flow_version_id", "firing_id", "waits_for_id", "inputs_id"),
    *("title", "user_id", "queued_at", "hinted_at", "place"),
)


def start_run(
    *,
    flow: Flow,
    user: User,
    version: FlowVersion | None = None,
    firing: Firing | None = None,
    trigger: str = Run.Trigger.MEMBER,
    inputs: Mapping[str, str] | None = None,
    caused_by: Run | None = None,
    waits_for: Run | None = None,
    again_of: Run | None = None,
    idempotency_key: str = "",
    rehearsal: bool = False,
) -> Run:
    """
    Queue one run of a version of a flow (the one in use, if none is named), acting with the rights of `user`.

    `inputs` are values of the inputs that the version declares; those not given have their defaults. A
    firing makes a schedule its trigger. The run begins when `waits_for` is over. Raises BadInput.
    """
    now = app_now()
    version = version or flow.version
    given = stages.given_inputs(version.inputs, inputs or {})
    run = Run.objects.create(
        team=flow.team,
        flow=flow,
        flow_version=version,
        firing=firing,
        trigger=Run.Trigger.SCHEDULE if firing else trigger,
        again_of=again_of,
        caused_by=caused_by,
        waits_for=waits_for,
        inputs_id=keep_inputs(flow, given, now),
        title=flow.name,
        user=user,
        idempotency_key=idempotency_key,
        rehearsal=rehearsal,
        estimate=estimates.of_flow(team=flow.team, version=version, inputs=given).as_json(),
        queued_at=now,
        hinted_at=now,
        place=fair.places([flow.team_id])[0],
    )
    StageRun.objects.bulk_create(_stage_row(run, position, spec) for position, spec in enumerate(version.stages))
    announce(run, user, "schedule" if firing else "user")
    return run


def keep_inputs(flow: Flow, values: dict[str, str], now: datetime) -> UUID | None:
    """Seal what a run is given: it may hold anything. None when its flow declares no inputs."""
    if not values:
        return None
    content = seal_content(
        team_id=flow.team_id, subject=flow.pk, kind="inputs", data=json.dumps(values).encode(), at=now
    )
    store(content)
    return content.id


def fired_run(*, firing: Firing) -> Run:
    """
    Return the run of a firing, not yet saved. Its schedule must be loaded, with flow, version, team and owner.

    Raises BadInput and Unreadable.
    """
    schedule = firing.schedule
    flow, version = schedule.flow, schedule.flow.version
    given = kept_inputs(schedule) if version.inputs else {}
    return Run(
        team=schedule.team,
        flow=flow,
        flow_version=version,
        firing=firing,
        trigger=Run.Trigger.SCHEDULE,
        inputs_id=keep_inputs(flow, stages.given_inputs(version.inputs, given), firing.fired_at),
        title=flow.name,
        user=schedule.owner,
        queued_at=firing.fired_at,
        hinted_at=firing.fired_at,
    )


def queue_fired(*, runs: Sequence[Run]) -> None:
    """
    Save such runs with their stages and events, in a few statements however many they are, and hint at them.

    They are estimated when a worker takes them up: nobody looks before, and it would take most of the time.
    Raises BadStage.
    """
    if not runs:
        return
    for run, place in zip(runs, fair.places(run.team_id for run in runs), strict=True):
        run.place = place
    insert_alike(runs[0], [{name: getattr(run, name) for name in OF_A_FIRING} for run in runs])
    _queue_stages(runs)
    record_all(_queued(run, run.user, "schedule") for run in runs)
    hint_later([run.pk for run in runs])


def _queue_stages(runs: Sequence[Run]) -> None:
    """Save the stages of runs, reading each version once."""
    versions = {run.flow_version_id: run.flow_version for run in runs}
    read = {
        pk: [stage_fields(position, spec) for position, spec in enumerate(of.stages)] for pk, of in versions.items()
    }
    rows = [
        stage | {"id": uuid7(), "team_id": run.team_id, "run_id": run.pk}
        for run in runs
        for stage in read[run.flow_version_id]
    ]
    insert_alike(StageRun(), rows)


def keep_estimate(run: Run) -> None:
    """Write down what a run of a flow may take, if nobody did when it was queued."""
    if run.flow_version_id and not run.estimate:
        estimate = estimates.of_flow(team=run.team, version=run.flow_version).as_json()
        Run.objects.filter(pk=run.pk).update(estimate=estimate)


def kept_inputs(schedule: Schedule) -> dict[str, str]:
    """Return what a schedule gives to its runs. Raises Unreadable."""
    if schedule.inputs_id is None:
        return {}
    content = Content.objects.get(pk=schedule.inputs_id, team_id=schedule.team_id)
    return json.loads(open_content(content=content))


def start_tool_run(
    *,
    persona: Persona,
    tool: Tool,
    arguments: dict[str, Any],
    user: User,
    idempotency_key: str,
    rehearsal: bool = False,
) -> Run:
    """Queue one tool as a run of a single stage. The arguments are sealed: they may hold a prompt."""
    now = app_now()
    run = Run.objects.create(
        team=persona.team,
        title=tool.title,
        user=user,
        idempotency_key=idempotency_key,
        rehearsal=rehearsal,
        estimate=_estimate(persona, tool, arguments),
        queued_at=now,
        hinted_at=now,
    )
    content = seal_content(
        team_id=persona.team_id, subject=persona.pk, kind="arguments", data=json.dumps(arguments).encode(), at=now
    )
    store(content)
    stage = _stage_row(run, 0, {"kind": "tool", "name": tool.name, "persona": str(persona.pk), "tool": tool.name})
    stage.input_content_id = content.id
    stage.save()
    announce(run, user, "user")
    return run


def _estimate(persona: Persona, tool: Tool, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        found = estimates.of_tool(team=persona.team, persona_id=persona.pk, tool=tool, arguments=arguments)
    except InvalidArguments:
        return {}  # the call itself refuses them, with its reasons
    return found.as_json()


def _stage_row(run: Run, position: int, spec: dict[str, Any]) -> StageRun:
    return StageRun(team=run.team, run=run, **stage_fields(position, spec))


def stage_fields(position: int, spec: dict[str, Any]) -> dict[str, Any]:
    """The columns of a stage's row that say what it does. Raises BadStage."""
    stage = stages.read_stage(spec)
    persona = getattr(stage, "persona", None)
    return {
        "position": position,
        "name": stage.name,
        "kind": stage.kind,
        "spec": spec,
        "persona_id": UUID(persona) if persona else None,
    }


def announce(run: Run, user: User, kind: str) -> None:
    """Write in the log that a run is queued, and hint at it. In the transaction that made it."""
    record_all([_queued(run, user, kind)])
    hint_later([run.pk])


def _queued(run: Run, user: User, kind: str) -> Entry:
    return Entry(
        "personas.run.queued",
        Actor(kind, str(user.pk), user.email),
        run.team_id,
        run.queued_at,
        target=f"run:{run.pk}",
        target_name=run.title,
        run_id=run.pk,
        details=_details(run),
    )


def _details(run: Run) -> dict[str, Any]:
    known = {"rehearsal": run.rehearsal, "trigger": run.trigger if run.trigger != Run.Trigger.MEMBER else ""}
    known |= {"again_of": str(run.again_of_id or ""), "caused_by": str(run.caused_by_id or "")}
    return {name: value for name, value in known.items() if value}
