"""
A stage that a person approves: its run waits without a worker until a member decides, and then goes on.

What they are shown is sealed once, so that all see the same. The database remembers the decision: a lost
hint or a restart only delay what follows.
"""

from uuid import UUID

from django.db import transaction

from accounts.models import User
from audit.actions import Actor, record, store
from audit.clock import app_now
from personas import noticing
from personas.leases import Lease, fenced
from personas.models import Run, StageRun
from personas.queue import hint_later
from personas.standstill import StageFailed
from personas.texts import opened, sealed

APPROVED, REFUSED = "approved", "refused"
LONGEST_NOTE = 4_000  # characters


class NeedsDecision(Exception):
    """A person must decide before the run goes on; `text` is what they are shown."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__("This stage waits for a decision.")


class CannotDecide(Exception):
    """There is nothing to decide here, or not any more; the message says why."""


def decided(run: Run, stage: StageRun, text: str) -> tuple[str, UUID | None]:
    """
    Return what an approved stage gives: the note of whoever approved it, and where that is kept.

    Raises NeedsDecision until somebody decides, and StageFailed when they refused.
    """
    if not stage.verdict:
        raise NeedsDecision(text)
    if stage.verdict == REFUSED:
        raise StageFailed(f"Refused by {stage.decided_by.email}.")
    if stage.output_content_id is None:
        return APPROVED, None
    return opened(run, [stage.output_content_id]).get(stage.output_content_id, ""), stage.output_content_id


def park(run: Run, stage: StageRun, lease: Lease, text: str) -> None:
    """Show a text to the members who may decide, and let the run wait. Raises LeaseLost; then nobody was asked."""
    now = app_now()
    shown = sealed(run, stage, "question", text)
    with fenced(lease, attempt=0):
        # The run is locked by now: somebody stopped it or decided before, or finds it parked.
        stopped = Run.objects.filter(pk=run.pk, stop_wanted_at__isnull=False).exists()
        row = StageRun.objects.get(pk=stage.pk)
        due = now if stopped or row.verdict else None
        Run.objects.filter(pk=run.pk).update(state=Run.State.PARKED, parked_until=due, lease_until=None)
        kept = row.input_content_id
        if kept is None:
            store(shown)
            kept = shown.id
        StageRun.objects.filter(pk=stage.pk).update(state=StageRun.State.WAITING, input_content_id=kept)
        if due is None:
            noticing.asks(run, f"Stage {stage.number}, {stage.name}, shows a text for a member to approve.")


@transaction.atomic
def decide(*, run: Run, number: int, approve: bool, note: str, by: User) -> None:
    """
    Decide the stage of this number, and have a worker take the run up again.

    Raises CannotDecide when somebody was quicker, the run is over, or the stage does not wait for anybody.
    """
    now = app_now()
    found = Run.objects.select_for_update(no_key=True, of=("self",)).get(pk=run.pk, team=run.team)
    stage = _waiting_stage(found, number)
    note = note.strip()[:LONGEST_NOTE]
    verdict = APPROVED if approve else REFUSED
    decision = {"verdict": verdict, "decided_by": by, "decided_at": now}
    if note:
        content = sealed(found, stage, "note", note)
        store(content)
        decision["output_content_id"] = content.id
    StageRun.objects.filter(pk=stage.pk).update(**decision)
    due = {"parked_until": now, "hinted_at": now} if found.state == Run.State.PARKED and not found.paused_at else {}
    Run.objects.filter(pk=found.pk).update(changes=Run.next_change(), **due)
    _tell(found, stage, verdict, by)
    hint_later([found.pk])


def _waiting_stage(run: Run, number: int) -> StageRun:
    stage = run.stages.filter(position=number - 1, item=0, kind="approve").select_related("decided_by").first()
    if stage is None or stage.input_content_id is None:
        raise CannotDecide("This stage does not wait for a decision.")
    if stage.verdict:
        raise CannotDecide(f"{stage.decided_by.email} decided first: {stage.verdict}.")
    if run.is_finished or stage.state != StageRun.State.WAITING:
        raise CannotDecide("This run does not wait for a decision any more.")
    return stage


def _tell(run: Run, stage: StageRun, verdict: str, by: User) -> None:
    record(
        "personas.run.decided",
        team_id=run.team_id,
        actor=Actor.user(by),
        target=f"run:{run.pk}",
        target_name=run.title,
        outcome=verdict,
        run_id=run.pk,
        details={"stage": stage.name},
    )
