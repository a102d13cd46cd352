"""What is written of a stage while a run goes through it: begun, done, skipped, failed but dealt with. Fenced."""

from django.db.models.functions import Coalesce

from audit.actions import store
from audit.clock import AppNow
from personas.leases import Lease, fenced
from personas.models import Run, StageRun
from personas.performing import Output
from personas.texts import sealed

UNSETTLED = (StageRun.State.WAITING, StageRun.State.RUNNING)


def begin(stage: StageRun, lease: Lease) -> None:
    """
    Write that a stage is being done, and count its tries. Raises LeaseLost.

    Taking one up again that waited for a model or a person, or whose worker died, is no further try.
    """
    if not stage.tries or stage.retry_at or stage.state == StageRun.State.FAILED:
        stage.tries += 1
    with fenced(lease):
        StageRun.objects.filter(pk=stage.pk).update(
            state=StageRun.State.RUNNING,
            persona_version=stage.persona.version if stage.persona else None,
            started_at=Coalesce("started_at", AppNow()),  # however often it is taken up again
            tries=stage.tries,
            retry_at=None,
            failure="",
        )


def count_try(stage: StageRun, lease: Lease) -> None:
    """Count one more try of a stage that is being done. Raises LeaseLost."""
    stage.tries += 1
    with fenced(lease):
        StageRun.objects.filter(pk=stage.pk).update(tries=stage.tries)


def end(run: Run, stage: StageRun, lease: Lease, output: Output) -> None:
    """Keep what a stage gave. Raises LeaseLost; then nothing is kept."""
    content = None if output.content_id else sealed(run, stage, "output", output.text)
    with fenced(lease, attempt=0):
        if content:
            store(content)
        StageRun.objects.filter(pk=stage.pk).update(
            state=StageRun.State.DONE,
            output_content_id=content.id if content else output.content_id,
            used_fallback=output.used_fallback,
            finished_at=AppNow(),
        )


def skip(stage: StageRun, lease: Lease) -> None:
    """Pass a stage over, since its condition does not hold. Raises LeaseLost."""
    with fenced(lease, attempt=0):
        StageRun.objects.filter(pk=stage.pk).update(state=StageRun.State.SKIPPED, finished_at=AppNow())


def fail_and_go_on(run: Run, stage: StageRun, lease: Lease, why: str) -> None:
    """Write that a stage failed, in a run that has a branch for that. Raises LeaseLost."""
    failed = {"state": StageRun.State.FAILED, "failure": why[: Run.LONGEST_FAILURE], "finished_at": AppNow()}
    with fenced(lease, attempt=0):
        StageRun.objects.filter(pk=stage.pk).update(**failed)
        rest = run.stages.filter(position=stage.position, item__gt=0, state__in=UNSETTLED)
        rest.update(state=StageRun.State.SKIPPED)


def put_back(item: StageRun, lease: Lease) -> None:
    """Leave an item as if it had not begun. Raises LeaseLost."""
    with fenced(lease):
        StageRun.objects.filter(pk=item.pk).update(state=StageRun.State.WAITING, started_at=None)


def fail_item(item: StageRun, lease: Lease, why: str) -> None:
    """Write that an item failed; what its stage makes of that comes later. Raises LeaseLost."""
    failed = {"state": StageRun.State.FAILED, "failure": why[: Run.LONGEST_FAILURE], "finished_at": AppNow()}
    with fenced(lease):
        StageRun.objects.filter(pk=item.pk).update(**failed)
