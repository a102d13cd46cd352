"""POST /messages: the Anthropic format, as one object and as a stream."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from . import tokens
from .ask import Ask, OfferedTool, Turn
from .chat import FRAGMENT, KEEP_ALIVE, cost_details
from .errors import ApiError
from .exchange import json_bytes, messages_event
from .fields import MESSAGES_NUMBERS, check_ids, check_numbers, mapping, models, objects, texts
from .preferences import read_preferences
from .serving import Served

MOST_FALLBACKS = 3
TOKENS_PER_DELTA = 3
STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def read_messages(body: dict[str, Any]) -> Ask:
    """The question in a messages request; raises ApiError(400) where a field does not fit."""
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise _invalid("model is required")
    if not body.get("messages"):
        raise _invalid("messages is required")
    check_numbers(body, MESSAGES_NUMBERS)
    check_ids(body)
    tools, wish = objects(body, "tools"), mapping(body, "thinking")
    schema = mapping(mapping(body, "output_config"), "format").get("schema")
    choice = mapping(body, "tool_choice")
    system, _images, _results = _content(body.get("system"), "system")
    return Ask(
        models=models(body, _fallbacks(body)),
        turns=[turn for index, message in enumerate(objects(body, "messages")) for turn in _turns(message, index)],
        system=system,
        tools=[OfferedTool(tool["name"], mapping(tool, "input_schema")) for tool in tools if "input_schema" in tool],
        tool_choice=CHOICES.get(choice.get("type", "auto"), choice.get("name", "auto")),
        parallel_tools=not choice.get("disable_parallel_tool_use"),
        max_tokens=body.get("max_tokens"),
        stop=texts(body, "stop_sequences"),
        json_schema=schema if isinstance(schema, dict) else None,
        wants_reasoning=wish.get("type") in ("enabled", "adaptive"),
        shows_reasoning=wish.get("display") != "omitted",
        streams=bool(body.get("stream")),
        user=body.get("user") or mapping(body, "metadata").get("user_id"),
        session_id=body.get("session_id"),
        preferences=read_preferences(body),
        overhead=json_bytes(tools).decode(errors="replace") if tools else "",
    )


def _invalid(message: str) -> ApiError:
    return ApiError(400, f"Invalid request: {message}")


def _fallbacks(body: dict[str, Any]) -> list[str]:
    fallbacks = objects(body, "fallbacks")
    if fallbacks and body.get("models"):
        raise _invalid("use either fallbacks or models, not both")
    if len(fallbacks) > MOST_FALLBACKS:
        raise _invalid(f"fallbacks: at most {MOST_FALLBACKS} entries")
    if any(set(entry) != {"model"} or not isinstance(entry["model"], str) for entry in fallbacks):
        raise _invalid("fallbacks: each entry holds a model and nothing else")
    return [entry["model"] for entry in fallbacks] or texts(body, "models")


def _turns(message: dict[str, Any], index: int) -> list[Turn]:
    role = message.get("role")
    if role not in ("user", "assistant", "system"):
        raise _invalid(f"messages.{index}.role: expected user, assistant or system")
    text, images, results = _content(message.get("content"), f"messages.{index}.content")
    answers = [Turn("user", result, tool_result=True) for result in results]
    return [*([Turn(role, text, images=images)] if text or images or not results else []), *answers]


def _content(content: Any, where: str) -> tuple[str, int, list[str]]:
    """The words of a message, how many pictures came with them, and what tools answered."""
    if content is None or isinstance(content, str):
        return content or "", 0, []
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise _invalid(f"{where}: expected a string or an array of blocks")
    words = [block["text"] for block in content if isinstance(block.get("text"), str)]
    results = [_content(block.get("content"), where)[0] for block in content if block.get("type") == "tool_result"]
    return "\n".join(words), sum(1 for block in content if block.get("type") == "image"), results


def messages_result(served: Served) -> dict[str, Any]:
    """The answer as one object; a failure after the start is an error object under status 200."""
    if served.fault_is("error_in_200") or served.fault_is("mid_stream_error"):
        return error_data(served.fault.error(provider=served.provider), served.generation_id)
    return _envelope(served) | {
        "content": list(_blocks(served)),
        "stop_reason": _stop_reason(served),
        "stop_sequence": served.thought.stopped_by,
        "usage": messages_usage(served),
    }


def error_data(error: ApiError, generation_id: str | None) -> dict[str, Any]:
    data = {"type": "error", "error": error.messages_error(), "request_id": generation_id}
    return data | ({"metadata": error.metadata} if error.metadata else {})


def messages_usage(served: Served) -> dict[str, Any]:
    return {
        "input_tokens": 0 if served.is_blank else served.prompt_tokens,
        "output_tokens": served.completion_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": None,
        "output_tokens_details": {"thinking_tokens": served.thought.reasoning_tokens},
        "server_tool_use": None,
        "service_tier": "standard",
        "inference_geo": None,
        "cost": float(served.cost.total),
        "cost_details": cost_details(served.cost),
        "is_byok": False,
    }


def messages_events(served: Served, metadata: dict[str, Any] | None) -> list[bytes]:
    """The answer as the events of a stream."""
    if served.fault_is("error_in_200"):
        return [KEEP_ALIVE, _error_event(served)]
    blocks = [event for at, block in enumerate(_blocks(served)) for event in _block_events(at, block)]
    start = {"type": "message_start", "message": _opening(served)}
    if served.fault_is("mid_stream_error"):
        kept = [messages_event(event) for event in (start, *blocks[: max(len(blocks) // 2, 1)])]
        return [KEEP_ALIVE, *kept, _error_event(served)]
    ends = {"stop_reason": _stop_reason(served), "stop_sequence": served.thought.stopped_by}
    events = [
        start,
        {"type": "ping"},
        *blocks,
        {
            "type": "message_delta",
            "delta": {**ends, "stop_details": None, "container": None},
            "usage": messages_usage(served),
        },
        {"type": "message_stop"} | ({"openrouter_metadata": metadata} if metadata else {}),
    ]
    # The service closes with a line from the other format; clients are to ignore it.
    return [KEEP_ALIVE, *(messages_event(event) for event in events), b"event: data\ndata: [DONE]\n\n"]


def _error_event(served: Served) -> bytes:
    return messages_event({"type": "error", "error": served.fault.error().messages_error()})


def _opening(served: Served) -> dict[str, Any]:
    usage = messages_usage(served) | {"output_tokens": 0}
    kept = {name: value for name, value in usage.items() if name not in ("cost", "cost_details", "is_byok")}
    return _envelope(served) | {"content": [], "stop_reason": None, "stop_sequence": None, "usage": kept}


def _envelope(served: Served) -> dict[str, Any]:
    return {
        "id": served.generation_id,
        "type": "message",
        "role": "assistant",
        "model": served.answered_by,
        "provider": served.provider,
        "container": None,
        "stop_details": None,
    }


def _stop_reason(served: Served) -> str | None:
    if served.is_blank:
        return None
    return "stop_sequence" if served.thought.stopped_by else STOP_REASONS[served.thought.finish]


def _blocks(served: Served) -> Iterator[dict[str, Any]]:
    thought = served.thought
    if served.is_blank:
        return
    if thought.reasoning:
        signature = sha256(thought.reasoning.encode()).hexdigest()
        shown = thought.reasoning if served.ask.shows_reasoning else ""
        yield {"type": "thinking", "thinking": shown, "signature": signature}
    if thought.text:
        yield {"type": "text", "text": thought.text, "citations": None}
    for call in thought.tool_calls:
        name_and_input = {"name": call.name, "input": call.arguments, "caller": {"type": "direct"}}
        yield {"type": "tool_use", "id": call.id.replace("call_", "toolu_"), **name_and_input}


def _block_events(at: int, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    empty = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
    yield {"type": "content_block_start", "index": at, "content_block": block | empty[block["type"]]}
    for delta in _block_deltas(block):
        yield {"type": "content_block_delta", "index": at, "delta": delta}
    yield {"type": "content_block_stop", "index": at}


def _block_deltas(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        for piece in _grouped(tokens.split(block["text"])):
            yield {"type": "text_delta", "text": piece}
    elif block["type"] == "thinking":
        for piece in _grouped(tokens.split(block["thinking"])):
            yield {"type": "thinking_delta", "thinking": piece}
        yield {"type": "signature_delta", "signature": block["signature"]}
    else:
        given = block["input"]
        text = given if isinstance(given, str) else json_bytes(given).decode(errors="replace")
        for start in range(0, len(text), FRAGMENT):
            yield {"type": "input_json_delta", "partial_json": text[start : start + FRAGMENT]}


def _grouped(pieces: list[str]) -> Iterator[str]:
    for start in range(0, len(pieces), TOKENS_PER_DELTA):
        yield "".join(pieces[start : start + TOKENS_PER_DELTA])
