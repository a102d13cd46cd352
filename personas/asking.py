"""
A run that must ask first: it is parked, holds no worker, and goes on as soon as somebody decided.

The database remembers all of it. A lost hint, a restart or a killed worker only delay it: a
decision sets the run due, and so does the approval's expiry.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings

from audit.clock import app_now
from integrations import approvals, deciding
from integrations.approvals import NotApproved, Question, Reason
from integrations.models import Approval, Connection
from personas import noticing
from personas.leases import Lease, at_once_if_stopped, fenced
from personas.models import Run, StageRun
from personas.queue import hint_later

LIVE = {Approval.State.APPROVED, Approval.State.USED}  # whether a used one serves again, its call decides


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person was asked, and may be called as it was asked."""

    approval_id: UUID
    tool: str
    connection: Connection
    arguments: dict[str, Any]
    chain: list[str]


def park(run: Run, stage: StageRun, lease: Lease, question: Question) -> None:
    """Ask, and let the run wait for the answer without a worker. Raises LeaseLost; then nothing was asked."""
    now = app_now()
    with fenced(lease, attempt=0):
        approval = approvals.ask(question, at=now, expires_at=now + timedelta(hours=settings.APPROVAL_HOURS))
        decided = approval.state != Approval.State.WAITING
        until = at_once_if_stopped(now, otherwise=now if decided else approval.expires_at)
        Run.objects.filter(pk=run.pk).update(
            state=Run.State.PARKED, approval=approval, parked_until=until, lease_until=None
        )
        # It begins anew when somebody has decided: the wait for a person is not the wait for a model.
        StageRun.objects.filter(pk=stage.pk).update(state=StageRun.State.WAITING, started_at=None)
        if decided:
            hint_later([run.pk])
        else:
            noticing.asks(run, f"Stage {stage.number}, {stage.name}, would use a tool that asks first. Decide it.")


def answer(run: Run, stage: StageRun) -> Asked | None:
    """
    Return what this stage was allowed to call, as it was asked; None when it must ask, or need not.

    Raises NotApproved when somebody refused, or nobody decided in time.
    """
    approval = _approval_of(run, stage)
    if approval is None or approval.state == Approval.State.WAITING:
        return None
    if approval.state not in LIVE:
        raise NotApproved(Reason(approval.state), approvals.outcome_in_words(approval))
    arguments = approvals.frozen_arguments(approval)
    return Asked(approval.pk, approval.tool, approval.connection, arguments, approval.chain)


def _approval_of(run: Run, stage: StageRun) -> Approval | None:
    if run.approval_id is None:
        return None
    deciding.expire_due(approval_id=run.approval_id)  # the sweeper may not have come by yet
    rows = Approval.objects.select_related("connection", "decided_by")
    return rows.filter(pk=run.approval_id, team_id=run.team_id, stage_id=stage.pk).first()
