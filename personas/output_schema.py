"""What a JSON Schema must be to give an answer its form. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

MOST_SCHEMA = 20_000  # characters
TYPES = {"string", "number", "integer", "boolean", "object", "array", "null"}


def problem_of_schema(schema: Mapping[str, Any]) -> str:
    """Say what keeps a schema from giving an answer its form, and where; empty when nothing does."""
    if schema.get("type") != "object" or not isinstance(schema.get("properties"), Mapping):
        return 'The schema must describe an object: give it "type": "object" and "properties".'
    return next(_problems(schema, "schema"), "")


def _problems(schema: Any, at: str) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        yield f"{at} must be an object."
        return
    yield from _own_problems(schema, at)
    for name in ("properties", "$defs"):
        inner = schema.get(name, {})
        if not isinstance(inner, Mapping):
            yield f"{at}.{name} must be an object."
            continue
        for key, child in inner.items():
            yield from _problems(child, f"{at}.{name}.{key[:40]}")
    for name in ("items", "additionalProperties"):
        yield from _problems(schema.get(name, True), f"{at}.{name}")
    for name in ("anyOf", "oneOf", "allOf"):
        for place, child in enumerate(_list(schema.get(name)), start=1):
            yield from _problems(child, f"{at}.{name}.{place}")


def _own_problems(schema: Mapping[str, Any], at: str) -> Iterator[str]:
    kind = schema.get("type", [])
    kinds = kind if isinstance(kind, list) else [kind]
    if any(not isinstance(word, str) or word not in TYPES for word in kinds):
        yield f"{at}.type is none of {', '.join(sorted(TYPES))}."
    reference = schema.get("$ref", "#")
    if not isinstance(reference, str) or not reference.startswith("#"):
        yield f"{at}.$ref leads out of the schema. Put what it names under $defs."
    required, known = schema.get("required", []), schema.get("properties", {})
    if not isinstance(required, list) or any(not isinstance(name, str) for name in required):
        yield f"{at}.required must be a list of names."
    elif isinstance(known, Mapping) and (missing := [name for name in required if name not in known]):
        yield f"{at}.required names {missing[0][:40]}, which is no property."


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
