"""
The provider's own SDK judges the stand-in: every answer must parse as the types it knows.

Runs on the sandbox's own catalog, and on a recorded one when OPENROUTER_RECORDED_CATALOG
names a folder with models-full.json, zdr-endpoints.json and providers.json.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openrouter import OpenRouter, components, errors, operations
from openrouter.types import UnrecognizedStr
from openrouter.utils.eventstreaming import EventStream
from pydantic import TypeAdapter

from tests.sandbox_fixture import Sandbox, start_sandbox

RECORDED = os.environ.get("OPENROUTER_RECORDED_CATALOG")
DELAY = 60
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city"],
}
CHAT_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
MESSAGES_TOOL = {"name": "get_weather", "input_schema": WEATHER}
SAY = [{"role": "user", "content": "Reply with exactly: a cup of tea"}]
CALL = [{"role": "user", "content": 'Use get_weather for "Oslo".'}]


def catalogs() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {"own": {}}
    if RECORDED:
        folder = Path(RECORDED)
        found["recorded"] = {
            "catalog": folder / "models-full.json",
            "zdr": folder / "zdr-endpoints.json",
            "providers": folder / "providers.json",
        }
    return found


@pytest.fixture(scope="module", params=catalogs())
def box(request) -> Iterator[Sandbox]:
    running = start_sandbox(generation_delay=DELAY, **catalogs()[request.param])
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def calm(box) -> None:
    box.rules()


@pytest.fixture(scope="module")
def sdk(box) -> Iterator[OpenRouter]:
    with client_with(box, box.key()) as client:
        yield client


def client_with(box: Sandbox, key: str) -> OpenRouter:
    # Without its own retries: it would ask again for an hour.
    return OpenRouter(api_key=key, server_url=box.url, client=httpx.Client(trust_env=False), retry_config=None)


# Chat


def test_chat_answers_with_text_usage_and_cost(sdk):
    answer = sdk.chat.send(model="openai/gpt-4o-mini", messages=SAY, max_tokens=50)

    assert answer.choices[0].message.content == "a cup of tea"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.cost > 0


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "google/gemini-2.5-flash"])
def test_chat_stream_carries_the_same_text_and_one_usage(sdk, model):
    whole = sdk.chat.send(model=model, messages=SAY)
    with sdk.chat.send(model=model, messages=SAY, stream=True) as stream:
        chunks = list(stream)

    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.usage.cost for chunk in chunks if chunk.usage] == [whole.usage.cost]


def test_chat_streams_show_both_styles_of_usage(sdk):
    def choices_beside_usage(model: str) -> int:
        with sdk.chat.send(model=model, messages=SAY, stream=True) as stream:
            return next(len(chunk.choices) for chunk in stream if chunk.usage)

    assert choices_beside_usage("openai/gpt-4o-mini") == 0
    assert choices_beside_usage("google/gemini-2.5-flash") == 1


def test_chat_calls_the_tool_a_prompt_names(sdk):
    answer = sdk.chat.send(model="openai/gpt-4o-mini", messages=CALL, tools=[CHAT_TOOL])

    call = answer.choices[0].message.tool_calls[0]
    assert (call.function.name, answer.choices[0].finish_reason) == ("get_weather", "tool_calls")
    assert json.loads(call.function.arguments)["city"] == "Oslo"


@pytest.mark.parametrize(("model", "in_pieces"), [("openai/gpt-4o-mini", True), ("google/gemini-2.5-flash", False)])
def test_chat_stream_sends_tool_calls_whole_or_in_fragments(sdk, model, in_pieces):
    with sdk.chat.send(model=model, messages=CALL, tools=[CHAT_TOOL], stream=True) as stream:
        deltas = [delta for chunk in stream for choice in chunk.choices for delta in choice.delta.tool_calls or []]

    assert (len(deltas) > 1) == in_pieces
    assert [delta.function.name for delta in deltas if delta.function.name] == ["get_weather"]
    assert json.loads("".join(delta.function.arguments or "" for delta in deltas))["city"] == "Oslo"


def test_chat_passes_on_what_a_tool_said(sdk):
    asked = sdk.chat.send(model="openai/gpt-4o-mini", messages=CALL, tools=[CHAT_TOOL]).choices[0].message
    told = {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "Rain, 7 degrees"}
    history = [*CALL, asked.model_dump(by_alias=True, exclude_none=True), told]
    answer = sdk.chat.send(model="openai/gpt-4o-mini", messages=history, tools=[CHAT_TOOL])

    assert "Rain, 7 degrees" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"


def test_chat_keeps_to_a_json_schema(sdk):
    form = {"type": "json_schema", "json_schema": {"name": "forecast", "schema": WEATHER, "strict": True}}
    answer = sdk.chat.send(model="openai/gpt-4o-mini", messages=SAY, response_format=form)

    value = json.loads(answer.choices[0].message.content)
    assert isinstance(value["city"], str)
    assert 1 <= value["days"] <= 7


def test_chat_thinks_first_when_asked_to(sdk):
    answer = sdk.chat.send(model="openai/gpt-oss-120b", messages=SAY, reasoning={"effort": "low"})

    assert answer.choices[0].message.reasoning
    assert answer.choices[0].message.reasoning_details[0].type == "reasoning.text"
    assert 0 < answer.usage.completion_tokens_details.reasoning_tokens < answer.usage.completion_tokens


def test_chat_tells_its_route_when_asked(sdk):
    models = ["gone/model", "openai/gpt-4o-mini"]
    answer = sdk.chat.send(models=models, messages=SAY, x_open_router_metadata="enabled")

    route = answer.openrouter_metadata
    assert (route.requested, route.strategy, route.attempt) == ("gone/model", "fallback", 2)
    assert [attempt.status for attempt in route.attempts] == [400, 200]
    assert sum(end.selected for end in route.endpoints.available) == 1


def test_chat_is_answered_by_the_host_its_preferences_allow(sdk):
    wish = components.ProviderPreferences(
        only=["azure", "openai"],
        order=["azure"],
        ignore=["groq"],
        zdr=True,
        data_collection="deny",
        max_price={"prompt": "3", "completion": "20"},
        sort="price",
    )
    answer = sdk.chat.send(model="openai/gpt-5.4", messages=SAY, provider=wish, x_open_router_metadata="enabled")

    route = answer.openrouter_metadata
    assert {end.provider for end in route.endpoints.available} == {"Azure"}
    assert [end.selected for end in route.endpoints.available].index(True) == 0
    assert route.endpoints.total > len(route.endpoints.available)
    assert answer.usage.cost > sdk.chat.send(model="openai/gpt-5.4", messages=SAY).usage.cost


@pytest.mark.parametrize(
    ("wish", "code", "word"),
    [
        ({"only": ["groq"]}, "constraint_filtered", "allowed_providers"),
        ({"only": ["openai"], "zdr": True}, "privacy_restricted", "data_policy:zdr"),
        ({"max_price": {"prompt": "0.01"}}, "constraint_filtered", "max_price"),
        ({"quantizations": ["int4"]}, "constraint_filtered", "quantization"),
    ],
)
def test_chat_that_nobody_may_answer_parses_with_its_reason(sdk, wish, code, word):
    with pytest.raises(errors.NotFoundResponseError) as caught:
        sdk.chat.send(model="openai/gpt-5.4", messages=SAY, provider=wish)

    reason = json.loads(caught.value.body)["error"]["availability"]
    assert (reason["code"], reason["excluded_by"][-1]) == (code, word)
    assert caught.value.data.error.code == 404


def test_chat_beyond_the_free_limit_parses_with_its_headers(box):
    with client_with(box, box.key(balance=5, free_used=50)) as client:
        with pytest.raises(errors.TooManyRequestsResponseError) as caught:
            client.chat.send(model="openai/gpt-oss-20b:free", messages=SAY)
        counted = client.api_keys.get_current_key_metadata().data.free_model_daily_requests

    told = caught.value.data.error.metadata["headers"]
    assert {name: caught.value.headers[name] for name in told} == told
    assert (told["X-RateLimit-Limit"], told["X-RateLimit-Remaining"]) == ("50", "0")
    assert (counted.limit, counted.used, counted.remaining) == (50, 50, 0)


def test_chat_stream_tells_its_route_on_the_last_event(sdk):
    with sdk.chat.send(
        model="openai/gpt-4o-mini", messages=SAY, stream=True, x_open_router_metadata="enabled"
    ) as stream:
        *earlier, last = list(stream)

    assert last.openrouter_metadata.strategy == "direct"
    assert [chunk for chunk in earlier if chunk.openrouter_metadata] == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestResponseError),
        (402, errors.PaymentRequiredResponseError),
        (403, errors.ForbiddenResponseError),
        (404, errors.NotFoundResponseError),
        (408, errors.RequestTimeoutResponseError),
        (413, errors.PayloadTooLargeResponseError),
        (422, errors.UnprocessableEntityResponseError),
        (429, errors.TooManyRequestsResponseError),
        (500, errors.InternalServerResponseError),
        (502, errors.BadGatewayResponseError),
        (503, errors.ServiceUnavailableResponseError),
        (524, errors.EdgeNetworkTimeoutResponseError),
        (529, errors.ProviderOverloadedResponseError),
    ],
)
def test_chat_refusals_parse_as_their_own_error(box, sdk, status, kind):
    box.rules({"match": {"model": "openai/*"}, "answer": {"kind": "status", "status": status, "message": "Not now"}})

    with pytest.raises(kind) as caught:
        sdk.chat.send(model="openai/gpt-4o-mini", messages=SAY)

    assert caught.value.data.error.code == status
    assert caught.value.data.error.message == "Not now"
    assert caught.value.data.error.metadata["provider_name"] == "OpenAI"


def test_chat_stream_that_breaks_says_so_in_its_last_event(box, sdk):
    box.rules({"answer": {"kind": "mid_stream_error", "status": 429, "message": "Rate limit exceeded"}})

    with sdk.chat.send(model="openai/gpt-4o-mini", messages=SAY, stream=True) as stream:
        *earlier, last = list(stream)

    assert any(chunk.choices[0].delta.content for chunk in earlier)
    assert (last.error.code, last.error.metadata.error_type) == (429, "rate_limit_exceeded")
    assert last.choices[0].finish_reason == "error"


def test_chat_with_an_unknown_key_is_refused(box):
    with client_with(box, "sk-or-v1-wrong") as client, pytest.raises(errors.UnauthorizedResponseError) as caught:
        client.chat.send(model="openai/gpt-4o-mini", messages=SAY)

    assert caught.value.data.error.message == "User not found."


# Money and keys


def test_credits_are_shown_to_a_management_key(box):
    with client_with(box, box.key(management=True, balance=25)) as client:
        data = client.credits.get_credits().data

    assert (data.total_credits, data.total_usage) == (25, 0)


def test_credits_are_refused_to_an_ordinary_key(sdk):
    with pytest.raises(errors.ForbiddenResponseError) as caught:
        sdk.credits.get_credits()

    assert caught.value.data.error.message == "Only management keys can perform this operation"


@pytest.mark.parametrize("reset", [None, "daily", "weekly", "monthly"])
def test_current_key_tells_its_cap(box, reset):
    with client_with(box, box.key(limit=2.5, limit_reset=reset)) as client:
        data = client.api_keys.get_current_key_metadata().data

    assert (data.limit, data.limit_remaining, data.limit_reset) == (2.5, 2.5, reset)
    assert data.effective_budget.scope == "key_limit"
    assert (data.effective_budget.resets_at is None) == (reset is None)


def test_generation_can_be_read_after_a_while(box, sdk):
    answer = sdk.chat.send(model="openai/gpt-4o-mini", messages=SAY, user="someone", session_id="a session")
    with pytest.raises(errors.NotFoundResponseError):
        sdk.generations.get_generation(id=answer.id)
    box.advance(DELAY + 1)
    data = sdk.generations.get_generation(id=answer.id).data

    assert (data.id, data.total_cost, data.usage) == (answer.id, answer.usage.cost, answer.usage.cost)
    assert (data.external_user, data.session_id, data.streamed) == ("someone", "a session", False)
    assert data.native_tokens_completion == answer.usage.completion_tokens
    assert [response.status for response in data.provider_responses] == [200]


def test_coinbase_is_gone_for_everybody(box):
    # Left out of the SDK.
    answer = box.http.post(f"{box.url}/credits/coinbase", content=b"anything")

    assert answer.status_code == 410
    assert answer.json() == {
        "error": {
            "code": 410,
            "message": "The Coinbase APIs used by this endpoint have been deprecated, so the Coinbase Commerce "
            "credits API has been removed. Use the web credits purchase flow instead.",
        }
    }


# The catalog


def test_models_parse_and_agree_with_their_count(sdk):
    listed = sdk.models.list().result
    counted = sdk.models.count().data.count

    assert len(listed.data) == listed.total_count == counted
    assert listed.links.next is None


def test_models_come_in_pages(sdk):
    first = sdk.models.list(limit=20, offset=0)
    pages = [first.result]
    while following := (first := first.next()) and first:
        pages.append(following.result)

    assert len({model.id for page in pages for model in page.data}) == pages[0].total_count


def test_models_of_every_output_are_counted(sdk):
    everything, text = sdk.models.count(output_modalities="all").data.count, sdk.models.count().data.count
    embeddings = sdk.models.count(output_modalities="embeddings").data.count

    assert text < everything
    assert embeddings > 0


def test_models_are_filtered_and_sorted(sdk):
    found = sdk.models.list(supported_parameters="tools", max_price=1, sort="pricing-low-to-high").result.data

    prices = [float(model.pricing.prompt) for model in found]
    assert found
    assert prices == sorted(prices)
    assert all(0 <= price <= 1e-6 for price in prices)
    assert all("tools" in model.supported_parameters for model in found)


def test_models_refuse_a_filter_they_do_not_know(sdk):
    with pytest.raises(errors.BadRequestResponseError):
        sdk.models.list(category="no such category")


def test_embedding_models_parse(sdk):
    found = sdk.embeddings.list_models().result

    assert found.total_count == len(found.data) > 0
    assert all(model.architecture.output_modalities == ["embeddings"] for model in found.data)


def test_endpoints_of_every_model_parse(sdk):
    for model in sdk.models.list(output_modalities="all").result.data:
        author, _, slug = model.id.partition("/")
        data = sdk.endpoints.list(author=author, slug=slug).data
        assert data.id == model.id
        assert bool(data.endpoints) != author.startswith("openrouter")


def test_endpoints_of_an_unknown_model_are_not_found(sdk):
    with pytest.raises(errors.NotFoundResponseError):
        sdk.endpoints.list(author="nobody", slug="nothing")


def test_endpoints_hide_speed_from_strangers(box, sdk):
    known = sdk.endpoints.list(author="openai", slug="gpt-4o-mini").data.endpoints
    with client_with(box, "sk-or-v1-wrong") as stranger:
        unknown = stranger.endpoints.list(author="openai", slug="gpt-4o-mini").data.endpoints

    assert all(end.latency_last_30m and end.throughput_last_30m for end in known)
    assert not any(end.latency_last_30m or end.throughput_last_30m for end in unknown)


def test_zdr_endpoints_parse_and_name_known_providers(sdk):
    slugs = {provider.slug for provider in sdk.providers.list().data}
    rows = sdk.endpoints.list_zdr_endpoints().data

    assert rows
    assert {row.tag.partition("/")[0] for row in rows} <= slugs
    assert not any(isinstance(row.provider_name, UnrecognizedStr) for row in rows)


def test_user_models_are_those_of_the_list(box, sdk):
    bearer = operations.ListModelsUserSecurity(bearer=box.key())

    mine = sdk.models.list_for_user(security=bearer).result.data

    assert [model.id for model in mine] == [model.id for model in sdk.models.list().result.data]


def test_user_models_need_a_key(sdk):
    with pytest.raises(errors.UnauthorizedResponseError):
        sdk.models.list_for_user(security=operations.ListModelsUserSecurity(bearer="sk-or-v1-wrong"))


# Messages: the SDK has the types of this operation but no method to send it.


def post_messages(box: Sandbox, **body: Any) -> httpx.Response:
    body = {"model": "anthropic/claude-haiku-4.5"} | body
    # Checked with the SDK's type and sent as it is: writing it back out, the SDK loses `fallbacks`.
    components.MessagesRequest.model_validate(body)
    headers = {"authorization": f"Bearer {box.key()}"}
    return box.http.post(f"{box.url}/messages", json=body, headers=headers)


def blocks_of(data: dict[str, Any]) -> list[Any]:
    return TypeAdapter(list[components.ORAnthropicContentBlock]).validate_python(data["content"])


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The events as the SDK's own reader of streams finds them."""
    return [event["data"] for event in EventStream(answer, json.loads, sentinel="[DONE]")]


def test_messages_answer_with_text_and_usage(box):
    data = post_messages(box, messages=SAY, max_tokens=50).json()

    assert [(block.type, block.text) for block in blocks_of(data)] == [("text", "a cup of tea")]
    assert (data["type"], data["role"], data["stop_reason"]) == ("message", "assistant", "end_turn")
    assert data["usage"]["input_tokens"] > 0
    assert data["usage"]["cost"] > 0
    assert {"container", "stop_sequence", "stop_details"} <= data.keys()


def test_messages_are_answered_by_the_host_their_preferences_allow(box):
    first, second = (
        post_messages(box, messages=SAY, provider={"order": [slug]}).json() for slug in ("anthropic", "amazon-bedrock")
    )

    assert (first["provider"], second["provider"]) == ("Anthropic", "Amazon Bedrock")
    assert first["usage"]["cost"] < second["usage"]["cost"]


def test_messages_that_nobody_may_answer_say_why_in_their_own_shape(box):
    answer = post_messages(box, messages=SAY, provider={"only": ["anthropic"], "zdr": True})

    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (404, "not_found_error")
    assert error["availability"]["code"] == "privacy_restricted"
    assert error["availability"]["excluded_by"] == ["allowed_providers", "data_policy:zdr"]


def test_messages_call_the_tool_a_prompt_names(box):
    data = post_messages(box, messages=CALL, tools=[MESSAGES_TOOL]).json()

    [block] = blocks_of(data)
    assert (block.type, block.name, block.input["city"]) == ("tool_use", "get_weather", "Oslo")
    assert data["stop_reason"] == "tool_use"


def test_messages_think_first_when_asked_to(box):
    data = post_messages(box, messages=SAY, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000).json()

    assert [block.type for block in blocks_of(data)] == ["thinking", "text"]
    assert data["usage"]["output_tokens_details"]["thinking_tokens"] > 0


def test_messages_stream_has_its_events_in_order(box):
    whole = post_messages(box, messages=SAY).json()
    events = events_of(post_messages(box, messages=SAY, stream=True))

    kinds = [event["type"] for event in events]
    deltas = [event for event in events if event["type"] == "content_block_delta"]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.index("content_block_start") < kinds.index("content_block_delta") < kinds.index("content_block_stop")
    assert "".join(event["delta"]["text"] for event in deltas) == whole["content"][0]["text"]
    assert events[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert events[-2]["usage"]["cost"] == whole["usage"]["cost"]


def test_messages_stream_sends_tool_input_in_fragments(box):
    events = events_of(post_messages(box, messages=CALL, tools=[MESSAGES_TOOL], stream=True))

    start = next(event["content_block"] for event in events if event["type"] == "content_block_start")
    pieces = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
    assert (start["type"], start["name"], start["input"]) == ("tool_use", "get_weather", {})
    assert len(pieces) > 1
    assert json.loads("".join(pieces))["city"] == "Oslo"


def test_messages_stream_that_breaks_ends_in_an_error(box):
    box.rules({"answer": {"kind": "mid_stream_error", "status": 529}})

    events = events_of(post_messages(box, messages=SAY, stream=True))

    assert [event["type"] for event in events][:2] == ["message_start", "content_block_start"]
    assert events[-1]["error"]["type"] == "overloaded_error"


def test_messages_fall_back_in_order(box):
    body = {"model": "gone/model", "fallbacks": [{"model": "also/gone"}, {"model": "anthropic/claude-haiku-4.5"}]}

    data = post_messages(box, messages=SAY, **body).json()

    assert data["model"].startswith("anthropic/claude-4.5-haiku")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (529, "overloaded_error"),
    ],
)
def test_messages_refusals_have_the_shape_of_their_format(box, status, kind):
    box.rules({"match": {"path": "/messages"}, "answer": {"kind": "status", "status": status}})

    answer = post_messages(box, messages=SAY)

    assert answer.status_code == status
    assert (answer.json()["type"], answer.json()["error"]["type"]) == ("error", kind)


def test_messages_without_a_key_are_refused_in_their_own_shape(box):
    answer = box.http.post(f"{box.url}/messages", json={"model": "a/b", "messages": SAY})

    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
