"""Running again from a stage: what the stages before it gave is taken over, and not asked or paid for again."""

from collections.abc import Iterable
from uuid import uuid4

from django.db import IntegrityError, transaction

from accounts.models import User
from audit.clock import app_now
from audit.models import Content
from personas import conditions, fair, starting
from personas.models import Run, StageRun

COPIED = ("position", "name", "kind", "spec", "persona_id")
KEPT = ("state", "persona_version_id", "input_content_id", "output_content_id", "failure", "used_fallback")
KEPT += ("verdict", "decided_by_id", "decided_at")


class CannotRepeat(Exception):
    """This run cannot be run again from there; the message says why and what to do."""


def run_again_from(*, run: Run, number: int, by: User, idempotency_key: str) -> Run:
    """
    Run a flow's version once more from its stage `number`, counted from 1, with the rights of `by`.

    Inputs and the outputs of earlier stages are those of `run`. Sending the same form twice gives the
    same run. Raises CannotRepeat.
    """
    stages = list(run.stages.filter(item=0))
    _check(run, stages, number)
    try:
        with transaction.atomic():
            return _repeat(run, stages, number, by, idempotency_key or uuid4().hex)
    except IntegrityError as error:
        if error.__cause__.diag.constraint_name != "one_run_per_idempotency_key":
            raise
        return run.team.runs.get(idempotency_key=idempotency_key)


def _check(run: Run, stages: list[StageRun], number: int) -> None:
    if run.is_turn:
        raise CannotRepeat("An answer of a chat is tried again in the chat.")
    if run.is_trial:
        raise CannotRepeat("A trial of one stage is tried again from the page of its stage.")
    if not run.is_finished:
        raise CannotRepeat("This run is still going. Stop it first, or wait until it ends.")
    if run.flow and run.flow.archived_at:
        raise CannotRepeat(f"{run.flow.name} is archived.")
    if not 1 <= number <= len(stages):
        raise CannotRepeat(f"This run has stages 1 to {len(stages)}.")
    _check_outputs(run, stages, number)
    _check_inputs(run, stages[number - 1 :])


def _check_outputs(run: Run, stages: list[StageRun], number: int) -> None:
    wanted = set()
    for stage in stages[: number - 1]:
        if not _is_settled(stage, stages):
            raise CannotRepeat(f"Stage {stage.number}, {stage.name}, gave nothing in this run. Begin with it.")
        wanted.add(stage.output_content_id)
    if gone := _gone(run, wanted - {None}):
        raise CannotRepeat(f"What {gone} earlier stages gave was erased. Begin with stage 1.")


def _is_settled(stage: StageRun, stages: list[StageRun]) -> bool:
    """Whether a run went on from this stage: it was done, passed over by its condition, or a branch dealt with it."""
    if stage.state == StageRun.State.FAILED:
        return conditions.is_handled(stage.name, [each.spec for each in stages])
    return stage.state == StageRun.State.DONE or stage.was_passed_over


def _check_inputs(run: Run, later: Iterable[StageRun]) -> None:
    arguments = {stage.input_content_id for stage in later if not run.flow_id}
    if _gone(run, arguments | {run.inputs_id} - {None}):
        raise CannotRepeat("What this run was given was erased. Start a new run instead.")


def _gone(run: Run, wanted: set) -> int:
    there = Content.objects.filter(team_id=run.team_id, pk__in=wanted, ciphertext__isnull=False)
    return len(wanted) - there.count()


def _repeat(run: Run, stages: list[StageRun], number: int, by: User, idempotency_key: str) -> Run:
    now = app_now()
    again = Run.objects.create(
        team=run.team,
        flow=run.flow,
        flow_version=run.flow_version,
        title=run.title,
        user=by,
        trigger=Run.Trigger.AGAIN,
        again_of=run,
        inputs_id=run.inputs_id,
        idempotency_key=idempotency_key,
        estimate=run.estimate,
        queued_at=now,
        hinted_at=now,
        place=fair.places([run.team_id])[0],
    )
    rows = [_copy(stage, again, taken_over=stage.number < number) for stage in stages]
    StageRun.objects.bulk_create(rows)
    starting.announce(again, by, "user")
    return again


def _copy(stage: StageRun, again: Run, *, taken_over: bool) -> StageRun:
    fields = COPIED + KEPT if taken_over else COPIED
    if not stage.run.flow_id:
        fields += ("input_content_id",)  # the arguments of a tool from the console
    copied = {name: getattr(stage, name) for name in fields}
    return StageRun(team=again.team, run=again, reused=taken_over, **copied)
