"""Stopping a run, whoever wants it: a member, or a schedule that puts another one in its place."""

from django.db import transaction

from audit.actions import Actor, record
from audit.clock import app_now
from integrations import deciding
from personas.models import Run, StageRun


class AlreadyOver(Exception):
    """The run has ended, so it cannot be stopped."""


@transaction.atomic
def stop(*, run: Run, actor: Actor) -> bool:
    """
    Stop a run: one that waits ends here, one at work ends before its next stage.

    Returns whether it is over by now. Raises AlreadyOver.
    """
    now = app_now()
    # Locked, so that it neither starts nor parks while we decide which of the two it is.
    found = Run.objects.select_for_update(no_key=True, of=("self",)).get(pk=run.pk)
    if found.is_finished:
        raise AlreadyOver
    if found.state == Run.State.RUNNING:
        if not found.stop_wanted_at:
            _change(found, stop_wanted_at=now)
            _record("personas.run.stop_asked", found, actor)
        return False
    _change(found, stop_wanted_at=now, state=Run.State.STOPPED, finished_at=now)
    found.stages.filter(state=StageRun.State.WAITING).update(state=StageRun.State.SKIPPED)
    deciding.withdraw(run_id=found.pk, at=now, actor=actor)
    _record("personas.run.stopped", found, actor)
    return True


def _change(run: Run, **changes: object) -> None:
    Run.objects.filter(pk=run.pk).update(changes=Run.next_change(), **changes)


def _record(action: str, run: Run, actor: Actor) -> None:
    record(action, team_id=run.team_id, actor=actor, target=f"run:{run.pk}", target_name=run.title)
