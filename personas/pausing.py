"""A run that a member pauses waits for them: nothing of it is asked, and it keeps what it has."""

from django.db import transaction

from accounts.models import User
from audit.actions import Actor, record
from audit.clock import app_now
from personas.models import Run
from personas.queue import hint_later
from personas.stopping import AlreadyOver


class CannotPause(Exception):
    """This run cannot be paused; the message says why."""


@transaction.atomic
def pause_run(*, run: Run, by: User) -> None:
    """
    Pause a run: one that waits at once, one at work before its next stage. Does nothing to a paused one.

    Raises AlreadyOver and CannotPause.
    """
    found = _locked(run)
    if found.is_finished:
        raise AlreadyOver
    if found.is_turn:
        raise CannotPause("An answer of a chat is stopped, not paused.")
    if found.waits_for_approval:
        raise CannotPause("It waits for a decision. Nothing runs until somebody decides.")
    if found.paused_at:
        return
    now = app_now()
    waits = {} if found.state == Run.State.RUNNING else {"state": Run.State.PARKED, "parked_until": None}
    Run.objects.filter(pk=found.pk).update(changes=Run.next_change(), paused_at=now, **waits)
    _tell("paused", found, by)


@transaction.atomic
def resume_run(*, run: Run, by: User) -> None:
    """Let a paused run go on. Does nothing to one that is not paused, or is over."""
    found = _locked(run)
    if found.paused_at is None or found.is_finished:
        return
    now = app_now()
    due = {"parked_until": now, "hinted_at": now} if found.state == Run.State.PARKED else {}
    Run.objects.filter(pk=found.pk).update(changes=Run.next_change(), paused_at=None, **due)
    _tell("resumed", found, by)
    hint_later([found.pk])


def _locked(run: Run) -> Run:
    """The run as it is now, so that it neither starts nor parks while we decide."""
    rows = Run.objects.select_for_update(no_key=True, of=("self",)).select_related("team", "approval")
    return rows.get(pk=run.pk)


def _tell(verb: str, run: Run, by: User) -> None:
    record(
        f"personas.run.{verb}",
        team_id=run.team_id,
        actor=Actor.user(by),
        target=f"run:{run.pk}",
        target_name=run.title,
        run_id=run.pk,
    )
