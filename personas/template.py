"""
Text with references to earlier outputs. Substitution of named strings only: no expressions, no code.

`{{ input.name }}` is a value the run was given, `{{ stage.name.output }}` what a stage returned.
"""

import re
from collections.abc import Mapping

REFERENCE = re.compile(r"\{\{ {0,8}(input\.[a-z0-9_]{1,60}|stage\.[a-z0-9_]{1,60}\.output) {0,8}\}\}")
BRACES = re.compile(r"\{\{(?:.{0,200}?\}\})?", re.DOTALL)


class BadReference(Exception):
    """A template names something that is not there, or is not a reference at all."""


def references(text: str) -> list[str]:
    """Return the names a template refers to, in order: `input.x`, `stage.x.output`."""
    return REFERENCE.findall(text)


def check(text: str, known: set[str]) -> None:
    """
    Check that each reference of a template can be filled from `known` names.

    Raises BadReference that quotes the reference and lists what may be used.
    """
    for braces in BRACES.findall(text):
        match = REFERENCE.fullmatch(braces)
        if not match or match[1] not in known:
            usable = ", ".join("{{ " + name + " }}" for name in sorted(known)) or "nothing, as the first stage"
            raise BadReference(f"{braces} is not known here. This stage can use: {usable}.")


def render(text: str, values: Mapping[str, str]) -> str:
    """
    Fill a template. What is filled in is never read as a template again.

    Raises BadReference when a name has no value.
    """

    def fill(match: re.Match) -> str:
        try:
            return values[match[1]]
        except KeyError:
            raise BadReference(f"{match[0]} has no value in this run.") from None

    return REFERENCE.sub(fill, text)
