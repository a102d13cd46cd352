"""Values that fit a JSON Schema, taken from the prompt where it offers any."""

import re
from random import Random
from typing import Any

from .prose import phrases

QUOTED = re.compile(r"[\"“']([^\"”'\n]{1,120})[\"”']")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])")
FORMATS = {
    "date": "2026-01-15",
    "date-time": "2026-01-15T09:30:00Z",
    "time": "09:30:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "3f2b8c1e-7d4a-4b6e-9a55-0c1d2e3f4a5b",
    "ipv4": "192.0.2.1",
}
DEEPEST = 12


def value_for(schema: Any, *, prompt: str, chance: Random) -> Any:
    """A value of this schema; keywords it does not know are taken as met."""
    return _Inventor(schema if isinstance(schema, dict) else {}, prompt, chance).value(schema, "", 0)


class _Inventor:
    """Walks a schema, handing out the prompt's quoted texts and numbers in order."""

    def __init__(self, root: dict[str, Any], prompt: str, chance: Random) -> None:
        self._root = root
        self._chance = chance
        self._quoted = QUOTED.findall(prompt[:20_000])
        self._numbers = NUMBER.findall(prompt[:20_000])
        self._words = phrases(prompt, 8) or ["example"]
        self._used = 0

    def value(self, schema: Any, name: str, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > DEEPEST:
            return None
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._chosen(schema["enum"])
        return self._typed(schema, name, depth)

    def _resolved(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        for _hop in range(DEEPEST):
            if "$ref" in schema:
                schema = self._pointed_at(schema["$ref"])
            elif options := schema.get("anyOf") or schema.get("oneOf"):
                # Deep inside, prefer the shortest way out of a schema that contains itself.
                plain = [option for option in options if option.get("type") != "null"]
                schema = options[-1] if depth > DEEPEST // 2 or not plain else plain[0]
            elif parts := schema.get("allOf"):
                schema = self._together(schema, [self._resolved(part, depth) for part in parts])
            else:
                return schema
        return {}

    def _pointed_at(self, reference: str) -> dict[str, Any]:
        found: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
        return found if isinstance(found, dict) else {}

    def _together(self, schema: dict[str, Any], parts: list[dict[str, Any]]) -> dict[str, Any]:
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in parts:
            properties = {**merged.get("properties", {}), **part.get("properties", {})}
            required = [*merged.get("required", []), *part.get("required", [])]
            merged = merged | part | {"properties": properties, "required": required}
        return merged

    def _typed(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "null")
        makers = {"object": self._object, "array": self._array, "string": self._string}
        if kind in makers:
            return makers[kind](schema, name, depth)
        if kind in ("integer", "number"):
            return self._number(schema, whole=kind == "integer")
        return True if kind == "boolean" else None

    def _object(self, schema: dict[str, Any], _name: str, depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        # Everything near the top; further down only what must be there, so that recursion ends.
        names = [name for name in properties if depth < 3 or name in required]
        missing = [name for name in required if name not in properties]
        return {
            name: self.value(properties.get(name, {"type": "string"}), name, depth + 1) for name in [*names, *missing]
        }

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        least, most = schema.get("minItems", 0), schema.get("maxItems", 20)
        number = least if depth > 4 else min(max(least, 3), most)
        prefix = schema.get("prefixItems") or []
        kinds = [prefix[index] if index < len(prefix) else schema.get("items", {}) for index in range(number)]
        return [self.value(kind, name, depth + 1) for kind in kinds]

    def _string(self, schema: dict[str, Any], name: str, _depth: int) -> str:
        text = FORMATS.get(schema.get("format", "")) or self._words_for(name)
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        text = text if len(text) >= least else (text + " ").ljust(least, ".")
        return text if most is None else text[:most]

    def _words_for(self, name: str) -> str:
        if self._quoted:
            return self._quoted.pop(0)
        self._used += 1
        word = self._words[(self._used - 1) % len(self._words)]
        return f"{word.capitalize()} stands out." if name in ("summary", "description", "reason", "text") else word

    def _number(self, schema: dict[str, Any], *, whole: bool) -> float | int:
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high = schema.get("maximum", schema.get("exclusiveMaximum", low + 100))
        wanted = float(self._numbers.pop(0)) if self._numbers else low + (high - low) * self._chance.random()
        within = min(max(wanted, low), high)
        if step := schema.get("multipleOf"):
            within = within // step * step
        if within == schema.get("exclusiveMinimum") or (whole and within < low):
            within += schema.get("multipleOf", 1 if whole else (high - low) / 2)
        return int(within) if whole else round(within, 4)

    def _chosen(self, options: list[Any]) -> Any:
        named = [option for option in options if str(option).lower() in " ".join(self._words)]
        return (named or options)[0] if named else self._chance.choice(options)
