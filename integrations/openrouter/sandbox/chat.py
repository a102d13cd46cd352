"""POST /chat/completions: the OpenAI format, as one object and as a stream."""

from collections.abc import Iterator
from typing import Any

from . import tokens
from .ask import Ask, OfferedTool, Turn
from .errors import ApiError, invalid
from .exchange import chat_event, json_bytes
from .fields import CHAT_NUMBERS, check_ids, check_numbers, mapping, models, objects, texts
from .generations import finish_reason
from .money import Cost
from .preferences import read_preferences
from .serving import Served

ROLES = {"system", "developer", "user", "assistant", "tool"}
KEEP_ALIVE = b": OPENROUTER PROCESSING\n\n"
DONE = b"data: [DONE]\n\n"
TOKENS_PER_CHUNK = 2
CHUNKS_BETWEEN_COMMENTS = 25
FRAGMENT = 12
# The words some providers use for the end of an answer.
NATIVE_FINISH = {"Google": "STOP", "Google AI Studio": "STOP", "Anthropic": "end_turn"}


def read_chat(body: dict[str, Any]) -> Ask:
    """The question in a chat request; raises ApiError(400) where a field does not fit."""
    turns, system = _turns(body)
    check_numbers(body, CHAT_NUMBERS)
    check_ids(body)
    if body.get("top_logprobs") and not body.get("logprobs"):
        raise invalid("top_logprobs: needs logprobs")
    tools = objects(body, "tools")
    schema, wants_json = _response_format(mapping(body, "response_format"))
    reasoning = _reasoning(body)
    return Ask(
        models=models(body, texts(body, "models")),
        turns=turns,
        system=system,
        tools=[_offered(tool) for tool in tools if tool.get("type", "function") == "function"],
        tool_choice=_tool_choice(body.get("tool_choice")),
        parallel_tools=body.get("parallel_tool_calls") is not False,
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        stop=texts(body, "stop", most=4),
        json_schema=schema,
        wants_json=wants_json,
        wants_reasoning=reasoning is not None,
        shows_reasoning=not (reasoning or {}).get("exclude"),
        seed=body.get("seed"),
        streams=bool(body.get("stream")),
        user=body.get("user"),
        session_id=body.get("session_id"),
        preferences=read_preferences(body),
        overhead=json_bytes(tools).decode(errors="replace") if tools else "",
    )


def _turns(body: dict[str, Any]) -> tuple[list[Turn], str]:
    if "messages" not in body:
        raise ApiError(400, 'Input required: specify "prompt" or "messages"')
    messages = objects(body, "messages")
    if not messages:
        raise invalid("messages: expected an array with at least 1 message")
    turns, system = [], []
    for index, message in enumerate(messages):
        role = message.get("role")
        if role not in ROLES:
            raise invalid(f"messages[{index}].role: expected one of {', '.join(sorted(ROLES))}")
        text, images = content_text(message.get("content"), f"messages[{index}].content")
        if role in ("system", "developer"):
            system.append(text)
            continue
        if role == "tool" and not isinstance(message.get("tool_call_id"), str):
            raise invalid(f"messages[{index}].tool_call_id: required")
        if role == "user" and message.get("content") is None:
            raise invalid(f"messages[{index}].content: required")
        turns.append(Turn(role, text, tool_result=role == "tool", images=images))
    return turns, "\n".join(system)


def content_text(content: Any, where: str) -> tuple[str, int]:
    """The words of a message and how many pictures came with them."""
    if content is None or isinstance(content, str):
        return content or "", 0
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise invalid(f"{where}: expected a string or an array of parts")
    texts_found = [part["text"] for part in content if isinstance(part.get("text"), str)]
    return "\n".join(texts_found), sum(1 for part in content if "image" in str(part.get("type")))


def _offered(tool: dict[str, Any]) -> OfferedTool:
    function = mapping(tool, "function")
    name = function.get("name")
    if not isinstance(name, str) or not 1 <= len(name) <= 64:
        raise invalid("tools: every function needs a name of at most 64 characters")
    return OfferedTool(name, mapping(function, "parameters"))


def _tool_choice(choice: Any) -> str:
    if choice is None:
        return "auto"
    if isinstance(choice, dict):
        return str(mapping(choice, "function").get("name", "auto"))
    if choice not in ("none", "auto", "required"):
        raise invalid("tool_choice: expected none, auto, required or a function")
    return choice


def _response_format(wish: dict[str, Any]) -> tuple[dict[str, Any] | None, bool]:
    kind = wish.get("type", "text")
    if kind == "json_schema":
        named = mapping(wish, "json_schema")
        if not isinstance(named.get("name"), str):
            raise invalid("response_format.json_schema.name: required")
        return mapping(named, "schema"), True
    if kind not in ("text", "json_object", "grammar", "python"):
        raise invalid("response_format.type: unknown value")
    return None, kind == "json_object"


def _reasoning(body: dict[str, Any]) -> dict[str, Any] | None:
    wish = body.get("reasoning")
    effort = body.get("reasoning_effort") or (wish or {}).get("effort")
    asked = effort not in (None, "none") or (wish is not None and effort != "none" and wish.get("enabled") is not False)
    return mapping(body, "reasoning") if asked or body.get("include_reasoning") else None


def chat_result(served: Served) -> dict[str, Any]:
    """The answer as one object."""
    if served.fault_is("error_in_200"):
        return {"error": served.fault.error(provider=served.provider).chat_error()}
    return {
        "id": served.generation_id,
        "provider": served.provider,
        "model": served.answered_by,
        "object": "chat.completion",
        "created": int(served.at.timestamp()),
        "system_fingerprint": None,
        "service_tier": served.endpoint.get("service_tier"),
        "choices": [] if served.fault_is("empty") else [_choice(served)],
        "usage": chat_usage(served),
    }


def _choice(served: Served) -> dict[str, Any]:
    thought = served.thought
    broken = served.fault_is("mid_stream_error")
    text = "".join(thought.pieces[: len(thought.pieces) // 2]) if broken else thought.text
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None, "reasoning": None}
    if thought.tool_calls and not broken:
        message["content"] = None
        message["tool_calls"] = [_tool_call(call) | {"index": at} for at, call in enumerate(thought.tool_calls)]
    if thought.reasoning and served.ask.shows_reasoning:
        message |= {"reasoning": thought.reasoning, "reasoning_details": [_reasoning_detail(thought.reasoning)]}
    finish = finish_reason(served)
    choice = {"index": 0, "logprobs": None, "finish_reason": finish, "native_finish_reason": _native(served, finish)}
    if broken:
        choice["error"] = served.fault.error().chat_error()
    return choice | {"message": message}


def chat_usage(served: Served) -> dict[str, Any]:
    cost = served.cost
    prompt = 0 if served.is_blank else served.prompt_tokens
    completion = served.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cost": float(cost.total),
        "is_byok": False,
        "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0, "audio_tokens": 0, "video_tokens": 0},
        "cost_details": cost_details(cost),
        "completion_tokens_details": {
            "reasoning_tokens": 0 if served.is_blank else served.thought.reasoning_tokens,
            "image_tokens": 0,
            "audio_tokens": 0,
        },
    }


def cost_details(cost: Cost) -> dict[str, float]:
    return {
        "upstream_inference_cost": float(cost.total),
        "upstream_inference_prompt_cost": float(cost.prompt),
        "upstream_inference_completions_cost": float(cost.completion),
    }


def chat_events(served: Served, metadata: dict[str, Any] | None) -> list[bytes]:
    """The answer as the events of a stream, comments and all."""
    if served.fault_is("error_in_200"):
        return [KEEP_ALIVE, chat_event(_broken(served))]
    events = [KEEP_ALIVE]
    deltas = list(_deltas(served))
    if served.fault_is("mid_stream_error"):
        deltas = deltas[: max(len(deltas) // 2, 1)]
    for number, delta in enumerate(deltas, 1):
        events.append(chat_event(_chunk(served, delta)))
        if number % CHUNKS_BETWEEN_COMMENTS == 0:
            events.append(KEEP_ALIVE)
    if served.fault_is("mid_stream_error"):
        return [*events, chat_event(_broken(served))]
    return [*events, *(chat_event(event) for event in _ending(served, metadata)), DONE]


def _deltas(served: Served) -> Iterator[dict[str, Any]]:
    thought = served.thought
    if served.is_blank:
        return
    if thought.reasoning and served.ask.shows_reasoning:
        for piece in _grouped(tokens.split(thought.reasoning)):
            yield {"content": "", "reasoning": piece, "reasoning_details": [_reasoning_detail(piece)]}
    for at, call in enumerate(thought.tool_calls):
        yield from _call_deltas(served, at, call)
    for piece in _grouped(thought.pieces):
        yield {"content": piece}


def _call_deltas(served: Served, at: int, call: Any) -> Iterator[dict[str, Any]]:
    """A tool call in fragments, or in one piece from the providers that send it so."""
    if served.provider.startswith("Google"):
        yield {"content": None, "tool_calls": [{"index": at} | _tool_call(call)]}
        return
    opening = {"index": at, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
    yield {"content": None, "tool_calls": [opening]}
    for start in range(0, len(call.json), FRAGMENT):
        yield {"tool_calls": [{"index": at, "function": {"arguments": call.json[start : start + FRAGMENT]}}]}


def _ending(served: Served, metadata: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The last two events: the reason it ended, and the usage, in either of the two shapes seen in the wild."""
    finish = finish_reason(served) or "stop"
    last = _chunk(served, {"content": ""}, finish)
    usage = {**last, "usage": chat_usage(served)}
    if not served.provider.startswith("Google"):
        usage["choices"] = []
    return [last, usage | ({"openrouter_metadata": metadata} if metadata else {})]


def _chunk(served: Served, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {
        "index": 0,
        "delta": {"role": "assistant", **delta},
        "finish_reason": finish,
        "native_finish_reason": _native(served, finish),
        "logprobs": None,
    }
    return {
        "id": served.generation_id,
        "provider": served.provider,
        "model": served.answered_by,
        "object": "chat.completion.chunk",
        "created": int(served.at.timestamp()),
        "choices": [choice],
        "system_fingerprint": None,
    }


def _broken(served: Served) -> dict[str, Any]:
    error = served.fault.error().chat_error()
    return _chunk(served, {"content": ""}, "error") | {"error": error}


def _tool_call(call: Any) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.json}}


def _reasoning_detail(text: str) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": text, "signature": None, "id": None, "format": "unknown", "index": 0}


def _native(served: Served, finish: str | None) -> str | None:
    return NATIVE_FINISH.get(served.provider, "stop") if finish == "stop" else finish


def _grouped(pieces: list[str]) -> Iterator[str]:
    for start in range(0, len(pieces), TOKENS_PER_CHUNK):
        yield "".join(pieces[start : start + TOKENS_PER_CHUNK])
