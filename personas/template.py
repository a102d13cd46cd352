"""
Text with references to earlier outputs. Substitution of named strings only: no expressions, no code.

`{{ input.name }}` is a value the run was given, `{{ stage.name.output }}` what a stage returned, and
`{{ item }}` the item of a list that is being worked on.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

ITEM = "item"
REFERENCE = re.compile(r"\{\{ {0,8}(input\.[a-z0-9_]{1,60}|stage\.[a-z0-9_]{1,60}\.output|item) {0,8}\}\}")
BRACES = re.compile(r"\{\{(?:.{0,200}?\}\})?", re.DOTALL)
LONGEST_NAME = 80  # characters of what stands in braces and is held against known names
LONGEST = 2_000_000  # characters of a filled template: one that repeats a long answer must not fill the worker's memory


class BadReference(Exception):
    """A template names something that is not there, or is not a reference at all."""


def references(text: str) -> list[str]:
    """Return the names a template refers to, in order: `input.x`, `stage.x.output`, `item`."""
    return REFERENCE.findall(text)


def check(text: str, known: set[str]) -> None:
    """
    Check that each reference of a template can be filled from `known` names.

    Raises BadReference that quotes the reference and lists what may be used.
    """
    for problem in problems(text, known):
        usable = ", ".join(written(name) for name in sorted(known)) or "nothing, as the first stage"
        raise BadReference(f"{problem} This stage can use: {usable}.")


def problems(text: str, known: set[str]) -> Iterator[str]:
    """Say of each reference that cannot be filled from `known` names which one it is, and what was likely meant."""
    for braces in BRACES.finditer(text):
        match = REFERENCE.fullmatch(braces[0])
        if not match or match[1] not in known:
            yield f"{braces[0]} is not known here.{_meant(braces[0], known)}"


def _meant(braces: str, known: set[str]) -> str:
    """The known name nearest to what stands in these braces, as a question; an end to braces that have none."""
    if not braces.endswith("}}"):
        return " It is not closed with }}."
    named = braces[2:-2].strip()[:LONGEST_NAME]
    by_word = {name.removeprefix("stage.").removesuffix(".output"): name for name in sorted(known)}
    near = get_close_matches(named, [*sorted(known), *by_word], n=1, cutoff=0.6)
    return f" Did you mean {written(by_word.get(near[0], near[0]))}?" if near else ""


def written(name: str) -> str:
    """A name as a reference in a text."""
    return "{{ " + name + " }}"


def check_length(texts: Iterable[str], values: Mapping[str, str]) -> None:
    """Raise BadReference when these templates would together be longer than LONGEST once they are filled."""
    length = 0
    for text in texts:
        length += len(text) + sum(len(values.get(name, "")) for name in references(text))
        if length > LONGEST:
            raise BadReference(
                f"Filled in, this would be longer than {LONGEST:,} characters. Refer to long outputs less often."
            )


def render(text: str, values: Mapping[str, str]) -> str:
    """
    Fill a template. What is filled in is never read as a template again.

    Raises BadReference when a name has no value, or when the filled text would be too long.
    """
    check_length([text], values)

    def fill(match: re.Match) -> str:
        try:
            return values[match[1]]
        except KeyError:
            raise BadReference(f"{match[0]} has no value in this run.") from None

    return REFERENCE.sub(fill, text)
