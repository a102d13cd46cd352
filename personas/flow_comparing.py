"""What changed between two versions of a flow: stage by stage, and word by word within one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from personas.comparing import Comparison, Piece, compare_texts
from personas.models import FlowVersion

TEXTS = ("template", "text", "over")
EMPTY = (None, "", [], {}, 0)
Stages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class StageChange:
    """A stage that differs. `what`: added, removed or changed; a change of place alone has no pieces."""

    name: str
    what: str
    was_number: int | None
    number: int | None
    text: Comparison

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return self.text.pieces


def compare_versions(old: FlowVersion, new: FlowVersion, names: Mapping[str, str]) -> list[StageChange]:
    """The stages in which two versions differ, in the new one's order, the removed ones last. `names` of personas."""
    before, after = _by_name(old.stages), _by_name(new.stages)
    found = [_change(name, before.get(name), after.get(name), names) for name in [*after, *(before.keys() - after)]]
    return [change for change in found if change is not None]


def _by_name(stages: Stages) -> dict[str, tuple[int, Mapping[str, Any]]]:
    return {stage["name"]: (number, stage) for number, stage in enumerate(stages, start=1)}


def _change(name: str, before: Any, after: Any, names: Mapping[str, str]) -> StageChange | None:
    if before == after:
        return None
    was, old = before or (None, {})
    number, new = after or (None, {})
    what = "changed" if before and after else "added" if after else "removed"
    return StageChange(name, what, was, number, compare_texts(as_text(old, names), as_text(new, names)))


def as_text(stage: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A stage as lines of "field: value", without what it leaves at its default. Texts stand under their field."""
    lines = [f"{field}: {_words(field, value, names)}" for field, value in stage.items() if value not in EMPTY]
    return "\n".join(lines)


def _words(field: str, value: Any, names: Mapping[str, str]) -> str:
    if field == "persona":
        return names.get(value, "a persona that is gone")
    if field == "do":
        return "\n" + as_text(value, names)
    if isinstance(value, str):
        return f"\n{value}" if field in TEXTS or "\n" in value else value
    return json.dumps(value, ensure_ascii=False, indent=1) if isinstance(value, dict) else _listed(value)


def _listed(value: Any) -> str:
    return ", then ".join(map(str, value)) if isinstance(value, list) else str(value)


def in_a_sentence(old: FlowVersion | None, new: FlowVersion) -> str:
    """Say what a version changed."""
    if old is None:
        return "The first version."
    before, after = _by_name(old.stages), _by_name(new.stages)
    said = [
        _named("Added", [name for name in after if name not in before]),
        _named("Removed", [name for name in before if name not in after]),
        _named("Changed", [name for name in after if name in before and before[name][1] != after[name][1]]),
        "Other inputs" if old.inputs != new.inputs else "",
    ]
    sentence = "; ".join(filter(None, said))
    return sentence + "." if sentence else "The order of its stages." if list(before) != list(after) else "Nothing."


def _named(verb: str, names: list[str]) -> str:
    return f"{verb} {', '.join(names)}" if names else ""
