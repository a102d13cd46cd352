"""Answers in OpenRouter's shapes, and a client to put questions to a scripted server."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from integrations.errors import UpstreamError
from integrations.openrouter.client import OpenRouter
from integrations.openrouter.connections import Timeouts
from integrations.wire import Answer, Request
from tests.integrations.scripted import ScriptedServer, Step
from vault.secret import Secret

PLAIN_KEY = "sk-or-v1-" + "9f3a" * 16
REQUEST_ID = UUID("01900000-0000-7000-8000-000000000001")
GENERATION = "gen-1777903368-Jcaj9JGpXQgE0Tq3mmwV"
QUESTION = {"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 50}
SILENCE = 9.0  # a wait in a reply that nobody sits out
PATIENT = Timeouts(connect=5, read=8, total=30)
HASTY = Timeouts(connect=5, read=0.3, total=30)

CHAT = OpenRouter.chat_completions(QUESTION)
CHAT_STREAM = OpenRouter.chat_completions(QUESTION | {"stream": True})
MESSAGE = OpenRouter.messages(QUESTION)
MESSAGE_STREAM = OpenRouter.messages(QUESTION | {"stream": True})


def ask(
    reply: list[Step],
    request: Request = CHAT,
    *,
    timeouts: Timeouts | None = None,
    **listeners: Callable[..., None],
) -> Answer:
    """Send one request to a server that gives one reply; `listeners` are as `OpenRouter.send` takes them."""
    with ScriptedServer([reply]) as server:
        client = OpenRouter(server.url, timeouts=timeouts or (HASTY if SILENCE in reply else PATIENT))
        return client.send(request, key=Secret(PLAIN_KEY), request_id=REQUEST_ID, **listeners)


def failure(reply: list[Step], request: Request = CHAT, **options: Any) -> UpstreamError:
    """Send one request that must fail, and return how it did."""
    try:
        answer = ask(reply, request, **options)
    except UpstreamError as error:
        return error
    raise AssertionError(f"It was answered: {answer}")


def completion(message: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A chat completion as it is not streamed."""
    said = {"role": "assistant", "content": "Hello there!"} | (message or {})
    choice = {"index": 0, "finish_reason": "stop", "native_finish_reason": "STOP", "message": said}
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "cost": 0.00014, "is_byok": False}
    return {
        "id": GENERATION,
        "provider": "Google",
        "model": "google/gemini-2.5-flash",
        "object": "chat.completion",
        "created": 1777903368,
        "choices": [choice],
        "usage": usage,
    } | fields


def chunk(text: str | None = None, *, finish: str | None = None, usage: Any = None, **delta: Any) -> dict[str, Any]:
    """One chunk of a streamed chat completion."""
    said = {"role": "assistant", **({} if text is None else {"content": text}), **delta}
    event = {
        "id": GENERATION,
        "provider": "Google",
        "model": "google/gemini-2.5-flash",
        "object": "chat.completion.chunk",
        "created": 1777903368,
        "choices": [{"index": 0, "delta": said, "finish_reason": finish}],
    }
    return event | ({"usage": usage} if usage else {})


def tool_chunk(**fragment: Any) -> dict[str, Any]:
    """A chunk with one fragment of a tool call."""
    function = {name: fragment.pop(name) for name in ("name", "arguments") if name in fragment}
    return chunk(tool_calls=[fragment | {"function": function}])


def error_body(
    code: int, message: str = "Provider returned error", metadata: Any = None, **more: Any
) -> dict[str, Any]:
    """An error as most endpoints say it."""
    return {"error": {"code": code, "message": message, "metadata": metadata} | more}


USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "cost": 0.00014, "is_byok": False}
