"""Trying a stage again after a failure that may heal: how long it waits, and when it must not be tried again."""

import random
from datetime import timedelta
from typing import Any

from audit.clock import app_now
from integrations.models import Call
from personas.leases import Lease, at_once_if_stopped, fenced
from personas.models import Run, StageRun
from personas.standstill import StageFailed

WAITS = (5, 20, 60, 180, 600)  # seconds before each further try
SPREAD = 0.2  # share by which a wait is lengthened at most, so that runs that failed together come back apart
DOUBT = (
    "Nobody knows whether {} was carried out: the worker that called it was lost. See whether it was, and run this "
    "again from here if it was not."
)
IN_DOUBT = (Call.State.SENT, Call.State.UNKNOWN)


def seconds_before(tries: int, wanted: float | None, chance: float) -> float:
    """
    Return for how many seconds a stage waits after so many tries, at least as long as the service `wanted`.

    `chance` is between 0 and 1.
    """
    return max(WAITS[min(tries, len(WAITS)) - 1], wanted or 0) * (1 + SPREAD * chance)


def wait_for_another(run: Run, stage: StageRun, spec: Any, failure: StageFailed, left: float | None) -> float | None:
    """
    Return for how many seconds a failed stage waits before it is tried again; None when it is not.

    `left` is how many seconds it still has. What may have been billed without an answer is not sent
    again by itself.
    """
    if not failure.again or stage.tries > spec.retries or is_in_doubt(run, stage):
        return None
    seconds = seconds_before(stage.tries, failure.seconds, random.random())  # noqa: S311 - it only spreads waits
    return seconds if left is None or seconds < left else None


def is_in_doubt(run: Run, stage: StageRun) -> bool:
    """Whether a call of a stage or its items may have been billed without an answer."""
    rows = run.stages.filter(position=stage.position).values("pk")
    return Call.objects.filter(team_id=run.team_id, run_id=run.pk, stage_id__in=rows, state__in=IN_DOUBT).exists()


def check_not_in_doubt(run: Run, stage: StageRun, spec: Any) -> None:
    """
    Refuse to repeat what a lost worker may have carried out, where a repetition could double something.

    Reading is repeated, and so is asking a model. Raises StageFailed for the rest: a person looks first.
    """
    rows = run.stages.filter(position=stage.position, state=StageRun.State.RUNNING).values("pk")
    if stage.state != StageRun.State.RUNNING:
        return
    lost = Call.objects.filter(team_id=run.team_id, run_id=run.pk, stage_id__in=rows, state__in=IN_DOUBT)
    for call in lost.select_related("connection"):
        tool = call.connection.provider.tool(call.tool)
        if not (tool.hints.repeatable or tool.hints.read_only or tool.tokens):
            raise StageFailed(DOUBT.format(tool.title))


def park(stage: StageRun, lease: Lease, *, why: str, seconds: float) -> None:
    """Let the run wait without a worker until its stage is tried again. Raises LeaseLost."""
    now = app_now()
    at = now + timedelta(seconds=seconds)
    until = at_once_if_stopped(now, otherwise=at)
    with fenced(lease, state=Run.State.PARKED, parked_until=until, lease_until=None, attempt=0):
        waits = {"state": StageRun.State.WAITING, "retry_at": at, "failure": why[: Run.LONGEST_FAILURE]}
        StageRun.objects.filter(pk=stage.pk).update(**waits)
