"""
JSON from strangers, read strictly: data only, bounded in size and depth, with one meaning.

What comes out is made of dict, list, str, int, float, bool and None. Nothing in the text names a
type, a class or a place to fetch something from.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

MOST_BYTES = 10 * 1024 * 1024  # a conversation with its pictures; what a form brings, its page bounds
MOST_DEPTH = 20
MOST_DIGITS = 40
MOST_VALUES = 100_000
MIB = 1024 * 1024


class NotPlainJson(ValueError):
    """The JSON is refused; the message says why without repeating any of it, `hint` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def load_object(text: str | bytes) -> dict[str, Any]:
    """Read JSON text that holds one object. Raises NotPlainJson."""
    _check_size(len(text))
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_int, parse_float=_float
        )
    except NotPlainJson:
        raise
    except (ValueError, RecursionError):
        raise NotPlainJson("This is not JSON.", "Check quotes, commas and brackets.") from None
    return check_object(value)


def check_object(value: Any) -> dict[str, Any]:
    """Return the object if it is plain JSON data within the limits. Raises NotPlainJson."""
    if not isinstance(value, Mapping):
        raise NotPlainJson("The arguments must be one JSON object.", 'Write {"name": value, …}.')
    plain = dict(value)
    size, seen, todo = 0, 0, [(plain, 1)]
    while todo:
        item, depth = todo.pop()
        seen += 1
        if seen > MOST_VALUES:
            raise NotPlainJson(
                f"The arguments hold more than {MOST_VALUES:,} values.", "Split them over several calls."
            )
        if depth > MOST_DEPTH:
            raise NotPlainJson(f"This is nested more than {MOST_DEPTH} levels deep.", "Flatten it.")
        size += _own_size(item)
        _check_size(size)
        todo += [(child, depth + 1) for child in _children(item)]
    return plain


def _children(item: Any) -> list[Any]:
    if type(item) is dict:
        return [*item.keys(), *item.values()] if all(type(key) is str for key in item) else [_NOT_JSON]
    return item if type(item) is list else []


def _own_size(item: Any) -> int:
    # Exact types: a subclass of str may be a secret, or anything else that only looks like text.
    if type(item) is str:
        return _utf8_length(item) + 2
    if type(item) is float and not math.isfinite(item):
        _no_constant("")
    if type(item) is int and abs(item) >= 10**MOST_DIGITS:
        _too_many_digits()
    if item is None or type(item) in (bool, int, float, list, dict):
        return 2
    raise NotPlainJson("Only text, numbers, true, false, null, lists and objects are accepted.")


def _utf8_length(text: str) -> int:
    if "\0" in text:
        raise NotPlainJson("A text holds the NUL character, which cannot be stored.", "Remove it.")
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise NotPlainJson("A text holds half of a character pair.", "Send valid Unicode.") from None


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        raise NotPlainJson(
            f"The arguments are larger than {MOST_BYTES // MIB} MiB.",
            "Shorten the text, refer to pictures and files by https address, or split the work into several calls.",
        )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise NotPlainJson("An object names one field twice.", "Keep one of the two.")
    return made


def _no_constant(_: str) -> Any:
    raise NotPlainJson("NaN and Infinity are not accepted.", "Use an ordinary number.")


def _too_many_digits() -> Any:
    raise NotPlainJson(f"A number has more than {MOST_DIGITS} digits.", "Use a shorter number.")


def _int(text: str) -> int:
    return _too_many_digits() if len(text) > MOST_DIGITS else int(text)


def _float(text: str) -> float:
    return float(text) if math.isfinite(float(text)) else _no_constant(text)


_NOT_JSON = object()
