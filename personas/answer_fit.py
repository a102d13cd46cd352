"""Whether an answer has the form that a JSON Schema gives it. Pure; the schema is one that `output_schema` accepts."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MOST_DEPTH = 60  # of schemas within schemas: one that names itself must end
SHOWN = 60  # characters of a value in a message
IS_TYPE: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
}


def problem_of_answer(schema: Mapping[str, Any], text: str) -> str:
    """Say what keeps an answer from having the form of a schema, and where; empty when nothing does."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "The answer is not JSON."
    return next(_problems(schema, value, "the answer", schema, 0), "")


def _problems(schema: Any, value: Any, at: str, root: Mapping[str, Any], depth: int) -> Iterator[str]:
    if depth > MOST_DEPTH:
        yield f"{at} is nested too deeply."
    elif schema is False:
        yield f"{at} is not expected."
    elif isinstance(schema, Mapping):
        yield from _own_problems(schema, value, at)
        yield from _combined(schema, value, at, root, depth + 1)
        yield from _inner(schema, value, at, root, depth + 1)


def _own_problems(schema: Mapping[str, Any], value: Any, at: str) -> Iterator[str]:
    kinds = _as_list(schema.get("type", []))
    if kinds and not any(IS_TYPE[kind](value) for kind in kinds):
        yield f"{at} should be {' or '.join(kinds)}."
    allowed = schema.get("enum") if "enum" in schema else [schema["const"]] if "const" in schema else None
    if allowed is not None and not any(_same(value, each) for each in allowed):
        yield f"{at} is {json.dumps(value)[:SHOWN]}, which is none of {json.dumps(allowed)[:200]}."
    yield from _out_of_bounds(schema, value, at)


BOUNDS: list[tuple[str, type | tuple[type, ...], Callable[[Any], Any], str]] = [
    ("minimum", (int, float), lambda value: value, "at least"),
    ("maximum", (int, float), lambda value: value, "at most"),
    ("minLength", str, len, "at least"),
    ("maxLength", str, len, "at most"),
    ("minItems", list, len, "at least"),
    ("maxItems", list, len, "at most"),
]


def _out_of_bounds(schema: Mapping[str, Any], value: Any, at: str) -> Iterator[str]:
    for name, kind, measure, words in BOUNDS:
        bound = schema.get(name)
        if not isinstance(value, kind) or isinstance(value, bool) or not IS_TYPE["number"](bound):
            continue
        found = measure(value)
        if found < bound if words == "at least" else found > bound:
            yield f"{at} should be {words} {bound}{' long' if measure is len else ''}."


def _combined(schema: Mapping[str, Any], value: Any, at: str, root: Mapping[str, Any], depth: int) -> Iterator[str]:
    if "$ref" in schema:
        yield from _problems(_referred(schema["$ref"], root), value, at, root, depth)
    for each in _as_list(schema.get("allOf", [])):
        yield from _problems(each, value, at, root, depth)
    for name in ("anyOf", "oneOf"):
        choices = _as_list(schema.get(name, []))
        fitting = sum(next(_problems(each, value, at, root, depth), "") == "" for each in choices)
        if choices and (fitting == 0 or (name == "oneOf" and fitting > 1)):
            yield f"{at} fits {'none' if not fitting else 'more than one'} of the forms it may have."


def _inner(schema: Mapping[str, Any], value: Any, at: str, root: Mapping[str, Any], depth: int) -> Iterator[str]:
    if isinstance(value, list):
        for place, each in enumerate(value, start=1):
            yield from _problems(schema.get("items", True), each, f"{at}.{place}", root, depth)
    if not isinstance(value, dict):
        return
    known = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            yield f"{at} has no “{name[:SHOWN]}”."
    for name, each in value.items():
        rule = known.get(name, schema.get("additionalProperties", True))
        yield from _problems(rule, each, f"{at}.{name[:SHOWN]}", root, depth)


def _referred(reference: Any, root: Mapping[str, Any]) -> Any:
    """What a reference within the schema names; what names nothing asks for nothing."""
    found: Any = root
    for part in str(reference).removeprefix("#").split("/")[1:]:
        found = found.get(part.replace("~1", "/").replace("~0", "~"), True) if isinstance(found, Mapping) else True
    return found


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same in JSON, where true is no 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)
