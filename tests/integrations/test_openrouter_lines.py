"""
Thirty-eight behaviours of OpenRouter that trip clients, each with its tests.

Lines about prices, lists and rows are held by the catalog and the tools; here stands what
the client must do for them: hand their data on unharmed.
"""

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime

import pytest

from integrations import errors
from integrations.openrouter.client import OpenRouter
from tests.integrations.scripted import CUT, ScriptedServer, answer, stream
from tests.integrations.upstream import (
    CHAT,
    CHAT_STREAM,
    GENERATION,
    MESSAGE,
    MESSAGE_STREAM,
    PATIENT,
    PLAIN_KEY,
    REQUEST_ID,
    USAGE,
    ask,
    chunk,
    completion,
    error_body,
    failure,
    tool_chunk,
)
from vault.secret import Secret


def test_line_01_an_error_inside_a_200_is_an_error():
    error = failure(answer(error_body(429, "Rate limit exceeded", {"error_type": "rate_limit_exceeded"})))

    assert type(error) is errors.RateLimited
    assert (error.code, error.maybe_billed) == (429, False)


@pytest.mark.parametrize(
    "body",
    [
        completion(choices=[], usage=None),
        completion(choices=None, usage=None),
        completion({"content": ""}) | {"usage": USAGE | {"completion_tokens": 0, "cost": 0}},
        completion({"content": None}) | {"usage": USAGE | {"completion_tokens": 0, "cost": 0}},
    ],
)
def test_line_02_empty_choices_and_empty_content_are_no_answer_and_free(body):
    error = failure(answer(body))

    assert type(error) is errors.EmptyAnswer
    assert (error.retryable, error.try_next_model, error.maybe_billed) == (True, True, False)


def test_line_02_an_empty_stream_is_no_answer():
    error = failure(stream(chunk(""), chunk("", finish="stop", usage=USAGE | {"cost": 0})), CHAT_STREAM)

    assert type(error) is errors.EmptyAnswer
    assert error.maybe_billed is False


def test_line_02_an_answer_that_only_thought_is_empty_but_was_paid_for():
    body = completion({"content": "", "reasoning": "Hmm."}, usage=USAGE | {"cost": 0.5})

    error = failure(answer(body))

    assert type(error) is errors.EmptyAnswer
    assert (error.maybe_billed, error.cost_usd) == (True, Decimal("0.5"))


def test_line_03_finish_reason_error_is_a_failure_that_keeps_the_text():
    body = completion({"content": "Once upon"})
    body["choices"][0] |= {"finish_reason": "error", "error": {"code": 502, "message": "Provider returned error"}}

    error = failure(answer(body))

    assert type(error) is errors.Overloaded
    assert (error.partial_text, error.generation_id) == ("Once upon", GENERATION)


def test_line_03_finish_reason_error_without_an_error_is_a_failure_too():
    error = failure(stream(chunk("Once upon"), chunk(finish="error")), CHAT_STREAM)

    assert type(error) is errors.Overloaded
    assert (error.partial_text, error.retryable) == ("Once upon", False)


def test_line_04_tool_calls_count_although_the_finish_reason_is_null():
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    body = completion({"content": None, "tool_calls": [call]})
    body["choices"][0]["finish_reason"] = None

    got = ask(answer(body))

    assert (got.finish_reason, [call.name for call in got.tool_calls]) == ("tool_calls", ["look"])


def test_line_05_keep_alive_comments_are_skipped():
    comment = b": OPENROUTER PROCESSING\n\n"
    heard: list[str] = []

    got = ask(
        stream(comment, chunk("Hel"), comment, comment, chunk("lo"), chunk(finish="stop"), comment),
        CHAT_STREAM,
        on_text=heard.append,
    )

    assert (got.text, heard) == ("Hello", ["Hel", "lo"])


def test_line_06_a_usage_event_without_choices_is_read():
    usage_event = chunk(usage=USAGE) | {"choices": []}

    got = ask(stream(chunk("Hi"), chunk(finish="stop"), usage_event), CHAT_STREAM)

    assert (got.tokens_in, got.tokens_out, got.cost_usd) == (10, 4, Decimal("0.00014"))


def test_line_07_a_finish_repeated_by_the_usage_event_ends_nothing_twice():
    heard: list[str] = []

    got = ask(
        stream(chunk("Hi"), chunk("", finish="stop"), chunk("", finish="stop", usage=USAGE)),
        CHAT_STREAM,
        on_text=heard.append,
    )

    assert (got.text, got.finish_reason, heard, len(got.data["choices"])) == ("Hi", "stop", ["Hi"], 1)


def test_line_08_native_finish_reason_may_be_missing():
    body = completion()
    del body["choices"][0]["native_finish_reason"]

    assert ask(answer(body)).finish_reason == "stop"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ('{"error": {"message": "context too long"}}', "context too long"),
        ('{"message": "no such voice"}', "no such voice"),
        ("plain words", "plain words"),
        ('{"unknown": 1}', '{"unknown": 1}'),
    ],
)
def test_line_09_the_providers_own_reason_is_shown(raw, reason):
    error = failure(answer(error_body(400, metadata={"raw": raw, "provider_name": "Groq"}), 400))

    assert error.message == f"Provider returned error (Groq: {reason})"
    assert error.provider_name == "Groq"


@pytest.mark.parametrize("metadata", ["just text", ["a", "list"], None, 7, {}])
def test_line_10_metadata_of_any_type_is_survived(metadata):
    error = failure(answer(error_body(503, "Service temporarily unavailable", metadata), 503))

    assert type(error) is errors.Overloaded
    assert error.metadata == ({"raw": metadata} if metadata else {})


def test_line_10_retry_after_may_be_a_date():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)

    error = failure(answer(error_body(429), 429, retry_after=later))

    assert 37 < error.retry_after < 41


def test_line_11_the_reset_header_counts_milliseconds():
    reset = str(int((time.time() + 30) * 1000))

    error = failure(answer(error_body(429), 429, x_ratelimit_reset=reset))

    assert 28 < error.retry_after < 31


def test_line_12_the_daily_cap_waits_for_its_reset_and_not_for_a_short_retry_after():
    reset = str(int((time.time() + 7200) * 1000))
    body = error_body(429, "Rate limit exceeded: free-models-per-day", {"headers": {"X-RateLimit-Reset": reset}})

    error = failure(answer(body, 429, retry_after="5"))

    assert 7190 < error.retry_after < 7201
    assert error.try_next_model is True


def test_line_12_the_daily_cap_lasts_until_midnight_utc_where_only_its_source_is_said():
    error = failure(answer(error_body(429, metadata={"limit_source": "openrouter_free_tier_daily"}), 429))

    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0) + timedelta(days=1)
    assert abs(error.retry_after - (midnight - datetime.now(UTC)).total_seconds()) < 3


def test_line_13_402_is_the_balance_and_max_tokens_leaves_as_given():
    body = error_body(402, "This request requires more credits, or fewer max_tokens.", {"provider_name": None})

    assert type(failure(answer(body, 402))) is errors.OutOfBalance
    assert json.loads(CHAT.body)["max_tokens"] == 50


def test_line_14_the_cap_of_a_key_answers_403():
    error = failure(answer(error_body(403, "Key limit exceeded (total limit)"), 403))

    assert type(error) is errors.LimitReached
    assert (error.retryable, error.try_next_model) == (False, False)


def test_line_15_credits_need_a_management_key():
    error = failure(
        answer(error_body(403, "Only management keys can perform this operation"), 403), OpenRouter.credits()
    )

    assert type(error) is errors.ManagementKeyNeeded


@pytest.mark.parametrize(
    "text", ["Missing Authentication header", "No cookie auth credentials found", "User not found."]
)
def test_line_16_401_is_a_refused_key_whatever_it_says(text):
    assert type(failure(answer(error_body(401, text), 401))) is errors.KeyRefused


def test_line_17_a_401_of_the_provider_is_not_about_our_key():
    error = failure(answer(error_body(401, metadata={"provider_name": "Azure", "raw": "bad key"}), 401))

    assert type(error) is errors.ModelUnavailable
    assert error.try_next_model is True


def test_line_17_a_401_inside_a_success_is_the_providers_as_well():
    assert type(failure(answer(error_body(401)))) is errors.ModelUnavailable


@pytest.mark.parametrize("code", ["no_endpoints", "privacy_restricted", "constraint_filtered", "a_word_of_tomorrow"])
def test_line_18_a_404_says_why_by_availability(code):
    availability = {"code": code, "retryable": False, "excluded_by": ["data_policy:zdr"], "fallback_models": ["a/b"]}

    error = failure(answer(error_body(404, "No endpoints found", availability=availability), 404))

    assert type(error) is errors.ModelUnavailable
    assert error.availability["excluded_by"] == ["data_policy:zdr"]
    assert (error.retryable, error.try_next_model) == (False, True)


def test_line_19_no_endpoint_for_strict_tools_lets_another_model_try():
    error = failure(answer(error_body(404, "No endpoints found that support tool use."), 404))

    assert type(error) is errors.ModelUnavailable


def test_line_20_a_model_that_vanished_lets_another_model_try():
    availability = {"code": "model_not_found", "retryable": False}

    error = failure(answer(error_body(400, "a/b is not a valid model ID", availability=availability), 400))

    assert type(error) is errors.ModelUnavailable
    assert error.try_next_model is True


def test_line_21_prices_stay_the_text_they_were_and_a_cost_is_never_negative():
    listed = ask(answer({"data": [{"pricing": {"prompt": "-1"}}]}), OpenRouter.models())
    asked = ask(answer(completion(usage=USAGE | {"cost": -1})))

    assert listed.data == {"data": [{"pricing": {"prompt": "-1"}}]}
    assert asked.cost_usd is None


def test_line_22_price_overrides_arrive_exactly():
    body = b'{"data": [{"pricing": {"prompt": "0.00000008333333333333334", "discount": 0.1, "overrides": []}}]}'

    pricing = ask(answer(body), OpenRouter.models()).data["data"][0]["pricing"]

    assert pricing == {"prompt": "0.00000008333333333333334", "discount": Decimal("0.1"), "overrides": []}


def test_line_23_the_model_that_answered_is_told_apart_from_the_one_asked():
    got = ask(answer(completion(model="openai/gpt-4o-2024-08-06", provider="Azure")))

    assert (got.model, got.provider) == ("openai/gpt-4o-2024-08-06", "Azure")


def test_line_24_fragments_of_tool_calls_are_merged_by_index():
    got = ask(
        stream(
            tool_chunk(index=0, id="call_a", type="function", name="look", arguments=""),
            tool_chunk(index=1, id="call_b", type="function", name="list", arguments='{"n": '),
            tool_chunk(index=0, arguments='{"where": "up'),
            tool_chunk(index=1, id="call_b", arguments="3}"),
            tool_chunk(index=0, arguments='"}'),
            tool_chunk(index=0, arguments="  \n"),
            chunk(finish="tool_calls", usage=USAGE),
        ),
        CHAT_STREAM,
    )

    assert [(call.id, call.name, call.arguments) for call in got.tool_calls] == [
        ("call_a", "look", '{"where": "up"}'),
        ("call_b", "list", '{"n": 3}'),
    ]
    assert got.data["choices"][0]["message"]["content"] is None


@pytest.mark.parametrize("fragment", [{"index": 0, "name": "look"}, {"name": "look", "arguments": ""}])
def test_line_24_a_call_without_id_or_arguments_gets_both(fragment):
    got = ask(stream(tool_chunk(**fragment), chunk(finish="tool_calls")), CHAT_STREAM)

    call = got.tool_calls[0]
    assert (call.name, call.arguments) == ("look", "{}")
    assert call.id == got.data["choices"][0]["message"]["tool_calls"][0]["id"] != ""


def test_line_24_whole_calls_that_share_an_index_stay_two():
    got = ask(
        stream(
            tool_chunk(index=0, id="call_a", name="look", arguments='{"a": 1}'),
            tool_chunk(index=0, id="call_b", name="look", arguments='{"a": 2}'),
            chunk(finish="tool_calls"),
        ),
        CHAT_STREAM,
    )

    assert [call.arguments for call in got.tool_calls] == ['{"a": 1}', '{"a": 2}']


DETAILS = [
    {"type": "reasoning.summary", "summary": "Thinking", "format": "openai-responses-v1", "index": 0, "id": None},
    {"type": "reasoning.encrypted", "data": "gAAAAB", "format": "openai-responses-v1", "index": 0, "id": "rs_1"},
]


def test_line_25_reasoning_details_are_handed_on_untouched():
    got = ask(answer(completion({"reasoning_details": DETAILS})))

    assert got.data["choices"][0]["message"]["reasoning_details"] == DETAILS


def test_line_25_reasoning_details_of_a_stream_keep_their_order_and_signature():
    text = {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1"}

    got = ask(
        stream(
            chunk(reasoning="Let ", reasoning_details=[text | {"text": "Let "}]),
            chunk(reasoning="me.", reasoning_details=[text | {"text": "me."}]),
            chunk(reasoning_details=[text | {"signature": "abc"}]),
            chunk(reasoning_details=[DETAILS[1]]),
            chunk("Hi", finish="stop"),
        ),
        CHAT_STREAM,
    )

    message = got.data["choices"][0]["message"]
    assert message["reasoning"] == "Let me."
    assert message["reasoning_details"] == [text | {"text": "Let me.", "signature": "abc"}, DETAILS[1]]


def test_line_25_an_empty_list_of_reasoning_details_stays():
    got = ask(stream(chunk("Hi", reasoning_details=[]), chunk(finish="stop")), CHAT_STREAM)

    assert got.data["choices"][0]["message"]["reasoning_details"] == []


def test_line_26_empty_text_beside_tool_calls_leaves_as_null():
    turn = {"role": "assistant", "content": "", "tool_calls": [{"id": "a"}], "reasoning_details": []}
    silent = {"role": "assistant", "content": ""}
    body = {"messages": [turn, silent]}

    sent = json.loads(OpenRouter.chat_completions(body).body)

    assert sent["messages"] == [turn | {"content": None}, silent]
    assert turn["content"] == ""


def test_line_27_keys_leave_in_the_order_they_were_given():
    body = {"model": "a/b", "messages": [{"role": "user", "content": "é"}], "tools": [{"z": 1, "a": 2}]}

    request = OpenRouter.chat_completions(body)

    assert request.body.decode() == (
        '{"model":"a/b","messages":[{"role":"user","content":"é"}],"tools":[{"z":1,"a":2}]}'
    )
    assert request.body == OpenRouter.chat_completions(body).body


@pytest.mark.parametrize("end", [{"done": False}, {"done": False, "ends": False}])
def test_line_28_a_stream_may_end_without_usage_or_goodbye(end):
    steps = [chunk("Hi"), chunk(finish="stop")]
    reply = stream(*steps, **end, x_generation_id=GENERATION)

    got = ask([*reply, CUT], CHAT_STREAM)

    assert (got.text, got.cost_usd, got.tokens_out, got.generation_id) == ("Hi", None, None, GENERATION)


def test_line_29_the_record_of_a_generation_is_not_there_yet():
    error = failure(answer(error_body(404, "Resource not found"), 404), OpenRouter.generation(GENERATION))

    assert type(error) is errors.NotReady
    assert error.retryable is True


@pytest.mark.parametrize(
    ("is_byok", "cost"), [(False, Decimal("0.5")), (True, Decimal("0.75")), (None, Decimal("0.5"))]
)
def test_line_30_the_providers_bill_is_added_only_with_an_own_key(is_byok, cost):
    usage = USAGE | {"cost": 0.5, "is_byok": is_byok, "cost_details": {"upstream_inference_cost": 0.25}}

    assert ask(answer(completion(usage=usage))).cost_usd == cost


def test_line_31_pages_read_before_a_502_are_kept_and_were_paid_for():
    pages = [{"type": "file", "file": {"hash": "abc", "content": [{"type": "text", "text": "x" * 5000}]}}]

    error = failure(answer(error_body(502, metadata={"file_annotations": pages}), 502))

    assert error.metadata["file_annotations"] == pages
    assert error.maybe_billed is True


def test_line_32_missing_statistics_stay_null():
    row = {"latency_last_30m": None, "throughput_last_30m": None, "uptime_last_1d": None}

    got = ask(answer({"data": {"endpoints": [row]}}), OpenRouter.endpoints("google", "gemini-2.5-flash"))

    assert got.data["data"]["endpoints"] == [row]


def test_line_33_providers_keep_their_slug():
    row = {"name": "Google Vertex", "slug": "google-vertex", "a_field_of_tomorrow": 1}

    assert ask(answer({"data": [row]}), OpenRouter.providers()).data["data"] == [row]


def test_line_34_a_variant_leaves_in_the_path_as_it_is_written():
    assert OpenRouter.endpoints("~openai", "gpt-oss-20b:free").path == "/models/~openai/gpt-oss-20b:free/endpoints"


@pytest.mark.parametrize("build", [OpenRouter.models, OpenRouter.user_models, OpenRouter.embedding_models])
@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"limit": 20}, {"offset": "0", "limit": "20"}),
        ({"offset": 40}, {"offset": "40", "limit": "500"}),
        ({"offset": 40, "limit": 20}, {"offset": "40", "limit": "20"}),
        ({"limit": None}, {}),
    ],
)
def test_line_35_offset_and_limit_leave_together_or_not_at_all(build, given, sent):
    assert dict(build(**given).query) == sent


def test_line_36_a_stream_that_was_heard_is_not_repeated():
    error = failure(stream(chunk("Once"), error_body(429) | {"choices": []}, ends=False), CHAT_STREAM)

    assert type(error) is errors.RateLimited
    assert (error.partial_text, error.retryable, error.try_next_model, error.maybe_billed) == (
        "Once",
        False,
        False,
        True,
    )


def test_line_36_a_stream_that_failed_before_its_first_word_may_be_repeated():
    error = failure(stream(b": OPENROUTER PROCESSING\n\n", error_body(429), ends=False), CHAT_STREAM)

    assert (error.retryable, error.try_next_model, error.maybe_billed) == (True, True, False)


def test_line_37_one_call_is_one_exchange_whatever_comes_back():
    with ScriptedServer([answer(error_body(503), 503)]) as server:
        client = OpenRouter(server.url, timeouts=PATIENT)
        for request in (OpenRouter.models(), CHAT, MESSAGE, CHAT_STREAM, MESSAGE_STREAM):
            with pytest.raises(errors.Overloaded):
                client.send(request, key=Secret(PLAIN_KEY), request_id=REQUEST_ID)

        assert len(server.seen) == 5


def test_line_38_the_balance_is_handed_on_as_exact_numbers():
    got = ask(answer(b'{"data": {"total_credits": 100.5, "total_usage": 25.75}}'), OpenRouter.credits())

    assert got.data == {"data": {"total_credits": Decimal("100.5"), "total_usage": Decimal("25.75")}}
