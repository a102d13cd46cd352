"""Making a run: its row, its stages, and a hint to a worker, in the caller's transaction."""

import json
from typing import Any
from uuid import UUID

from accounts.models import User
from audit.actions import Actor, record, store
from audit.clock import app_now
from integrations.registry import InvalidArguments, Tool
from personas import estimates, stages
from personas.models import Firing, Flow, Persona, Run, StageRun
from personas.queue import hint_later
from vault.content import seal_content


def start_run(
    *,
    flow: Flow,
    user: User,
    firing: Firing | None = None,
    idempotency_key: str = "",
    rehearsal: bool = False,
) -> Run:
    """Queue one run of a flow's current version, acting with the rights of `user`."""
    now = app_now()
    run = Run.objects.create(
        team=flow.team,
        flow=flow,
        flow_version=flow.version,
        firing=firing,
        title=flow.name,
        user=user,
        idempotency_key=idempotency_key,
        rehearsal=rehearsal,
        estimate=estimates.of_flow(team=flow.team, version=flow.version).as_json(),
        queued_at=now,
        hinted_at=now,
    )
    specs = flow.version.stages
    StageRun.objects.bulk_create(_stage_row(run, position, spec) for position, spec in enumerate(specs))
    announce(run, user, "schedule" if firing else "user")
    return run


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
    stage = stages.read_stage(spec)
    persona = getattr(stage, "persona", None)
    return StageRun(
        team=run.team,
        run=run,
        position=position,
        name=stage.name,
        kind=stage.kind,
        spec=spec,
        persona_id=UUID(persona) if persona else None,
    )


def announce(run: Run, user: User, kind: str) -> None:
    """Write in the log that a run is queued, and hint at it. In the transaction that made it."""
    record(
        "personas.run.queued",
        at=run.queued_at,
        team_id=run.team_id,
        actor=Actor(kind, str(user.pk), user.email),
        target=f"run:{run.pk}",
        target_name=run.title,
        run_id=run.pk,
        details={"rehearsal": True} if run.rehearsal else {},
    )
    hint_later([run.pk])
