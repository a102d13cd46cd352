"""
A tool's arguments as a form: simple fields from its JSON Schema, everything else as JSON.

Pure: a page lays the fields out, and what comes back becomes arguments for the tool's own check.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from integrations.invalid import Problem, field_path
from integrations.registry import InvalidArguments, Tool, json_schema
from integrations.strict_json import NotPlainJson, load_object

Kind = Literal["text", "textarea", "number", "integer", "choice", "bool", "list", "json"]
Posted = Mapping[str, str | Sequence[str]]

PROMPT = "prompt"
SYSTEM = "system"
ADVANCED_JSON = "advanced_json"
# In a conversation these few are enough for most questions; the rest folds away.
_SHOWN_WITH_PROMPT = ("model", "max_completion_tokens", "max_tokens", "temperature")
_PAGING = ("offset", "limit")

_LABELS = {
    "q": "Search",
    "id": "Generation id",
    "zdr": "Zero data retention",
    "min_context": "Smallest context",
    "max_prompt_price": "Highest price of input",
    "max_output_price": "Highest price of output",
    "chain_id": "Chain",
    "slug": "Provider slugs",
    "impact_on": "Check these models",
    "max_completion_tokens": "Longest answer",
    "max_tokens": "Longest answer",
}
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?")
_BOOLS = {"true": True, "on": True, "false": False}


@dataclass(frozen=True)
class Field:
    """
    One field of a form.

    `minimum` and `maximum` are the smallest and largest number, or the shortest and longest text or
    list. A bool has three states: nothing chosen leaves the tool's default. A list takes several
    values, or one text with a value per line or between commas. `advanced` fields fold away.
    """

    name: str
    label: str
    kind: Kind
    required: bool = False
    help: str = ""
    minimum: float | None = None
    maximum: float | None = None
    default: Any = None
    choices: tuple[str, ...] = ()
    example: str = ""
    advanced: bool = False


# --- describing ---------------------------------------------------------------------------


def form_fields(tool: Tool) -> list[Field]:
    """The fields of a tool's form, in the order in which to show them, `advanced` ones last."""
    return _form_fields(json_schema(tool))


def _form_fields(schema: Mapping[str, Any]) -> list[Field]:
    fields = [*_conversation(schema), *_simple_fields(schema)]
    rich = _json_only(schema)
    if rich:
        fields.append(_advanced_json(rich))
    return sorted(fields, key=lambda field: (field.advanced, not field.required))


def _talks(schema: Mapping[str, Any]) -> bool:
    return "messages" in schema["properties"]


def _conversation(schema: Mapping[str, Any]) -> list[Field]:
    if not _talks(schema):
        return []
    told = "What the model is told before the conversation."
    return [
        Field(PROMPT, "Prompt", "textarea", required=True, help="What you ask the model.", minimum=1),
        Field(SYSTEM, "System prompt", "textarea", help=told),
    ]


def _simple_fields(schema: Mapping[str, Any]) -> list[Field]:
    fields = (_field(name, spec, schema) for name, spec in schema["properties"].items())
    return [field for field in fields if field is not None]


def _json_only(schema: Mapping[str, Any]) -> list[str]:
    names = schema["properties"]
    return [name for name in names if name != SYSTEM and _field(name, names[name], schema) is None]


def _advanced_json(names: Sequence[str]) -> Field:
    help_text = f"One JSON object with any further arguments: {', '.join(names)}."
    if "messages" in names:
        help_text += " Messages given here come before the prompt."
    return Field(ADVANCED_JSON, "Advanced JSON", "json", help=help_text, example="{}", advanced=True)


def _field(name: str, spec: Mapping[str, Any], schema: Mapping[str, Any]) -> Field | None:
    """The field for one argument, or None when it is too rich for one."""
    shape = _shape(spec)
    kind = _kind(shape)
    if kind is None:
        return None
    items = shape.get("items", {}) if kind == "list" else shape
    needed = name in schema.get("required", ()) or (_talks(schema) and name == "model")
    return Field(
        name=name,
        label=_LABELS.get(name, name.replace("_", " ").capitalize()),
        kind=kind,
        required=needed,
        help=spec.get("description", shape.get("description", "")),
        minimum=_first(shape, "minimum", "exclusiveMinimum", "minLength", "minItems"),
        maximum=_first(shape, "maximum", "exclusiveMaximum", "maxLength", "maxItems"),
        default=spec.get("default"),
        choices=tuple(str(choice) for choice in items.get("enum", ())),
        example=next(iter(items.get("examples", ())), ""),
        advanced=name in _PAGING or (_talks(schema) and name not in _SHOWN_WITH_PROMPT),
    )


def _shape(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one shape an argument has when it is set. Of "a text or several" it is the list."""
    branches = [branch for branch in spec.get("anyOf", [spec]) if branch.get("type") != "null"]
    if len(branches) == 2 and [branch.get("type") for branch in branches] == ["string", "array"]:
        branches = branches[1:]
    return branches[0] if len(branches) == 1 else {}


def _kind(shape: Mapping[str, Any]) -> Kind | None:
    match shape:
        case {"enum": _} | {"const": _}:
            return "choice"
        case {"type": "string"}:
            return "text"
        case {"type": "integer"}:
            return "integer"
        case {"type": "number"}:
            return "number"
        case {"type": "boolean"}:
            return "bool"
        case {"type": "array", "items": {"type": "string"}}:
            return "list"
        case _:
            return None


def _first(shape: Mapping[str, Any], *names: str) -> float | None:
    return next((shape[name] for name in names if name in shape), None)


# --- reading ------------------------------------------------------------------------------


def parse_form(tool: Tool, posted: Posted) -> dict[str, Any]:
    """
    Turn what a form posted into arguments, for parse_arguments to check.

    Pass the tool's own fields only, without the page's token or buttons. Empty fields are left out.
    Raises InvalidArguments for a field the form does not have and for a value of the wrong kind.
    """
    schema = json_schema(tool)
    fields = {field.name: field for field in _form_fields(schema)}
    texts = {name: _texts(value) for name, value in posted.items()}
    problems = [_unknown(name) for name in texts if name not in fields]
    values: dict[str, Any] = {}
    for name, given in texts.items():
        if name in fields and any(text.strip() for text in given):
            try:
                values[name] = _value(fields[name], given)
            except _Wrong as wrong:
                problems.append(Problem(name, str(wrong)))
    if problems:
        raise InvalidArguments(problems)
    return _arguments(values, schema)


class _Wrong(Exception):
    """A value that its field cannot hold."""


def _unknown(name: str) -> Problem:
    return Problem(field_path([name]), "There is no such field.", "Reload the page and fill in the form again.")


def _texts(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _value(field: Field, given: list[str]) -> Any:
    if field.kind == "list":
        return [part.strip() for text in given for part in re.split(r"[,\n]", text) if part.strip()]
    if len(given) > 1:
        raise _Wrong("This field takes one value.")
    text = given[0]
    if field.kind == "textarea":
        return text.replace("\r\n", "\n")
    return _scalar(field, text.strip())


def _scalar(field: Field, text: str) -> Any:
    match field.kind:
        case "integer":
            return _integer(text)
        case "number":
            return _number(text)
        case "bool":
            return _bool(text)
        case "choice":
            return _choice(field, text)
        case "json":
            return _json(text)
        case _:
            return text


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise _Wrong("This must be a whole number.")
    return int(text)


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise _Wrong("This must be a number, for example 0.7.")
    return float(text)


def _bool(text: str) -> bool:
    if text not in _BOOLS:
        raise _Wrong("This must be yes or no.")
    return _BOOLS[text]


def _choice(field: Field, text: str) -> str | int:
    if text not in field.choices:
        raise _Wrong("Choose one of the options.")
    return int(text) if all(choice.isdecimal() for choice in field.choices) else text


def _json(text: str) -> dict[str, Any]:
    try:
        return load_object(text)
    except NotPlainJson as error:
        raise _Wrong(f"{error} {error.hint}".rstrip()) from None


def _arguments(values: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    advanced = values.pop(ADVANCED_JSON, {})
    twice = sorted(set(values) & set(advanced))
    if twice:
        hint = "Remove it from the JSON, or empty the field."
        raise InvalidArguments([Problem(field_path([name]), "This is also in Advanced JSON.", hint) for name in twice])
    if not _talks(schema):
        return values | advanced
    return _with_messages(values, advanced, has_system=SYSTEM in schema["properties"])


def _with_messages(values: dict[str, Any], advanced: dict[str, Any], *, has_system: bool) -> dict[str, Any]:
    """Put the system prompt first, earlier messages next and the prompt last."""
    told = [] if has_system else _said("system", values.pop(SYSTEM, ""))
    asked = _said("user", values.pop(PROMPT, ""))
    earlier = advanced.get("messages", [])
    # What is no list is left as it is, for the tool's own check to explain.
    messages = [*told, *earlier, *asked] if isinstance(earlier, list) else earlier
    return values | advanced | {"messages": messages}


def _said(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}] if content else []
