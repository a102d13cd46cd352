"""Writes the guide to the tools of every integration out of the tools themselves: python -m integrations.describe."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from integrations.registry import Integration, Tool, integrations, json_schema

CREDENTIALS = {
    "api_key": "a connected {noun}",
    "management": "a management key",
    "optional": "none; with an API key some figures are fuller",
    "none": "none",
}


def guide() -> str:
    """The text of docs/tools.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Tools"
    yield ""
    yield "Written by `python -m integrations.describe > docs/tools.md`; change the tools, not this page."
    yield ""
    yield "Every tool answers in one shape: `{successful, data, error, meta}`. Arguments that a tool does not know"
    yield "are refused. User, session, metadata and streaming are filled in by the platform. Prices are US dollars"
    yield "per million tokens, as decimal text; `null` means that the price varies."
    for integration in integrations():
        yield from _integration(integration)


def _integration(integration: Integration) -> Iterator[str]:
    yield ""
    yield f"## {integration.name}"
    yield ""
    yield f"{integration.about}{f' Keys: <{integration.key_url}>.' if integration.key_url else ''}"
    for tool in integration.tools:
        yield from _tool(tool, integration.connecting.noun)
    yield from _shapes(integration)


def _tool(tool: Tool, noun: str) -> Iterator[str]:
    yield ""
    yield f"### {tool.title}"
    yield ""
    yield f"`{tool.name}`: {tool.summary}"
    if tool.hints.retired:
        yield ""
        yield f"**Withdrawn.** {tool.retired_because} Instead: <{tool.instead_url}>. No model is offered this tool."
    yield ""
    yield f"- When to use: {tool.when_to_use}"
    yield f"- Credential: {CREDENTIALS[tool.credential].format(noun=noun)}"
    yield f"- Effects: {_effects(tool)}"
    yield ""
    yield from _arguments(json_schema(tool))


def _shapes(integration: Integration) -> Iterator[str]:
    """Every named shape that the tables refer to, one line each."""
    shapes: dict[str, Mapping[str, Any]] = {}
    for tool in integration.tools:
        shapes |= json_schema(tool).get("$defs", {})
    if not shapes:
        return
    yield ""
    yield "### Shapes"
    yield ""
    for name, shape in sorted(shapes.items()):
        yield f"- **{name}**: {'; '.join(_parts(shape))}"


def _parts(shape: Mapping[str, Any]) -> Iterator[str]:
    for name, spec in shape["properties"].items():
        needed = " (required)" if name in shape.get("required", ()) else ""
        yield f"`{name}` {_type(spec)}{needed}"


def _effects(tool: Tool) -> str:
    hints = tool.hints
    said = [
        "only reads" if hints.read_only else "",
        "spends money" if hints.spends_money else "",
        _repeats(tool),
        "the call holds text of the team's" if hints.holds_text else "",
    ]
    return ", ".join(words for words in said if words)


def _repeats(tool: Tool) -> str:
    if tool.hints.keeps_id:
        return "repeated by itself under the same id, but never in doubt"
    return "safe to repeat" if tool.hints.repeatable else "not repeated by itself"


def _arguments(schema: Mapping[str, Any]) -> Iterator[str]:
    if not schema["properties"]:
        yield "It takes no arguments."
        return
    yield "| Argument | Type | Default | Meaning |"
    yield "|---|---|---|---|"
    for name, spec in schema["properties"].items():
        default = "required" if name in schema.get("required", ()) else _default(spec.get("default"))
        meaning = spec.get("description", "").replace("\n", " ")
        yield f"| `{name}` | {_type(spec)} | {default} | {meaning} |"


def _default(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(spec: Mapping[str, Any]) -> str:
    """A short name for a schema, with its range."""
    branches = spec.get("anyOf") or spec.get("oneOf")
    if branches:
        named = [_type(branch) for branch in branches if branch.get("type") != "null"]
        return " or ".join(dict.fromkeys(named))
    if "$ref" in spec:
        return spec["$ref"].rsplit("/", 1)[-1]
    if "enum" in spec or "const" in spec:
        return ", ".join(f"`{choice}`" for choice in spec.get("enum", [spec.get("const")]))
    if spec.get("type") == "array":
        return f"list of {_type(spec['items'])}" if spec["items"] else "list"
    return f"{_WORDS.get(spec.get('type', ''), 'anything')}{_range(spec)}"


_WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "yes or no", "object": "object"}


def _range(spec: Mapping[str, Any]) -> str:
    low = spec.get("minimum", spec.get("exclusiveMinimum"))
    high = spec.get("maximum", spec.get("exclusiveMaximum"))
    if low is None or high is None or abs(high) > 10**12:
        return ""
    above = "above " if "exclusiveMinimum" in spec else ""
    return f", {above}{low} to {high}"


if __name__ == "__main__":
    sys.stdout.write(guide())
