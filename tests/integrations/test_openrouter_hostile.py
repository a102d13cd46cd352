"""Whatever JSON a service makes up, the client ends with an answer or with an error of its own family."""

import json
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations.errors import UpstreamError
from integrations.openrouter.client import OpenRouter
from integrations.openrouter.exchange import Exchange
from integrations.redaction import Redactor
from integrations.wire import Answer, Request
from tests.integrations.scripted import event
from tests.integrations.upstream import CHAT, CHAT_STREAM, MESSAGE, MESSAGE_STREAM, PLAIN_KEY
from vault.secret import Secret

WORDS = st.sampled_from(
    ["", "429", "{}", '{"message": 1}', "gen-1", "\ud800", "\0", "error", "text", "tool_use", "x" * 40]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS
ANY = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner), max_leaves=4)


def odd(names: str, **known: st.SearchStrategy) -> st.SearchStrategy:
    """Objects with some of the names the client looks for, and anything under each of them."""
    fields = dict.fromkeys(names.split(), ANY) | {name: ANY | values for name, values in known.items()}
    return st.fixed_dictionaries({}, optional=fields)


def several(one: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(one, max_size=3)


def kinds(*names: str) -> st.SearchStrategy:
    return st.sampled_from(names)


METADATA = odd(
    "error_type provider_name raw limit_source file_annotations", headers=odd("X-RateLimit-Reset Retry-After")
)
AVAILABILITY = odd("code retryable retry_after")
ERROR = odd("code message type error_type http_status", metadata=METADATA, availability=AVAILABILITY)
USAGE = odd("prompt_tokens output_tokens cost is_byok", cost_details=odd("upstream_inference_cost"))
TOOL_CALL = odd("index id", function=odd("name arguments"))
REASONING = odd("index text signature", type=kinds("reasoning.text", "reasoning.encrypted"))
TURN = odd(
    "content reasoning refusal images annotations",
    audio=odd("id data transcript"),
    tool_calls=several(TOOL_CALL),
    reasoning_details=several(REASONING),
)
CHOICE = odd("index finish_reason native_finish_reason", message=TURN, delta=TURN, error=ERROR, logprobs=odd("content"))
CHAT_BODY = odd("id model provider data", choices=several(CHOICE), usage=USAGE, error=ERROR)
BLOCK = odd("text id name input citations", type=kinds("text", "tool_use", "thinking"))
MESSAGE_BODY = odd("id model stop_reason", content=several(BLOCK), usage=USAGE, error=ERROR)
DELTA = odd(
    "text partial_json thinking citation stop_reason",
    type=kinds("text_delta", "input_json_delta", "thinking_delta", "citations_delta"),
)
EVENT = odd("index", message=MESSAGE_BODY, content_block=BLOCK, delta=DELTA, usage=USAGE, error=ERROR)
EVENTS = kinds("message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop")
MESSAGE_EVENT = st.builds(lambda kind, fields: {"type": kind} | fields, EVENTS, EVENT)

REQUESTS = st.sampled_from([CHAT, MESSAGE, OpenRouter.credits(), OpenRouter.generation("gen-1")])
HEADERS = st.dictionaries(st.sampled_from(["retry-after", "x-ratelimit-reset", "x-generation-id"]), st.just("gen-1"))


def read(request: Request, response: httpx.Response) -> Answer | UpstreamError:
    try:
        return Exchange(request, Redactor(Secret(PLAIN_KEY)), None).read(response)
    except UpstreamError as error:
        return error


def check(result: Answer | UpstreamError) -> None:
    told: Any = result.text if isinstance(result, Answer) else result.partial_text + result.message
    told.encode()  # a database could hold it
    assert result.cost_usd is None or result.cost_usd >= 0
    if isinstance(result, UpstreamError) and result.retry_after is not None:
        assert 0 <= result.retry_after <= 7 * 86400


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    body=CHAT_BODY | MESSAGE_BODY | ANY,
    status=st.sampled_from([200, 401, 403, 404, 429, 502]),
    request=REQUESTS,
    headers=HEADERS,
)
def test_any_body_is_read_or_explained(body, status, request, headers):
    response = httpx.Response(status, headers=headers, stream=httpx.ByteStream(json.dumps(body).encode()))

    check(read(request, response))


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(said=st.lists(CHAT_BODY, max_size=4))
def test_any_chat_stream_is_read_or_explained(said):
    check(read(CHAT_STREAM, streamed(said)))


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(said=st.lists(MESSAGE_EVENT, max_size=6))
def test_any_message_stream_is_read_or_explained(said):
    check(read(MESSAGE_STREAM, streamed(said)))


def streamed(said: list[dict[str, Any]]) -> httpx.Response:
    body = b"".join(event(one) for one in said)
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=httpx.ByteStream(body))
