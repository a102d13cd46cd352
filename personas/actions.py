"""What members do with personas and runs. Each writes its event. Flows have flow_actions, schedules schedules."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from accounts.models import Team, User
from audit.actions import Actor
from audit.clock import app_now
from integrations import deciding
from integrations.models import Approval
from integrations.registry import Tool
from personas import drafting, starting, stopping
from personas.models import Flow, Persona, PersonaVersion, Run
from personas.queue import hint_later
from personas.slugs import free_slug


class NotRunnable(Exception):
    """The run cannot be started; the message says what to change."""


# --- personas ---------------------------------------------------------------------------


@transaction.atomic
def create_persona(
    *, team: Team, name: str, purpose: str, by: User, wants: Sequence[dict[str, str]] = (), **says: Any
) -> Persona:
    """
    Make a persona with its first version, in use at once.

    `says` is as `drafting.save_draft` takes it, `wants` as `wishes.written` gives it.
    """
    now = app_now()
    persona = new_persona(team, name, purpose, by, now, wants=list(wants))
    drafting.put_to_use(persona, drafting.add_version(persona, by, now, says), by, now)
    drafting.tell("made", persona, by, now)
    return persona


def new_persona(team: Team, name: str, purpose: str, by: User, at: datetime, **more: Any) -> Persona:
    """Make the row of a persona that has no version yet. The caller adds one and tells the log."""
    return Persona.objects.create(
        team=team,
        slug=free_slug(team, team.personas, name),
        name=name,
        purpose=purpose,
        created_by=by,
        created_at=at,
        **more,
    )


def save_persona(*, persona: Persona, name: str, purpose: str, by: User, **says: Any) -> PersonaVersion:
    """Write the persona's next version and put it to use; the ones before stay as they were."""
    return drafting.save_and_publish(of=persona, name=name, purpose=purpose, by=by, **says)


# --- runs -------------------------------------------------------------------------------


def run_flow(
    *,
    flow: Flow,
    by: User,
    idempotency_key: str,
    rehearsal: bool = False,
    inputs: Mapping[str, str] | None = None,
) -> Run:
    """
    Start a run now. Sending the same form twice gives the same run. Raises NotRunnable, and BadInput.

    In a rehearsal the first model of each chain is said to be rate limited, and is not asked.
    """
    if flow.archived_at:
        raise NotRunnable(f"{flow.name} is archived.")
    if flow.version is None:
        raise NotRunnable(f"{flow.name} has no published version. Publish its draft first.")
    return once(flow.team, idempotency_key, starting.start_run, flow=flow, user=by, rehearsal=rehearsal, inputs=inputs)


def run_tool(
    *,
    persona: Persona,
    tool: Tool,
    arguments: dict[str, Any],
    by: User,
    idempotency_key: str,
    rehearsal: bool = False,
) -> Run:
    """
    Run one tool as a persona, in a worker. Sending the same form twice gives the same run.

    In a rehearsal its model is said to be rate limited, so that the persona's other models answer.
    """
    return once(
        persona.team,
        idempotency_key,
        starting.start_tool_run,
        persona=persona,
        tool=tool,
        arguments=arguments,
        user=by,
        rehearsal=rehearsal,
    )


def once(team: Team, idempotency_key: str, start: Any, **what: Any) -> Run:
    """Call `start` in a transaction. A key that made a run of the team before gives that run."""
    try:
        with transaction.atomic():
            return start(idempotency_key=idempotency_key, **what)
    except IntegrityError as error:
        if error.__cause__.diag.constraint_name != "one_run_per_idempotency_key":
            raise
        return team.runs.get(idempotency_key=idempotency_key)


def stop_run(*, run: Run, by: User) -> None:
    """
    Stop a run: one that waits ends here, one at work ends before its next stage.

    Raises stopping.AlreadyOver.
    """
    stopping.stop(run=run, actor=Actor.user(by))


@transaction.atomic
def decide_approval(*, approval: Approval, verdict: deciding.Verdict, by: User) -> None:
    """
    Decide what a run waits for, and have a worker take the run up again.

    Raises NotYours, AlreadyDecided and CannotWiden, as `integrations.deciding.decide` says.
    """
    now = app_now()
    # The run is locked first, as by the worker that parks it or ends it.
    waiting = Run.objects.select_for_update(no_key=True).filter(pk=approval.run_id, team_id=approval.team_id)
    run = waiting.first()
    deciding.decide(approval=approval, verdict=verdict, by=by, at=now)
    if run and run.state == Run.State.PARKED and run.approval_id == approval.pk:
        _change_run(run, parked_until=now, hinted_at=now)
        hint_later([run.pk])


def _change_run(run: Run, **changes: object) -> None:
    Run.objects.filter(pk=run.pk).update(changes=Run.next_change(), **changes)
