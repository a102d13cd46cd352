"""
Working through a run, stage by stage, under a lease.

Each stage begins and ends in a fenced write of its own, so a killed worker loses at most the
stage it was in: the next one closes that stage's open calls as in doubt and does it again.
"""

import math
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import Error

from audit.clock import app_now
from integrations.approvals import NeedsApproval
from integrations.purse import StageLimit
from personas import (
    approving,
    asking,
    conditions,
    ending,
    fair,
    items,
    preflight,
    quitting,
    retrying,
    stage_rows,
    stages,
    starting,
)
from personas.attempts import PATIENCE
from personas.chat import turn
from personas.leases import Lease, LeaseLost, give_back, is_away, keeper
from personas.models import Run, StageRun
from personas.performing import Bounds, Misfit, Output, perform
from personas.queue import hint_at_next
from personas.standstill import Parked, StageFailed, Stopped, TimeIsOver
from personas.texts import values_of
from personas.watching import Watch

BROUGHT = ("team", "user", "flow", "flow_version", "firing", "chat")
TOO_LONG = "It took longer than the {} seconds that this stage may take. Raise its time, or ask for less."


def work(*, run_id: UUID, owner: str) -> None:
    """
    Take this run, or the one whose turn it is, and work on it until it ends, must wait, or is lost to another worker.

    Quietly does nothing when none is to be had: the message was only a hint. Afterwards there is room for another.
    A worker that is told to end takes none, and hands back what it has after the stage that it is at.
    """
    if quitting.is_told():
        return
    if lease := fair.take(run_id=run_id, owner=owner):
        _work_on(lease)
        hint_at_next()


def _work_on(lease: Lease) -> None:
    with keeper.keeping(lease):
        try:
            run = Run.objects.select_related(*BROUGHT).get(pk=lease.run_id)
            (turn.advance if run.is_turn else _advance)(run, lease)
        except LeaseLost:
            return
        except Error as fault:
            if is_away(fault):  # another worker takes it up when the lease ends
                give_back(lease)
            raise


def _advance(run: Run, lease: Lease) -> None:
    ending.close_open_calls(run)
    starting.keep_estimate(run)
    if hindered := preflight.hindrance(run):
        stage, why = hindered
        return ending.fail(run, stage, lease, why)
    unsettled = run.stages.filter(item=0, state__in=stage_rows.UNSETTLED)
    for stage in unsettled.select_related("persona", "persona__version", "decided_by"):
        if quitting.is_told():
            return ending.hand_back(run, lease)
        stopped, paused = Run.objects.values_list("stop_wanted_at", "paused_at").get(pk=run.pk)
        if stopped:
            return ending.finish(run, lease, Run.State.STOPPED)
        if paused:
            return ending.pause(lease)
        try:
            ending.check_rights(run)
        except StageFailed as failure:
            return ending.fail(run, stage, lease, str(failure))
        if not _goes_on(run, stage, lease):
            return None
    return ending.finish(run, lease, Run.State.SUCCEEDED)


# --- one stage --------------------------------------------------------------------------


def _goes_on(run: Run, stage: StageRun, lease: Lease) -> bool:
    """Do a stage, or pass it over; say whether it is the next one's turn. If not, the run is over or put off."""
    spec = stages.read_stage(stage.spec)
    try:
        return _settle_or_wait(run, stage, spec, lease)
    except Stopped:
        ending.stop(run, stage, lease)
        return False
    except StageFailed as failure:
        return _goes_on_after(run, stage, spec, lease, failure)


def _settle_or_wait(run: Run, stage: StageRun, spec: Any, lease: Lease) -> bool:
    try:
        _settle(run, stage, spec, lease)
        return True
    except Parked as wait:
        ending.park(run, stage, lease, wait.seconds, _patience(spec))
    except NeedsApproval as needed:
        asking.park(run, stage, lease, needed.question)
    except approving.NeedsDecision as needed:
        approving.park(run, stage, lease, needed.text)
    return False


def _settle(run: Run, stage: StageRun, spec: Any, lease: Lease) -> None:
    values = values_of(run)
    if spec.when and not _is_wanted(run, spec.when, values):
        return stage_rows.skip(stage, lease)
    retrying.check_not_in_doubt(run, stage, spec)
    stage_rows.begin(stage, lease)
    try:
        output = _output(run, stage, spec, lease, values)
    except TimeIsOver as over:
        raise StageFailed(TOO_LONG.format(spec.timeout)) from over
    return stage_rows.end(run, stage, lease, output)


def _is_wanted(run: Run, when: stages.When, values: dict[str, str]) -> bool:
    named = run.stages.get(item=0, name=when.stage)
    try:
        return conditions.holds(when, named.state, values.get(stages.output_of(when.stage), ""))
    except conditions.NoNumber as error:
        raise StageFailed(str(error)) from error


def _goes_on_after(run: Run, stage: StageRun, spec: Any, lease: Lease, failure: StageFailed) -> bool:
    """Try a stage that failed again later, or go on if a later one deals with it; else the run ends."""
    seconds = retrying.wait_for_another(run, stage, spec, failure, _seconds_left(stage, spec))
    if seconds is not None:
        retrying.park(stage, lease, why=str(failure), seconds=seconds)
        return False
    later = run.stages.filter(position__gt=stage.position, item=0).values_list("spec", flat=True)
    if not conditions.is_handled(stage.name, later):
        ending.fail(run, stage, lease, str(failure))
        return False
    stage_rows.fail_and_go_on(run, stage, lease, str(failure))
    return True


# --- what it gives ----------------------------------------------------------------------


def _output(run: Run, stage: StageRun, spec: Any, lease: Lease, values: dict[str, str]) -> Output:
    left = _seconds_left(stage, spec)
    if left is not None and left <= 0:
        raise StageFailed(TOO_LONG.format(spec.timeout))
    watch = Watch(run.pk, math.inf if left is None else left, TimeIsOver)
    bounds = Bounds(patience=_patience(spec), on_wait=watch.look)

    def do(row: StageRun, work: Any, values: dict[str, str]) -> Output:
        own = replace(bounds, stage_limit=_limit(run, stage, spec))
        return _fitting(run, row, work, lease, values, own, spec.retries)

    if isinstance(spec, stages.EachStage):
        return items.do_all(run, stage, spec, lease, values, do)
    return do(stage, spec, values)


def _fitting(
    run: Run, row: StageRun, work: Any, lease: Lease, values: dict[str, str], bounds: Bounds, retries: int
) -> Output:
    """What a stage or an item gives. An answer that has not the form it should have may be put right once."""
    try:
        return perform(run, row, work, values, bounds)
    except Misfit as misfit:
        if row.tries > retries:
            raise
        stage_rows.count_try(row, lease)
        return perform(run, row, work, values, bounds, misfit)


def _limit(run: Run, stage: StageRun, spec: Any) -> StageLimit | None:
    """What all calls of a stage and of its items may cost together."""
    if spec.most_usd is None:
        return None
    rows = run.stages.filter(position=stage.position).values_list("pk", flat=True)
    return StageLimit(Decimal(spec.most_usd), tuple(rows))


def _patience(spec: Any) -> timedelta:
    return timedelta(seconds=spec.timeout) if spec.timeout else PATIENCE


def _seconds_left(stage: StageRun, spec: Any) -> float | None:
    """How long a stage may still take with all its tries, in seconds; None without an end."""
    if spec.timeout is None:
        return None
    begun = stage.started_at or app_now()
    return (begun + timedelta(seconds=spec.timeout) - app_now()).total_seconds()
