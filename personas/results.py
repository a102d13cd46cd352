"""What a run of a flow gave in the end, and the page on which it is shared inside the team."""

from dataclasses import dataclass
from typing import Any

from django.db import transaction

from accounts.models import User
from audit.actions import Actor, record
from audit.clock import app_now
from personas.models import Run, StageRun
from personas.texts import readable


class CannotShare(Exception):
    """There is no result to share; the message says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """The output of the last stage that was done. `text` is None once it was erased."""

    stage: StageRun
    text: str | None

    @property
    def is_data(self) -> bool:
        """Whether a tool or a list gave it, rather than somebody who writes."""
        return self.stage.kind in ("tool", "each")


def is_there(run: Run) -> bool:
    """Whether a run came to a result that may be handed on: one of a flow, not a trial, that succeeded."""
    return run.state == Run.State.SUCCEEDED and has_kind(run)


def has_kind(run: Run) -> bool:
    """Whether it is of the kind of runs that have results."""
    return run.flow_id is not None and not run.is_trial


def result_of(run: Run) -> Result | None:
    """Open the result of a run; None if none of its stages was done."""
    done = run.stages.filter(item=0, state=StageRun.State.DONE).order_by("position").last()
    if done is None:
        return None
    return Result(done, readable(run, [done.output_content_id]).get(done.output_content_id))


def text_of(run: Run) -> str:
    """The result as text; empty if there is none, or none any more."""
    result = result_of(run)
    return (result and result.text) or ""


def as_data(run: Run, text: str) -> dict[str, Any]:
    """The result for machines. Nothing of it but `output` comes from a model or a tool."""
    return {
        "flow": run.title,
        "version": run.flow_version.number if run.flow_version else None,
        "run": str(run.pk),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "output": text,
    }


@transaction.atomic
def share(*, run: Run, by: User) -> None:
    """Make the result of a run a page of the team. Raises CannotShare."""
    if not is_there(run):
        raise CannotShare("Only a flow's run that succeeded has a result to share.")
    _set("shared", run, by, shared_at=None)


@transaction.atomic
def unshare(*, run: Run, by: User) -> None:
    """Take that page away again. What others have read, they have read."""
    _set("unshared", run, by, shared_at__isnull=False)


def _set(what: str, run: Run, by: User, **before: Any) -> None:
    """Write it down once: of two who do the same, the second changes nothing."""
    now = app_now()
    after = {"shared_at": now, "shared_by": by} if what == "shared" else {"shared_at": None, "shared_by": None}
    if Run.objects.filter(pk=run.pk, **before).update(changes=Run.next_change(), **after):
        record(
            f"personas.run.{what}",
            at=now,
            team_id=run.team_id,
            actor=Actor.user(by),
            target=f"run:{run.pk}",
            target_name=run.title,
            run_id=run.pk,
        )
