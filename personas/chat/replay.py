"""
A conversation as a model is told it, in either of the two formats. Pure.

What a model said in this format before goes back as it came; what came in the other one is told
again: text and tool calls, without the reasoning, which only its own model could check.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from personas.chat.history import NO_ANSWER, Asked, History, Result, Step, Turn
from personas.chat.uploads import as_parts

Format = Literal["chat", "messages"]
Message = dict[str, Any]

MEDIA = {"image_url", "image", "file", "document"}
MEDIA_BYTES = 6_000  # what a picture or a page weighs, as if it were text
DOCUMENT_BYTES = 60_000
FIRST = "[This conversation began with:]"
LEFT_OUT = "[{count} later messages and their answers are left out, because the conversation is long.]"
RESULT_LEFT_OUT = "[What this tool answered is left out, because the conversation is long.]"
NO_TEXT = "[No text.]"
LONGEST_ID = 200  # characters of a call's id, by which its result is found
DEEPEST = 8  # levels; a call's arguments may be 20 deep in all
UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
# The blocks that may go back, with the fields that the service takes.
BLOCKS = {
    "text": ("text", "citations"),
    "tool_use": ("id", "name", "input"),
    "thinking": ("thinking", "signature"),
    "redacted_thinking": ("data",),
}
THOUGHTS = ("thinking", "redacted_thinking")


def render(
    history: History, format: Format, *, room: int, keeps: Callable[[Step, bool], bool], tools: bool
) -> list[Message]:
    """
    Return the messages of a conversation, the last turn always, earlier ones while `room` bytes last.

    `keeps(step, is_current)` says whose reasoning goes back. Without `tools` on offer, what tools
    did is told as text: some services refuse tool calls in a request that offers none.
    """
    write = _Chat(keeps, tools) if format == "chat" else _Messages(keeps, tools)
    *earlier, current = history.turns
    last = _within(write, current, room)
    told = [write.turn(turn, is_current=False) for turn in earlier]
    room -= weight(last)
    if not history.first and sum(map(weight, told)) <= room:
        return [message for each in [*told, last] for message in each]
    return _shortened(history, told, last, max(0, room))


def _shortened(history: History, told: Sequence[list[Message]], last: list[Message], room: int) -> list[Message]:
    """The newest turns that fit, with the words that began the conversation before them."""
    first = history.first or history.turns[0].text
    first = first if _size(first) * 2 <= room else ""
    room -= _size(first)
    start = len(told)
    while start and (room := room - weight(told[start - 1])) >= 0:
        start -= 1
    left_out = history.left_out + start + bool(history.first) - bool(first)
    messages = [message for each in [*told[start:], last] for message in each]
    words = [*([FIRST, first] if first else []), *([LEFT_OUT.format(count=left_out)] if left_out else [])]
    if words:
        messages[0] = _after("\n\n".join(words), messages[0])
    return messages


def _after(words: str, message: Message) -> Message:
    """The message with these words before its own."""
    content = message["content"]
    rest = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return message | {"content": [{"type": "text", "text": words}, *rest]}


def _within(write: "_Writer", turn: Turn, room: int) -> list[Message]:
    """The turn under way, without the oldest results of its tools where it would not fit."""
    told = write.turn(turn, is_current=True)
    for step in turn.steps[:-1]:
        if weight(told) <= room:
            break
        cut = {id: Result(RESULT_LEFT_OUT, result.is_error) for id, result in step.results.items()}
        turn = replace(turn, steps=tuple(replace(each, results=cut) if each is step else each for each in turn.steps))
        told = write.turn(turn, is_current=True)
    return told


def weight(messages: Iterable[Message]) -> int:
    """How many bytes of text these messages are, pictures and documents at a flat rate."""
    return sum(_weight(message) for message in messages)


def _weight(message: Message) -> int:
    content = message.get("content")
    if not isinstance(content, list):
        return _size(message)
    flat = sum(DOCUMENT_BYTES if part["type"] in ("file", "document") else MEDIA_BYTES for part in _media(content))
    return flat + _size(message | {"content": [part for part in content if part["type"] not in MEDIA]})


def _media(content: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return (part for part in content if part["type"] in MEDIA)


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))


# --- writing turns ----------------------------------------------------------------------


class _Writer:
    """What both formats share."""

    format: Format

    def __init__(self, keeps: Callable[[Step, bool], bool], tools: bool) -> None:
        self.keeps, self.tools = keeps, tools

    def turn(self, turn: Turn, *, is_current: bool) -> list[Message]:
        """The messages of one turn."""
        told = [self.question(turn)]
        if self.tools:
            for step in turn.steps:
                told += self.step(step, keeps=step.format == self.format and self.keeps(step, is_current))
        elif turn.steps:
            told.append(self.answer("\n\n".join(_in_words(step) for step in turn.steps)))
        if turn.ending:
            told.append(self.answer(turn.ending))
        return told

    def question(self, turn: Turn) -> Message:
        parts = as_parts(turn.files, self.format)
        if not parts:
            return {"role": "user", "content": turn.text or NO_TEXT}
        words = [{"type": "text", "text": turn.text}] if turn.text else []
        return {"role": "user", "content": [*parts, *words]}

    def answer(self, text: str) -> Message:
        return {"role": "assistant", "content": text or NO_ANSWER}

    def step(self, step: Step, *, keeps: bool) -> list[Message]:
        raise NotImplementedError


class _Chat(_Writer):
    """Chat completions."""

    format = "chat"

    def step(self, step: Step, *, keeps: bool) -> list[Message]:
        text = _text(step)
        message: Message = {"role": "assistant", "content": text or (None if step.calls else NO_ANSWER)}
        if step.calls:
            message["tool_calls"] = [self._call(call) for call in step.calls]
        if keeps and "reasoning_details" in step.replay:
            message["reasoning_details"] = step.replay["reasoning_details"]
        return [message, *(self._result(call.id, step.result_of(call)) for call in step.calls)]

    def _call(self, call: Asked) -> Message:
        arguments = call.arguments if _object_in(call.arguments) is not None else json.dumps(_unreadable(call))
        return {"id": call.id, "type": "function", "function": {"name": _name(call.name), "arguments": arguments}}

    def _result(self, id: str, result: Result) -> Message:
        return {"role": "tool", "tool_call_id": id, "content": result.content}


class _Messages(_Writer):
    """Anthropic's messages."""

    format = "messages"

    def step(self, step: Step, *, keeps: bool) -> list[Message]:
        blocks = self._replayed(step, keeps) if step.format == self.format else self._told(step)
        told: list[Message] = [{"role": "assistant", "content": blocks or [{"type": "text", "text": NO_ANSWER}]}]
        if step.calls:
            told.append({"role": "user", "content": [self._result(call, step.result_of(call)) for call in step.calls]})
        return told

    def _replayed(self, step: Step, keeps: bool) -> list[Message]:
        blocks = step.replay["content"]
        return [dict(block) for block in blocks if keeps or block["type"] not in THOUGHTS]

    def _told(self, step: Step) -> list[Message]:
        words = [{"type": "text", "text": text}] if (text := _text(step)) else []
        return [*words, *(self._call(call) for call in step.calls)]

    def _call(self, call: Asked) -> Message:
        given = _object_in(call.arguments)
        given = _unreadable(call) if given is None else given
        return {"type": "tool_use", "id": safe_id(call.id), "name": _name(call.name), "input": given}

    def _result(self, call: Asked, result: Result) -> Message:
        told = {"type": "tool_result", "tool_use_id": safe_id(call.id), "content": result.content}
        return told | ({"is_error": True} if result.is_error else {})


def _text(step: Step) -> str:
    return "\n\n".join(filter(None, [step.text, step.note]))


def _in_words(step: Step) -> str:
    """An answer whose tool calls are told, not made."""
    told = [f"[{call.name} was called with {call.arguments}: {step.result_of(call).content}]" for call in step.calls]
    return "\n\n".join(filter(None, [_text(step), *told]))


# --- what models wrote ------------------------------------------------------------------


def _name(name: str) -> str:
    return UNSAFE.sub("_", name)[:64] or "unknown"


def safe_id(id: str) -> str:
    """A call's id as Anthropic's format allows it."""
    return UNSAFE.sub("_", id)


def blocks_of(content: Any, calls: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return the blocks of an answer that may go back, in order, with the ids that its calls were given."""
    ids = iter(calls)
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    return [kept for block in blocks if (kept := _block_of(block, ids)) is not None]


def _block_of(block: Mapping[str, Any], calls: Iterator[Mapping[str, Any]]) -> Message | None:
    kind = block.get("type")
    kept = {name: block[name] for name in BLOCKS.get(str(kind), ()) if block.get(name) is not None}
    match kind:
        case "tool_use":
            call = next(calls, None)
            if call is None:
                return None
            asked = Asked(call["id"], call["name"], call["arguments"])
            given = kept.get("input")
            kept |= {"id": asked.id, "name": _name(asked.name)}
            kept["input"] = given if isinstance(given, dict) and _is_plain(given) else _unreadable(asked)
        case "text" if not (isinstance(kept.get("text"), str) and kept["text"].strip()):
            return None
        case "thinking" if not all(isinstance(kept.get(name), str) for name in BLOCKS["thinking"]):
            return None
        case "redacted_thinking" if not isinstance(kept.get("data"), str):
            return None
        case _ if kind not in BLOCKS:
            return None
    return {"type": kind, **kept}


def _unreadable(call: Asked) -> dict[str, Any]:
    return {"unreadable": storable(call.arguments)}


def _object_in(arguments: str) -> dict[str, Any] | None:
    """The JSON object that a model wrote as arguments; None where it wrote something else."""
    try:
        value = json.loads(arguments, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return clean(value) if isinstance(value, dict) and _is_plain(value) else None


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _is_plain(value: Any, depth: int = DEEPEST) -> bool:
    """Whether a service and our own checks take it: not too deep, no number of absurd length."""
    if isinstance(value, dict | list):
        held = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_is_plain(each, depth - 1) for each in held)
    return not isinstance(value, int | float) or (math.isfinite(value) and abs(value) < 10**18)


def storable(text: str) -> str:
    """Return text that UTF-8 and the database can hold: half a character pair and NUL are replaced."""
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return joined.replace("\0", "\N{REPLACEMENT CHARACTER}")


def clean(value: Any) -> Any:
    """Return JSON data whose every text is storable."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [clean(each) for each in value]
    if isinstance(value, dict):
        return {storable(str(name)): clean(each) for name, each in value.items()}
    return value
