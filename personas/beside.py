"""Two runs of one flow beside each other, stage by stage: what was asked, what came, how long it took, what it cost."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from personas import comparing, queries, stages, template
from personas.models import Run, StageRun
from personas.standstill import StageFailed
from personas.texts import values_of
from personas.timeline import Row, lay_out


@dataclass(frozen=True, slots=True)
class Pair:
    """A stage in both runs, found by its name. A side without it is None; texts are None where neither has any."""

    name: str
    old: Row | None
    new: Row | None
    asked: comparing.Comparison | None
    output: comparing.Comparison | None


@dataclass(frozen=True, slots=True)
class _Side:
    rows: dict[str, Row]
    asked: dict[str, str]
    outputs: dict[str, str]


def compare_runs(*, old: Run, new: Run, now: datetime) -> list[Pair]:
    """Pair the stages of two runs of a team, in the order of the newer one. Erased texts count as empty."""
    before, after = _side(old, now), _side(new, now)
    names = [*after.rows, *(name for name in before.rows if name not in after.rows)]
    return [_pair(name, before, after) for name in names]


def _pair(name: str, old: _Side, new: _Side) -> Pair:
    return Pair(
        name,
        old.rows.get(name),
        new.rows.get(name),
        _compared(old.asked.get(name, ""), new.asked.get(name, "")),
        _compared(old.outputs.get(name, ""), new.outputs.get(name, "")),
    )


def _compared(old: str, new: str) -> comparing.Comparison | None:
    return comparing.compare_texts(old, new) if old or new else None


def _side(run: Run, now: datetime) -> _Side:
    found = list(run.stages.select_related("persona", "persona_version"))
    rows = lay_out(run, found, queries.calls_of(run=run), now).rows
    found = [stage for stage in found if not stage.item]
    values = _values(run)
    return _Side(
        rows={row.stage.name: row for row in rows},
        asked=_asked(found, values),
        outputs={stage.name: values.get(f"stage.{stage.name}.output", "") for stage in found},
    )


def _values(run: Run) -> dict[str, str]:
    try:
        return values_of(run)
    except StageFailed:
        return {}


def _asked(found: Sequence[StageRun], values: dict[str, str]) -> dict[str, str]:
    return {stage.name: _filled(stage.spec, values) for stage in found}


def _filled(spec: dict[str, Any], values: dict[str, str]) -> str:
    """The text of a stage as the run filled it in: what a stage that did not run would have been given is empty."""
    try:
        if text := spec.get("template") or spec.get("text") or spec.get("over"):
            return template.render(text, values)
        arguments = spec.get("arguments") or {}
        return json.dumps(stages.fill(arguments, values), indent=1, ensure_ascii=False) if arguments else ""
    except template.BadReference:
        return ""
