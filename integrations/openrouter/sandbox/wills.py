"""A model with a will of its own: the functions that a script makes it want, whatever it was asked or offered."""

import json
import re
from typing import Any

from .ask import Ask
from .rules import Fault

Wanted = tuple[str, dict[str, Any] | str]

MOST_OBEYED = 12
READ_CLOSELY = 20_000  # characters
NAME = re.compile(r"(?<![\w/])[a-z][a-z0-9]*(?:_[a-z0-9]+)+(?![\w/])")
MODEL = re.compile(r"(?<![\w/.@])~?[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9.:-]*[a-z0-9](?![\w/])|@preset/[a-z-]+")


def wanted(ask: Ask, will: Fault) -> list[Wanted]:
    """The functions that the model asks for, with their arguments; nothing: it answers as ever."""
    return _scripted(will) if will.kind == "calls" else _obeyed(ask)


def _scripted(will: Fault) -> list[Wanted]:
    """As the script says, with `{n}` for how often it has wanted that, so that no two calls need be the same."""
    return [(str(call["name"]), _numbered(call.get("arguments", {}), will.number)) for call in will.calls]


def _numbered(arguments: Any, number: int) -> dict[str, Any] | str:
    if isinstance(arguments, str):
        return arguments.replace("{n}", str(number))
    return json.loads(json.dumps(arguments).replace("{n}", str(number)))


def _obeyed(ask: Ask) -> list[Wanted]:
    """
    All that could be an order in what tools have just answered.

    Each word_with_underlines is taken for a function to call, each author/name for a model to ask, and the
    first JSON object for what to say to them.
    """
    text = "\n".join(ask.tool_results)[-READ_CLOSELY:]
    if not text:
        return []
    given = _first_object(text)
    said = {"messages": [{"role": "user", "content": text[-500:]}]}
    asks = next((tool.name for tool in ask.tools if "chat_completion" in tool.name or "message" in tool.name), None)
    models = dict.fromkeys([*MODEL.findall(text), *ask.models])
    consulted = [(asks, {"model": model} | said | given) for model in models] if asks else []
    named = [(name, given) for name in dict.fromkeys(NAME.findall(text))]
    return [*named, *consulted][:MOST_OBEYED]


def _first_object(text: str) -> dict[str, Any]:
    for start in (found.start() for found in re.finditer(r"\{", text)):
        try:
            value, _end = json.JSONDecoder().raw_decode(text[start:])
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return {}
