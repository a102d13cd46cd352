"""Checks of single fields, with messages that name the field. Unknown fields pass: the service ignores them too."""

from typing import Any

from .errors import invalid

# Field: lowest, highest, whole numbers only.
CHAT_NUMBERS = {
    "temperature": (0, 2, False),
    "top_p": (0, 1, False),
    "min_p": (0, 1, False),
    "top_a": (0, 1, False),
    "frequency_penalty": (-2, 2, False),
    "presence_penalty": (-2, 2, False),
    "repetition_penalty": (0, 2, False),
    "top_k": (0, None, True),
    "top_logprobs": (0, 20, True),
    "max_tokens": (1, None, True),
    "max_completion_tokens": (1, None, True),
    "seed": (None, None, True),
}
MESSAGES_NUMBERS = {
    "temperature": (0, 2, False),
    "top_p": (0, 1, False),
    "top_k": (0, None, True),
    "max_tokens": (1, None, True),
}
LONGEST_ID = 256


def check_numbers(body: dict[str, Any], rules: dict[str, tuple[float | None, float | None, bool]]) -> None:
    for name, (low, high, whole) in rules.items():
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or (whole and value != int(value)):
            raise invalid(f"{name}: expected {'a whole number' if whole else 'a number'}")
        if (low is not None and value < low) or (high is not None and value > high):
            raise invalid(
                f"{name}: expected a value from {low} to {high}" if high is not None else f"{name}: at least {low}"
            )


def check_ids(body: dict[str, Any]) -> None:
    for name in ("user", "session_id"):
        value = body.get(name)
        if value is not None and (not isinstance(value, str) or len(value) > LONGEST_ID):
            raise invalid(f"{name}: expected a string of at most {LONGEST_ID} characters")


def texts(body: dict[str, Any], name: str, *, most: int | None = None) -> list[str]:
    """A field that is a string, a list of strings or absent, as a list."""
    value = body.get(name)
    if value is None:
        return []
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise invalid(f"{name}: expected a string or an array of strings")
    if most is not None and len(found) > most:
        raise invalid(f"{name}: at most {most} entries")
    return found


def models(body: dict[str, Any], extra: list[str]) -> list[str]:
    """Every model to try, in order, each once."""
    first = body.get("model")
    if first is not None and not isinstance(first, str):
        raise invalid("model: expected a string")
    named = [first] if first else []
    return list(dict.fromkeys([*named, *extra]))


def objects(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A field that is a list of objects or absent."""
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise invalid(f"{name}: expected an array of objects")
    return value


def mapping(body: dict[str, Any], name: str) -> dict[str, Any]:
    """A field that is an object or absent."""
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise invalid(f"{name}: expected an object")
    return value or {}
