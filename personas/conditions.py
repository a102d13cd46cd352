"""When a stage is done: what its condition asks of an earlier stage. Pure."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from personas.stages import When, as_number

SHOWN = 80  # characters of what a number was expected to be
ASKS = {
    "equals": "gives “{value}”",
    "contains": "gives something that contains “{value}”",
    "above": "gives more than {value}",
    "below": "gives less than {value}",
    "failed": "fails",
    "done": "succeeds",
}


class NoNumber(Exception):
    """What should be compared as a number is none; the message says what it is instead."""


def holds(when: When, state: str, output: str) -> bool:
    """
    Say whether a condition holds, from the state and the output of the stage that it names.

    A stage that gave nothing, since it was skipped or failed, gives "" and no number. Texts are compared
    without the space around them. Raises NoNumber.
    """
    match when.test:
        case "failed" | "done":
            return state == when.test
        case "equals":
            return output.strip() == when.value.strip()
        case "contains":
            return when.value.strip() in output
        case _:
            return state == "done" and _compares(when, output)


def _compares(when: When, output: str) -> bool:
    number, limit = as_number(output), as_number(when.value) or Decimal(0)
    if number is None:
        said = f"“{output.strip()[:SHOWN]}”" if output.strip() else "nothing"
        raise NoNumber(
            f"Stage {when.stage} should give a number to compare with {when.value.strip()}, and gave {said}."
        )
    return number > limit if when.test == "above" else number < limit


def in_words(when: When) -> str:
    """Say what a condition asks for: "stage check gives more than 0.8"."""
    return f"stage {when.stage} {ASKS[when.test].format(value=when.value.strip())}"


def is_handled(name: str, specs: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a stage among these is the branch for an error of the stage of this name."""
    conditions = [spec.get("when") or {} for spec in specs]
    return any(when.get("stage") == name and when.get("is") == "failed" for when in conditions)
