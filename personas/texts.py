"""The sealed texts of a run: what it was given, what its stages gave, and what references stand for."""

import json
from collections.abc import Iterable
from contextlib import suppress
from uuid import UUID

from audit.clock import app_now
from audit.models import Content
from personas import stages
from personas.models import Run, StageRun
from personas.standstill import StageFailed
from vault.box import Unreadable
from vault.content import open_content, seal_content

KEY_GONE = "What this stage needs was sealed with a key that is gone. Run it again."
GAVE_NOTHING = (StageRun.State.SKIPPED, StageRun.State.FAILED)


def sealed(run: Run, stage: StageRun, kind: str, text: str) -> Content:
    """Seal a text of a stage, which is still to be stored."""
    subject = stage.persona_id or run.flow_id or run.user_id
    return seal_content(team_id=run.team_id, subject=subject, kind=kind, data=text.encode(), at=app_now())


def opened(run: Run, ids: Iterable[UUID]) -> dict[UUID, str]:
    """Open sealed texts of a run's team; erased ones are left out. Raises StageFailed when a key is gone."""
    rows = Content.objects.filter(team_id=run.team_id, pk__in=list(ids))
    try:
        return {content.pk: open_content(content=content).decode() for content in rows}
    except Unreadable as error:
        raise StageFailed(KEY_GONE) from error


def readable(run: Run, ids: Iterable[UUID]) -> dict[UUID, str]:
    """Open those texts of a run's team that can be read."""
    found = {}
    for content in Content.objects.filter(team_id=run.team_id, pk__in=list(ids)):
        with suppress(Unreadable):
            found[content.pk] = open_content(content=content).decode()
    return found


def values_of(run: Run) -> dict[str, str]:
    """
    Return what a template of this run may refer to: its inputs and the outputs of its stages.

    A stage that was skipped, or failed and was dealt with, gave "". Raises StageFailed.
    """
    nominal = run.firing.nominal_at if run.firing else run.queued_at
    values = {"input.time": nominal.isoformat(timespec="minutes"), "input.flow": run.title} | _inputs_of(run)
    found = list(run.stages.filter(item=0).only("name", "state", "output_content_id"))
    values |= {stages.output_of(stage.name): "" for stage in found if stage.state in GAVE_NOTHING}
    names = {stage.output_content_id: stage.name for stage in found if stage.state == StageRun.State.DONE}
    return values | {stages.output_of(names[pk]): text for pk, text in opened(run, names).items()}


def _inputs_of(run: Run) -> dict[str, str]:
    if run.inputs_id is None:
        return {}
    found = opened(run, [run.inputs_id])
    if not found:
        raise StageFailed("What this run was given is not kept any more. Start the flow again with new inputs.")
    return {f"input.{name}": value for name, value in json.loads(found[run.inputs_id]).items()}
