"""Server-sent events, and how the pieces of both stream formats become one JSON body again."""

import copy
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from integrations.openrouter.payload import as_dict, as_text, count, decode, dicts

DONE = b"[DONE]"
# Parts of a choice that come in pieces; of the others the last word counts.
NOT_LAST_WORD = ("delta", "message", "logprobs")


def events(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the data of each event. Keep-alive comments, names and ids of events say nothing here."""
    data: list[bytes] = []
    for line in _lines(pieces):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []
    if data:  # some servers close right after the last line
        yield b"\n".join(data)


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    # Joined only when a line ends, so that a line of megabytes in small pieces costs its length once.
    begun: list[bytes] = []
    for piece in pieces:
        first, *rest = piece.split(b"\n")
        begun.append(first)
        for following in rest:
            yield b"".join(begun).removesuffix(b"\r")
            begun = [following]
    yield b"".join(begun)


class Assembly(Protocol):
    """What both stream formats can do."""

    finished: bool
    begun: bool  # whether an event was taken in
    reasoning: str  # what the last event added to what the model thinks, for a reader

    def add(self, event: dict[str, Any]) -> str:
        """Take one event in and return the text it adds for a reader."""
        ...

    def body(self) -> dict[str, Any]:
        """Return what has arrived, in the shape of an answer that was not streamed."""
        ...


class ChatAssembly:
    """A chat completion, from its chunks."""

    def __init__(self) -> None:
        self.finished, self.begun, self.reasoning = False, False, ""
        self._head: dict[str, Any] = {}
        self._choice: dict[str, Any] = {"index": 0, "finish_reason": None, "native_finish_reason": None}
        self._texts: dict[str, list[str]] = {"content": []}
        self._lists: dict[str, list[Any]] = {}
        self._audio: dict[str, Any] = {}
        self._logprobs: list[dict[str, Any]] = []
        self._calls: list[dict[str, Any]] = []
        self._seen_choice = False

    def add(self, event: dict[str, Any]) -> str:
        self.begun, self.reasoning = True, ""
        for name, value in event.items():
            if name != "choices" and (value is not None or name not in self._head):
                self._head[name] = value
        text = ""
        for choice in dicts(event.get("choices")):  # none in a usage event
            if not choice.get("index"):  # there is only one answer, whoever asked for more
                text += self._add_choice(choice)
        return text

    def _add_choice(self, choice: dict[str, Any]) -> str:
        self._seen_choice = True
        # Said again by the usage event, and null in all the others: keeping the last word is enough.
        self._choice |= {n: v for n, v in choice.items() if n not in NOT_LAST_WORD and v is not None}
        self.finished = bool(self._choice["finish_reason"])
        delta = as_dict(choice.get("delta") or choice.get("message"))
        for name in ("content", "reasoning", "refusal"):
            if isinstance(delta.get(name), str):
                self._texts.setdefault(name, []).append(delta[name])
        for name in ("images", "annotations"):
            if isinstance(delta.get(name), list):
                self._lists.setdefault(name, []).extend(delta[name])
        self._logprobs += dicts(as_dict(choice.get("logprobs")).get("content"))
        if isinstance(delta.get("reasoning_details"), list):
            self._add_reasoning(delta["reasoning_details"])
        for place, fragment in enumerate(dicts(delta.get("tool_calls"))):
            self._add_call(fragment, place)
        self._add_audio(as_dict(delta.get("audio")))
        self.reasoning += as_text(delta.get("reasoning"))
        return as_text(delta.get("content"))

    def _add_reasoning(self, details: list[Any]) -> None:
        """Join the pieces of a text; everything else stays as it came, in order, or it cannot be replayed."""
        kept = self._lists.setdefault("reasoning_details", [])
        for detail in details:
            last = kept[-1] if kept else None
            name = _continued(last, detail)
            if name and last is not None:
                said = {key: value for key, value in detail.items() if value is not None}
                last |= said | {name: as_text(last.get(name)) + as_text(detail.get(name))}
            else:
                kept.append(copy.copy(detail))

    def _add_call(self, fragment: dict[str, Any], place: int) -> None:
        call = self._call_of(fragment, place)
        function = as_dict(fragment.get("function"))
        call["id"] = call["id"] or as_text(fragment.get("id"))
        call["name"] = call["name"] or as_text(function.get("name"))
        arguments = function.get("arguments")
        call["arguments"].append(arguments if isinstance(arguments, str) else "")

    def _call_of(self, fragment: dict[str, Any], place: int) -> dict[str, Any]:
        index = count(fragment.get("index"))
        index = place if index is None else index
        given = as_text(fragment.get("id"))
        for call in reversed(self._calls):
            # Another id at a known index is another call: some providers number all of them 0.
            if call["index"] == index and (not given or call["id"] in ("", given)):
                return call
        self._calls.append({"index": index, "id": "", "name": "", "arguments": []})
        return self._calls[-1]

    def _add_audio(self, piece: dict[str, Any]) -> None:
        for name, value in piece.items():
            joins = name in ("data", "transcript") and isinstance(value, str)
            self._audio[name] = as_text(self._audio.get(name)) + value if joins else value

    def body(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant"}
        message |= {name: "".join(texts) for name, texts in self._texts.items()}
        message |= self._lists
        if self._audio:
            message["audio"] = self._audio
        if self._calls:
            message["tool_calls"] = [self._finished_call(call) for call in self._calls]
            message["content"] = message["content"] or None
        logprobs = {"content": self._logprobs} if self._logprobs else None
        choices = [self._choice | {"logprobs": logprobs, "message": message}] if self._seen_choice else []
        return self._head | {"object": "chat.completion", "choices": choices}

    def _finished_call(self, call: dict[str, Any]) -> dict[str, Any]:
        arguments = "".join(call["arguments"]).strip() or "{}"
        return {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": arguments}}


def _continued(last: Any, detail: Any) -> str:
    """The name of the text that `detail` continues, if it continues the one before it."""
    if not isinstance(last, dict) or not isinstance(detail, dict):
        return ""
    name = {"reasoning.text": "text", "reasoning.summary": "summary"}.get(as_text(detail.get("type")), "")
    same = all(last.get(key) == detail.get(key) for key in ("type", "index"))
    # A signature closes its block: text after it belongs to the next one.
    return name if same and not (last.get("signature") and detail.get(name)) else ""


class MessageAssembly:
    """A message in Anthropic's format, from its events."""

    # For each kind of delta: where its text is, and what it extends in the block.
    JOINED = {
        "text_delta": ("text", "text"),
        "thinking_delta": ("thinking", "thinking"),
        "signature_delta": ("signature", "signature"),
        "compaction_delta": ("content", "content"),
        "input_json_delta": ("partial_json", "input"),
    }

    def __init__(self) -> None:
        self.finished, self.begun, self.reasoning = False, False, ""
        self._message: dict[str, Any] = {"type": "message", "role": "assistant"}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._pieces: dict[tuple[int, str], list[str]] = {}

    def add(self, event: dict[str, Any]) -> str:
        self.begun, self.reasoning = True, ""
        match event.get("type"):
            case "message_start":
                self._message |= as_dict(event.get("message"))
                self._add_usage(self._message.get("usage"))
            case "content_block_start":
                return self._start_block(event)
            case "content_block_delta":
                return self._add_delta(event)
            case "message_delta":
                self._message |= as_dict(event.get("delta"))
                self._add_usage(event.get("usage"))
                self.finished = bool(self._message.get("stop_reason"))
            case "message_stop":
                self.finished = True
        if event.get("openrouter_metadata"):
            self._message["openrouter_metadata"] = event["openrouter_metadata"]
        return ""

    def _add_usage(self, usage: Any) -> None:
        self._usage |= {name: value for name, value in as_dict(usage).items() if value is not None}

    def _start_block(self, event: dict[str, Any]) -> str:
        index = count(event.get("index"))
        block = event.get("content_block")
        if not isinstance(block, dict):
            return ""
        self._blocks[len(self._blocks) if index is None else index] = dict(block)
        return as_text(block.get("text")) if block.get("type") == "text" else ""

    def _add_delta(self, event: dict[str, Any]) -> str:
        index = count(event.get("index")) or 0
        block = self._blocks.setdefault(index, {"type": "text", "text": ""})
        delta = as_dict(event.get("delta"))
        kind = as_text(delta.get("type"))
        if kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta.get("citation")]
        if kind not in self.JOINED:
            return ""
        source, target = self.JOINED[kind]
        text = as_text(delta.get(source))
        self._pieces.setdefault((index, target), []).append(text)
        self.reasoning = text if target == "thinking" else ""
        return text if target == "text" else ""

    def body(self) -> dict[str, Any]:
        blocks = {index: dict(block) for index, block in self._blocks.items()}
        for (index, name), texts in self._pieces.items():
            text = "".join(texts)
            if name != "input":
                blocks[index][name] = as_text(blocks[index].get(name)) + text
            elif text.strip():
                blocks[index]["input"] = _input(text)
        return self._message | {"content": [blocks[index] for index in sorted(blocks)], "usage": self._usage}


def _input(text: str) -> Any:
    """Arguments of a tool call as an object; as the text they are when a limit cut them off."""
    try:
        return decode(text.encode())
    except ValueError:
        return text


ASSEMBLIES: dict[str, type[ChatAssembly] | type[MessageAssembly]] = {"chat": ChatAssembly, "messages": MessageAssembly}
