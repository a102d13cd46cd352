"""The model: the same answer to the same question, every time, without having read anything."""

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any

from . import tokens
from .ask import Ask, OfferedTool
from .invent import value_for
from .prose import about_tools, answer, thoughts
from .rules import Fault
from .wills import wanted

EXACTLY = re.compile(
    r"\b(?:reply|respond|answer|say|return|output)\s+(?:only\s+)?with\s+exactly(?:\s+the\s+words?)?:?\s*(.+)",
    re.I | re.S,
)
SAY_EXACTLY = re.compile(r"\bsay\s+exactly:?\s*(.+)", re.I | re.S)
QUOTES = "\"'`“”‘’"
DEFAULT_LENGTH = 4096
READ_CLOSELY = 20_000  # characters; the rest of a huge prompt is only counted


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants called. `arguments` is text where a script says so, broken or not."""

    id: str
    name: str
    arguments: dict[str, Any] | str

    @property
    def json(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments, ensure_ascii=False)


@dataclass(frozen=True)
class Thought:
    """What the model came up with. `finish` is stop, length or tool_calls; `stopped_by` a stop sequence."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    finish: str = "stop"
    stopped_by: str | None = None
    pieces: list[str] = field(default_factory=list)
    completion_tokens: int = 0
    reasoning_tokens: int = 0


def think(ask: Ask, *, model: str, reasons: bool, seed: int, will: Fault | None = None) -> Thought:
    """Answer as this model would; `reasons` adds what it thought first, `will` is what a script makes it want."""
    question = f"{seed}|{ask.seed}|{model}|{ask.conversation}".encode("utf-8", "surrogatepass")
    chance = Random(sha256(question).digest())  # noqa: S311 -- repeatable on purpose
    reasoning = thoughts(ask.last) if reasons else ""
    spent = tokens.count(reasoning)
    if calls := _wanted(ask, chance, will) or _calls(ask, chance):
        length = sum(tokens.count(call.name) + tokens.count(call.json) for call in calls)
        return Thought(
            tool_calls=calls,
            reasoning=reasoning,
            finish="tool_calls",
            completion_tokens=length + spent,
            reasoning_tokens=spent,
        )
    text, stopped_by = _stopped(_text(ask, chance), ask.stop)
    pieces = tokens.split(text)
    room = max((ask.max_tokens or DEFAULT_LENGTH) - spent, 0)
    finish = "length" if len(pieces) > room else "stop"
    pieces = pieces[:room]
    return Thought(
        text="".join(pieces),
        reasoning=reasoning,
        finish=finish,
        stopped_by=stopped_by if finish == "stop" else None,
        pieces=pieces,
        completion_tokens=len(pieces) + spent,
        reasoning_tokens=spent,
    )


def _text(ask: Ask, chance: Random) -> str:
    if ask.json_schema is not None:
        return json.dumps(value_for(ask.json_schema, prompt=ask.last, chance=chance), ensure_ascii=False)
    end = ask.last[-READ_CLOSELY:]
    if exact := EXACTLY.search(end) or SAY_EXACTLY.search(end):
        return exact[1].strip().strip(QUOTES)
    if ask.wants_json:
        return json.dumps({"answer": answer(ask.last, chance=chance)}, ensure_ascii=False)
    if ask.tool_results:
        return about_tools(ask.tool_results, ask.last)
    return answer(ask.last, chance=chance)


def _wanted(ask: Ask, chance: Random, will: Fault | None) -> tuple[ToolCall, ...]:
    """What a script makes it want. It does not care what was offered, or that it is to call nothing."""
    return tuple(ToolCall(_call_id(chance), name, given) for name, given in wanted(ask, will)) if will else ()


def _calls(ask: Ask, chance: Random) -> tuple[ToolCall, ...]:
    """The offered tools the prompt asks for by name; none once they have answered."""
    wanted = [tool for tool in ask.tools if _is_wanted(tool, ask)]
    if ask.tool_choice == "required" and ask.tools and not wanted:
        wanted = ask.tools[:1]
    if not ask.parallel_tools:
        wanted = wanted[:1]
    return tuple(_call(tool, ask.last, chance) for tool in wanted)


def _is_wanted(tool: OfferedTool, ask: Ask) -> bool:
    if ask.tool_choice == tool.name:
        return True
    if ask.tool_results or ask.tool_choice not in ("auto", "required"):
        return False
    name = re.escape(tool.name).replace("_", "[_ ]")
    return re.search(rf"(?<![\w-]){name}(?![\w-])", ask.last, re.IGNORECASE) is not None


def _call(tool: OfferedTool, prompt: str, chance: Random) -> ToolCall:
    given = _object_after(tool.name, prompt)
    arguments = given if given is not None else value_for(tool.schema, prompt=prompt, chance=chance)
    return ToolCall(_call_id(chance), tool.name, arguments or {})


def _call_id(chance: Random) -> str:
    return f"call_{''.join(chance.choices('abcdefghijklmnopqrstuvwxyz0123456789', k=24))}"


def _object_after(name: str, prompt: str) -> dict[str, Any] | None:
    """The JSON object written after a tool's name, if there is one."""
    start = prompt.find("{", max(prompt.lower().find(name.lower()), 0))
    if start < 0:
        return None
    try:
        value, _end = json.JSONDecoder().raw_decode(prompt[start:])
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _stopped(text: str, stops: list[str]) -> tuple[str, str | None]:
    found = [(text.find(stop), stop) for stop in stops if stop and stop in text]
    if not found:
        return text, None
    at, stop = min(found)
    return text[:at], stop
