"""What changed between two versions of a persona: word by word, and setting by setting. Pure."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Any

from personas.chains import Routing
from personas.models import PersonaVersion

WORD = re.compile(r"\s*\S+|\s+")
LINE = re.compile(r"[^\n]*\n|[^\n]+")
# The work grows with the square of these: more is compared by the next coarser unit.
MOST_WORDS = 2_000
MOST_LINES = 1_000
MOST_SAID = 160  # characters of one setting in a sentence
OWN = "the model's own"


class Kind(StrEnum):
    """What became of a piece of text."""

    SAME = "same"
    REMOVED = "removed"
    ADDED = "added"


class Unit(StrEnum):
    """How finely two texts were compared."""

    WORD = "word"
    LINE = "line"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text that is in both, only in the old, or only in the new."""

    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Pieces in order: the old text without what was added, the new one without what was removed."""

    pieces: tuple[Piece, ...]
    unit: Unit

    @property
    def changed(self) -> bool:
        return any(piece.kind != Kind.SAME for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that differs, in words."""

    name: str
    old: str
    new: str


# --- texts ------------------------------------------------------------------------------


def compare_texts(old: str, new: str) -> Comparison:
    """
    Compare two texts word by word; where too much differs for that, line by line or as one piece.

    Always quick, whatever the texts: 100,000 characters take well under a second.
    """
    unit, before, after, start, end = _cut(old, new)
    removed, added = before[start : len(before) - end], after[start : len(after) - end]
    pieces = [
        Piece(Kind.SAME, "".join(before[:start])),
        *_pieces(removed, added, unit),
        Piece(Kind.SAME, "".join(before[len(before) - end :])),
    ]
    return Comparison(tuple(piece for piece in pieces if piece.text), unit)


def _cut(old: str, new: str) -> tuple[Unit, list[str], list[str], int, int]:
    """Both texts in parts small enough to compare, and how many parts they begin and end with alike."""
    for pattern, unit, most in ((WORD, Unit.WORD, MOST_WORDS), (LINE, Unit.LINE, MOST_LINES)):
        before, after = pattern.findall(old), pattern.findall(new)
        # What both begin and end with costs nothing, so only the rest counts.
        start = _shared(before, after)
        end = _shared(before[start:][::-1], after[start:][::-1])
        if max(len(before), len(after)) - start - end <= most:
            return unit, before, after, start, end
    return Unit.WHOLE, before, after, start, end


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """How many items two lists begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _pieces(before: list[str], after: list[str], unit: Unit) -> Iterator[Piece]:
    if unit == Unit.WHOLE:
        yield Piece(Kind.REMOVED, "".join(before))
        yield Piece(Kind.ADDED, "".join(after))
        return
    for tag, i, j, k, m in SequenceMatcher(None, before, after).get_opcodes():
        if tag == "equal":
            yield Piece(Kind.SAME, "".join(before[i:j]))
            continue
        yield Piece(Kind.REMOVED, "".join(before[i:j]))
        yield Piece(Kind.ADDED, "".join(after[k:m]))


# --- settings ---------------------------------------------------------------------------


def compare_settings(old: PersonaVersion, new: PersonaVersion) -> list[Setting]:
    """Return the settings in which two versions differ."""
    pairs = zip(settings_of(old), settings_of(new), strict=True)
    return [Setting(name, before, after) for (name, before), (_, after) in pairs if before != after]


def settings_of(version: PersonaVersion) -> list[tuple[str, str]]:
    """Return each setting of a version, named and in words."""
    return [
        ("Models", ", then ".join(version.chain) or "none named"),
        ("Asked first", Routing(version.routing).label),
        ("Longest answer", f"{version.max_tokens:,} tokens"),
        ("Form of the answer", _schema(version.output_schema)),
        ("Models are spoken to by", PersonaVersion.Format(version.format).label),
        ("Temperature", _number(version.temperature)),
        ("Top P", _number(version.top_p)),
        (
            "Reasoning effort",
            PersonaVersion.Effort(version.reasoning_effort).label if version.reasoning_effort else OWN,
        ),
        ("Is told", _told(version)),
        ("Answers in one turn", f"at most {version.most_steps}"),
        ("Tool calls in one turn", f"at most {version.most_tool_calls}"),
        ("Time of one turn", f"at most {version.most_seconds} s"),
        ("Platform credits of one turn", f"at most {version.most_credits:,}"),
    ]


def _number(value: Decimal | None) -> str:
    return OWN if value is None else f"{value:.2f}"


def _schema(schema: dict[str, Any] | None) -> str:
    return "free text" if schema is None else json.dumps(schema, indent=1, ensure_ascii=False)


def _told(version: PersonaVersion) -> str:
    told = [word for word, is_told in (("the time", version.knows_time), ("who asks", version.knows_member)) if is_told]
    return " and ".join(told) or "neither the time nor who asks"


def in_a_sentence(changed: Sequence[Setting], characters: tuple[int, int] | None) -> str:
    """
    Say what a version changed.

    `characters`: how long the instructions were and are, or None when they stayed as they were.
    """
    said = [_sentence(setting) for setting in changed]
    if characters:
        said.insert(0, "Instructions changed, {:,} characters, were {:,}".format(*characters[::-1]))
    return "; ".join(said) + "." if said else "Nothing in what it is told."


def _sentence(setting: Setting) -> str:
    if len(setting.old) + len(setting.new) > MOST_SAID:
        return f"{setting.name} changed"
    return f"{setting.name} {setting.new}, was {setting.old}"
