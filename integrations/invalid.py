"""
Turns refused arguments into sentences a person or a model can act on.

What was given is never repeated: it may be a megabyte long, or a key pasted into the wrong field.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

Loc = tuple[int | str, ...]

MOST_PROBLEMS = 20
MOST_DETAILS = 200
_NAME = re.compile(r"[A-Za-z0-9_.$:/~-]{1,64}")
_KEY = re.compile(r"sk-|key-|bearer", re.IGNORECASE)

# pydantic's own sentences speak of "input" and sometimes quote it; these do neither.
_SENTENCES = {
    "missing": "This field is required.",
    "extra_forbidden": "There is no such field.",
    "string_type": "This must be text.",
    "int_type": "This must be a whole number.",
    "int_from_float": "This must be a whole number.",
    "float_type": "This must be a number.",
    "finite_number": "This must be an ordinary number.",
    "bool_type": "This must be true or false.",
    "list_type": "This must be a list.",
    "dict_type": "This must be an object.",
    "model_type": "This must be an object.",
    "model_attributes_type": "This must be an object.",
    "none_required": "This must be left out.",
    "decimal_type": "This must be a decimal number.",
    "decimal_parsing": "This must be a decimal number.",
    "string_too_short": "This must be at least {min_length} characters long.",
    "string_too_long": "This must be at most {max_length} characters long.",
    "too_short": "This must have at least {min_length} entries.",
    "too_long": "This must have at most {max_length} entries.",
    "greater_than": "This must be more than {gt}.",
    "greater_than_equal": "This must be at least {ge}.",
    "less_than": "This must be less than {lt}.",
    "less_than_equal": "This must be at most {le}.",
    "literal_error": "This must be {expected}.",
    "union_tag_invalid": "This is not one of the known kinds: {expected_tags}.",
    "union_tag_not_found": "The kind is missing: say which one it is with {discriminator}.",
    "string_pattern_mismatch": "This does not have the right form.",
}

_HINTS = {
    "missing": "Add it.",
    "extra_forbidden": "Remove it, or check its spelling against the tool's arguments.",
    "int_type": "Write it without quotes, for example 100.",
    "int_from_float": "Write it without a fraction, for example 100.",
    "float_type": "Write it without quotes, for example 0.7.",
    "bool_type": "Write true or false without quotes.",
}


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the arguments: where, what, and what to do about it."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.message} {self.hint}".rstrip()

    def as_dict(self) -> dict[str, str]:
        return {"path": self.path, "message": self.message, "hint": self.hint}


def refuse(message: str, hint: str, *, at: str = "") -> PydanticCustomError:
    """
    The error a validator raises to be quoted word for word: neither text may hold input.

    `at` names the field to blame, seen from where the validator sits.
    """
    # Texts go through the context, so that a brace in one is not read as a placeholder.
    return PydanticCustomError("refused", "{message}", {"message": message, "hint": hint, "at": at})


def explain(error: ValidationError, given: Any, refused: Mapping[str, str]) -> list[Problem]:
    """
    The problems in a refusal, in reading order, at most MOST_PROBLEMS of them.

    `refused` holds a hint for each top-level field that is unknown on purpose.
    """
    details = error.errors(include_url=False, include_input=False)
    problems = _most_exact([_problem(detail, given, refused) for detail in details[:MOST_DETAILS]])
    shown = problems[:MOST_PROBLEMS]
    return shown if len(shown) == len(problems) else [*shown, Problem("", "There are more problems.")]


def _most_exact(problems: list[Problem]) -> list[Problem]:
    """
    One problem per place, and none for a place when something inside it is to blame.

    A union that fits in no branch complains once per branch; the branch that was meant went deepest.
    """
    inside = {".".join(parts[:end]) for parts in (p.path.split(".") for p in problems) for end in range(1, len(parts))}
    first = {problem.path: problem for problem in reversed(problems)}
    return [problem for problem in dict.fromkeys(problems) if first[problem.path] is problem and _last(problem, inside)]


def _last(problem: Problem, inside: set[str]) -> bool:
    return not problem.path or problem.path not in inside


def _problem(detail: ErrorDetails, given: Any, refused: Mapping[str, str]) -> Problem:
    kind, context = detail["type"], detail.get("ctx", {})
    names = _own_names(detail["loc"], given, kind) or ()
    if kind == "refused":
        blamed = (*names, context["at"]) if context["at"] else names
        return Problem(field_path(blamed), context["message"], context["hint"])
    path = field_path(names)
    sentence = _SENTENCES.get(kind, "This value is not accepted.").format(**_plainly(context))
    hint = refused.get(path) if kind == "extra_forbidden" else None
    return Problem(path, sentence, hint or _HINTS.get(kind, ""))


def _plainly(context: Mapping[str, Any]) -> dict[str, Any]:
    return {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}


def _own_names(loc: Loc, given: Any, kind: str) -> Loc | None:
    """
    The part of pydantic's location that the caller wrote, or None when it cannot be.

    Between the names, pydantic puts the branch of a union it tried. A branch is recognised by not
    being found in what was given; where a branch is called like a field, the longer path is right.
    """
    if not loc:
        return ()
    head, rest = loc[0], loc[1:]
    if not rest and kind in ("missing", "extra_forbidden"):
        return loc if isinstance(given, dict) and (head in given) == (kind == "extra_forbidden") else None
    skipped = _own_names(rest, given, kind)
    inner = _own_names(rest, given[head], kind) if _has(given, head) else None
    kept = None if inner is None else (head, *inner)
    return max((path for path in (kept, skipped) if path is not None), key=len, default=None)


def _has(value: Any, name: int | str) -> bool:
    if isinstance(value, dict):
        return name in value
    return isinstance(value, list) and isinstance(name, int) and name < len(value)


def field_path(names: Sequence[int | str]) -> str:
    """`messages.0.content`; a name that is long, odd or looks like a key is not repeated."""
    return ".".join(_shown(name) for name in names)


def _shown(name: int | str) -> str:
    if isinstance(name, int):
        return str(name)
    return name if _NAME.fullmatch(name) and not _KEY.search(name) else "(a name that is not shown)"
