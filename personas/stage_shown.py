"""What the page of a run shows of one stage: its texts, opened, and those of its items."""

from dataclasses import dataclass
from uuid import UUID

from personas import conditions, stages
from personas.models import Run, StageRun
from personas.texts import readable
from personas.timeline import Row

LONGEST_OF_ITEM = 2_000  # characters of what one item gave; its stage's output has it all


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a list: what it is and what came of it; None where that is not there, or was erased."""

    row: StageRun
    given: str | None
    output: str | None
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """A stage's texts. `question` is what a person decides about, `note` what they wrote."""

    output: str | None
    question: str | None
    note: str | None
    items: list[Item]


def open_stage(run: Run, row: Row) -> Shown:
    """Open what a stage was given and gave. What was erased, or cannot be read any more, is None."""
    stage, is_list = row.stage, bool(row.items)
    wanted = [stage.output_content_id, *(item.output_content_id for item in row.items)]
    wanted += [each.input_content_id for each in (row.items if is_list else [stage])]
    texts = readable(run, [id for id in wanted if id])
    decides = stage.kind == "approve"
    return Shown(
        output=texts.get(stage.output_content_id) if stage.state == StageRun.State.DONE else None,
        question=texts.get(stage.input_content_id) if decides else None,
        note=texts.get(stage.output_content_id) if decides else None,
        items=[_item(item, texts) for item in row.items],
    )


def _item(item: StageRun, texts: dict[UUID, str]) -> Item:
    output = texts.get(item.output_content_id)
    is_cut = output is not None and len(output) > LONGEST_OF_ITEM
    return Item(item, texts.get(item.input_content_id), output[:LONGEST_OF_ITEM] if is_cut else output, is_cut)


def what_it_does(row: Row) -> str:
    """Say in a few words what a stage asks, or what it does without a model."""
    stage = row.stage
    if stage.kind == "each" and row.items:
        return f"{row.items_done} of {len(row.items)} items"
    if stage.kind == "approve":
        return f"{stage.verdict} by {stage.decided_by.email}" if stage.verdict else "a person decides"
    if row.models:
        return ", then ".join(row.models)
    return {"combine": "combines earlier outputs", "each": "goes through a list"}.get(
        stage.kind, stage.spec.get("tool") or stage.kind
    )


def why_skipped(stage: StageRun) -> str:
    """Say why a stage was skipped: its condition did not hold, or its run ended before it."""
    if not stage.was_passed_over:
        return "The run ended before it."
    return f"It is done only if {conditions.in_words(stages.When.model_validate(stage.spec['when']))}."
