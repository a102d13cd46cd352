"""How a run ends, or must wait; whose rights it needs meanwhile. Shared by flows and turns of chats."""

from datetime import timedelta

from django.db.models import Case, DateTimeField, Q, Value, When

from accounts.models import Membership
from accounts.permissions import Permission, allows
from audit.actions import Actor, record
from audit.clock import AppNow, app_now
from integrations import deciding
from integrations.calls import close_in_doubt
from integrations.models import Call
from personas import delivery, noticing, switching_off, triggered
from personas.attempts import PATIENCE
from personas.leases import Lease, LeaseLost, at_once_if_stopped, fenced
from personas.models import Run, StageRun
from personas.queue import hint_later
from personas.standstill import StageFailed


def check_rights(run: Run, needed: Permission = Permission.RUN_START) -> None:
    """A run acts with the rights that its person has now: a role lost since it was queued ends it here."""
    members = Membership.objects.filter(team=run.team, user=run.user, user__is_active=True)
    role = members.values_list("role", flat=True).first()
    if role is None:
        raise StageFailed(f"{run.user.email} is no longer a member. Another member can run this or set its schedule.")
    if not allows(role, needed):
        raise StageFailed(f"{run.user.email} is {role} now, a role that may not run anything.")


def close_open_calls(run: Run) -> None:
    """A call left `sent` belongs to a worker that is gone; repeating its stage makes a new call."""
    for call in Call.objects.filter(run_id=run.pk, state=Call.State.SENT):
        close_in_doubt(call=call)


def park(run: Run, stage: StageRun, lease: Lease, seconds: float, patience: timedelta = PATIENCE) -> None:
    """Put a run off until a model may be asked again. Raises StageFailed when its stage has waited long enough."""
    now = app_now()
    if stage.started_at and stage.started_at + patience < now:
        waited = "an hour" if patience == PATIENCE else f"{patience.total_seconds():.0f} seconds"
        raise StageFailed(f"Every model was rate limited for {waited}. Add a fallback, or run it later.")
    until = at_once_if_stopped(now, otherwise=now + timedelta(seconds=seconds))
    with fenced(lease, state=Run.State.PARKED, parked_until=until, lease_until=None, attempt=0):
        StageRun.objects.filter(pk=stage.pk).update(state=StageRun.State.WAITING)


def pause(lease: Lease) -> None:
    """Let a run wait for the member who paused it; one that was resumed meanwhile goes on at once."""
    resumed = Case(When(paused_at=None, then=AppNow()), default=Value(None, output_field=DateTimeField()))
    with fenced(lease, state=Run.State.PARKED, parked_until=resumed, lease_until=None, attempt=0):
        return


def hand_back(run: Run, lease: Lease) -> None:
    """Leave a run to another worker, which takes it up at once."""
    with fenced(lease, state=Run.State.PARKED, parked_until=AppNow(), lease_until=None, attempt=0):
        hint_later([run.pk])


def stop(run: Run, stage: StageRun, lease: Lease) -> None:
    """End a run that was stopped in the middle of a stage: the stage is left as if it had not begun."""
    with fenced(lease):
        run.stages.filter(_under_way(stage)).update(state=StageRun.State.WAITING)
    finish(run, lease, Run.State.STOPPED)


def fail(run: Run, stage: StageRun | None, lease: Lease, why: str, *, gave_up: bool = False) -> None:
    """End a run at this stage, or between two; what would have come after it is skipped. Raises LeaseLost."""
    why = why[: Run.LONGEST_FAILURE]
    ended = {"state": Run.State.FAILED, "failure": why, "gave_up": gave_up, "finished_at": AppNow()}
    with fenced(lease, lease_until=None, **ended):
        failed = {"state": StageRun.State.FAILED, "failure": why, "finished_at": AppNow()}
        run.stages.filter(_under_way(stage)).update(**failed)
        run.stages.filter(state=StageRun.State.WAITING).update(state=StageRun.State.SKIPPED)
        _record_end(run, Run.State.FAILED)


def finish(run: Run, lease: Lease, state: Run.State) -> None:
    """End a run in this state. Raises LeaseLost."""
    with fenced(lease, state=state, lease_until=None, finished_at=AppNow()):
        run.stages.filter(state=StageRun.State.WAITING).update(state=StageRun.State.SKIPPED)
        _record_end(run, state)


def _under_way(stage: StageRun | None) -> Q:
    """The stage that is being done; in a turn of a chat, tools beside it too."""
    running = Q(state=StageRun.State.RUNNING)
    return Q(pk=stage.pk) | running if stage else running


def _record_end(run: Run, state: Run.State) -> None:
    deciding.withdraw(run_id=run.pk, at=app_now(), actor=Actor.system("worker"))
    record(
        f"personas.run.{state}",
        team_id=run.team_id,
        actor=Actor.system("worker"),
        target=f"run:{run.pk}",
        target_name=run.title,
        outcome=state,
        run_id=run.pk,
    )
    noticing.after_run(run, state)
    switching_off.after_run(run, state)
    triggered.after_run(run, state)
    delivery.after_run(run, state)


def give_up_on(*, run: Run) -> None:
    """
    End a run that was tried too often without finishing a stage; it would only be tried again.

    Quietly does nothing when somebody else ended it first.
    """
    lease = Lease(run.pk, run.fence)
    stage = run.stages.filter(item=0, state__in=[StageRun.State.WAITING, StageRun.State.RUNNING]).first()
    close_open_calls(run)
    try:
        if stage is None and _says_the_last_word(run):
            finish(run, lease, Run.State.SUCCEEDED)  # all that was missing is the word for it
        else:
            what = "finishing this stage" if stage else "beginning the answer to what its tools brought"
            fail(run, stage, lease, f"Its worker ended {Run.MAX_ATTEMPTS} times without {what}.", gave_up=True)
    except LeaseLost:
        return


def _says_the_last_word(run: Run) -> bool:
    """Whether nothing is to come after its stages. A turn of a chat adds an answer after its tools."""
    return not run.is_turn or run.stages.last().kind == "answer"
