"""What texts of a stage may refer to while a flow is being built, and which references in them lead nowhere."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from personas import stages, template

TEXTS = ("over", "template", "text", "arguments")  # the fields of a stage's form in which references may stand
OF_ITEMS = ("template", "arguments")  # those of what is done for each item of a list
MOST_SAID = 5
MOST_LOOKED_AT = 50  # wrong references: the same one often comes again
INPUT_NAME = re.compile(r"\s*([a-z][a-z0-9_]{0,39})\s*(?:=|$)")


@dataclass(frozen=True, slots=True)
class Refers:
    """What a text may refer to, as it is written there, and what is wrong with the references in it, in words."""

    usable: list[str]
    problems: list[str]


def refers(text: str, usable: Sequence[str]) -> Refers:
    """Hold a text against what it may refer to, as saving it does."""
    problems = dict.fromkeys(islice(template.problems(text, set(usable)), MOST_LOOKED_AT))
    return Refers([template.written(name) for name in usable], list(problems)[:MOST_SAID])


def usable_in(posted: Sequence[Mapping[str, str]], position: int, field: str, inputs: str) -> list[str]:
    """
    Return what a field of the stage at this position, counted from 0, may refer to, the nearest stage first.

    `posted` are the stages as their forms show them, `inputs` the lines that declare the flow's.
    """
    before = [stage.get("name", "") for stage in posted[:position]]
    outputs = [stages.output_of(name) for name in reversed(before) if re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name)]
    item = [template.ITEM] if field in OF_ITEMS and posted[position].get("kind", "").startswith("each_") else []
    declared = [found[1] for line in inputs.splitlines() if (found := INPUT_NAME.match(line))]
    return list(dict.fromkeys([*item, *outputs, *(f"input.{name}" for name in (*declared, *stages.OWN_INPUTS))]))
