"""
Turns refused arguments into sentences a person or a model can act on.

What was given is never repeated: it may be a megabyte long, or a key pasted into the wrong field.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

Loc = tuple[int | str, ...]

MOST_PROBLEMS = 20
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


def refuse(message: str, hint: str) -> PydanticCustomError:
    """The error a validator raises to be quoted word for word. Neither text may hold input."""
    # Arguments go through the context, so that a brace in a text is not read as a placeholder.
    return PydanticCustomError("refused", "{message}", {"message": message, "hint": hint})


def explain(error: ValidationError, given: Any) -> list[Problem]:
    """The problems in a refusal, in reading order, at most MOST_PROBLEMS of them."""
    details = error.errors(include_url=False, include_input=False)
    problems = [_problem(detail, given) for detail in details[:MOST_PROBLEMS]]
    left = len(details) - len(problems)
    return [*problems, Problem("", f"And {left} more problems.")] if left else problems


def _problem(detail: ErrorDetails, given: Any) -> Problem:
    kind, context = detail["type"], detail.get("ctx", {})
    path = field_path(_own_names(detail["loc"], given, keep_last=kind in ("missing", "extra_forbidden")))
    if kind == "refused":
        return Problem(path, context["message"], context["hint"])
    sentence = _SENTENCES.get(kind, "This value is not accepted.")
    return Problem(path, sentence.format(**context), _HINTS.get(kind, ""))


def _own_names(loc: Loc, given: Any, *, keep_last: bool) -> Loc:
    """
    The part of pydantic's location that the caller wrote.

    Between the names, pydantic puts the branch of a union it tried. A branch is recognised by not
    being found in what was given; where a branch is called like a field, the longer path is right.
    """
    if not loc:
        return ()
    head, rest = loc[0], loc[1:]
    if not rest and keep_last:
        return loc
    skipped = _own_names(rest, given, keep_last=keep_last)
    if not _has(given, head):
        return skipped
    kept = (head, *_own_names(rest, given[head], keep_last=keep_last))
    return max(kept, skipped, key=len)


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
