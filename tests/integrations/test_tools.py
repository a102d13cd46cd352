"""Each tool on the wire: what it asks OpenRouter, and what it makes of the answer."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.envelope import build_failure, build_result, plain
from integrations.errors import Gone, RateLimited
from integrations.openrouter.answers import key_facts
from integrations.openrouter.client import OpenRouter
from integrations.openrouter.rows import fits, impact, in_order, per_million
from integrations.registry import get_integration, parse_arguments
from integrations.wire import Answer
from tests.integrations.scripted import answer, stream
from tests.integrations.upstream import GENERATION, USAGE, ask, chunk, completion, error_body, failure, tool_chunk

OPENROUTER = get_integration("openrouter")
CLIENT = OPENROUTER.client("http://127.0.0.1:1")
ASK = {"model": "google/gemini-2.5-flash", "messages": [{"role": "user", "content": "Hello?"}]}
CHARGE = {"amount": "10", "sender": "0x" + "a" * 40, "chain_id": 1}
SMALLEST = {
    "create_chat_completion": ASK,
    "create_coinbase_charge": CHARGE,
    "create_message": ASK,
    "get_generation": {"id": GENERATION},
    "list_model_endpoints": {"model": "openai/gpt-oss-20b:free"},
}


def prepared(name, **told):
    tool = OPENROUTER.tool(name)
    arguments = parse_arguments(tool, SMALLEST.get(name, {}) | told)
    return tool, arguments, tool.prepare(arguments, CLIENT)


def asked(name, **told):
    return prepared(name, **told)[2]


def sent(name, **told):
    return json.loads(asked(name, **told).body)


def returned(name, body, **told):
    """What the tool returns when OpenRouter answers with this body, as JSON values."""
    tool, arguments, request = prepared(name, **told)
    reply = body if isinstance(body, list) else answer(body)
    got = ask(reply, request)
    return build_result(tool.read(got, arguments), got)["data"]


def model(id="openai/gpt-oss-20b", **fields):
    return {
        "id": id,
        "name": "OpenAI: gpt-oss-20b",
        "created": 1754414231,
        "context_length": 131072,
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "pricing": {"prompt": "0.00000003", "completion": "0.00000014", "input_cache_read": "0.000000015"},
        "top_provider": {"max_completion_tokens": 65536, "is_moderated": False},
        "supported_parameters": ["tools", "reasoning", "max_tokens"],
        "expiration_date": None,
    } | fields


def endpoint(model_id="openai/gpt-oss-20b", **fields):
    return {
        "model_id": model_id,
        "provider_name": "DeepInfra",
        "tag": "deepinfra/fp4",
        "context_length": 131072,
        "max_completion_tokens": None,
        "quantization": "fp4",
        "pricing": {"prompt": "0.00000003", "completion": "0.00000014", "discount": 0},
        "supported_parameters": ["tools"],
        "status": 0,
        "uptime_last_30m": 99.8,
        "uptime_last_1d": 99.5,
        "latency_last_30m": {"p50": 420, "p99": 900},
        "throughput_last_30m": None,
        "supports_implicit_caching": False,
    } | fields


# --- what is asked --------------------------------------------------------------------------


def test_every_tool_builds_its_request():
    assert {tool.name: (request.method, request.path, request.query) for tool, _, request in map(prepared, NAMES)} == {
        "create_chat_completion": ("POST", "/chat/completions", ()),
        "create_coinbase_charge": ("POST", "/credits/coinbase", ()),
        "create_message": ("POST", "/messages", ()),
        "get_credits": ("GET", "/credits", ()),
        "get_current_key": ("GET", "/key", ()),
        "get_generation": ("GET", "/generation", (("id", GENERATION),)),
        "get_models_count": ("GET", "/models/count", ()),
        "list_available_models": ("GET", "/models", (("offset", "0"), ("limit", "20"))),
        "list_embedding_models": ("GET", "/embeddings/models", ()),
        "list_model_endpoints": ("GET", "/models/openai/gpt-oss-20b:free/endpoints", ()),
        "list_providers": ("GET", "/providers", ()),
        "list_user_models": ("GET", "/models/user", ()),
        "list_zdr_endpoints": ("GET", "/endpoints/zdr", ()),
    }


NAMES = [tool.name for tool in OPENROUTER.tools]


def test_hints_agree_with_the_requests():
    requests = {tool: request for tool, _, request in map(prepared, NAMES)}

    assert [tool.name for tool, request in requests.items() if tool.hints.spends_money != request.billable] == []
    assert [
        tool.name
        for tool, request in requests.items()
        if request.needs_key != (tool.credential in ("api_key", "management"))
    ] == []
    assert [tool.name for tool, request in requests.items() if tool.hints.read_only != (request.method == "GET")] == []


def test_a_call_to_a_model_never_leaves_without_an_upper_limit():
    assert sent("create_chat_completion") == ASK | {"max_tokens": 1024, "stream": True}
    assert sent("create_message") == ASK | {"max_tokens": 1024, "stream": True}
    assert sent("create_chat_completion", max_completion_tokens=7)["max_tokens"] == 7


def test_answers_are_streamed_unless_they_must_be_whole_to_be_healed():
    assert asked("create_chat_completion").streams == "chat"
    assert asked("create_message").streams == "messages"
    assert asked("create_chat_completion", plugins=[{"id": "response-healing"}]).streams is None


def test_the_platform_adds_its_own_fields():
    tool, arguments, _ = prepared("create_chat_completion")

    request = tool.prepare(arguments, CLIENT, {"user": "hash", "session_id": "s1"})

    assert json.loads(request.body) == ASK | {"max_tokens": 1024, "stream": True, "user": "hash", "session_id": "s1"}


def test_the_same_arguments_make_the_same_bytes():
    told = {"tools": [{"type": "function", "function": {"name": "look", "parameters": {"b": 1, "a": None}}}]}

    assert asked("create_chat_completion", **told).body == asked("create_chat_completion", **told).body
    assert sent("create_chat_completion", **told)["tools"] == told["tools"]


def test_each_fallback_of_a_message_is_an_object():
    assert sent("create_message", fallbacks=["a/b", "a/c"])["fallbacks"] == [{"model": "a/b"}, {"model": "a/c"}]


def test_a_latest_alias_keeps_its_tilde():
    assert asked("list_model_endpoints", model="~openai/gpt-latest").path == "/models/~openai/gpt-latest/endpoints"


def test_filters_go_under_the_names_openrouter_knows():
    request = asked(
        "list_available_models",
        q="gpt",
        category="programming",
        supported_parameters=["tools", "structured_outputs"],
        input_modalities=["text", "image"],
        min_context=100000,
        max_prompt_price="0.0000001",
        max_output_price=2,
        providers=["deepinfra"],
        authors=["openai"],
        zdr=True,
        region="eu",
        sort="newest",
        offset=20,
        limit=10,
    )

    assert dict(request.query) == {
        "offset": "20",
        "limit": "10",
        "q": "gpt",
        "supported_parameters": "tools,structured_outputs",
        "input_modalities": "text,image",
        "context": "100000",
        "max_price": "0.0000001",
        "max_output_price": "2",
        "model_authors": "openai",
        "category": "programming",
        "providers": "deepinfra",
        "zdr": "true",
        "region": "eu",
        "sort": "newest",
    }


def test_zdr_false_asks_for_nothing():
    assert dict(asked("list_available_models", zdr=False).query) == {"offset": "0", "limit": "20"}


# --- models' answers --------------------------------------------------------------------------


def test_a_streamed_chat_answer_is_returned_whole():
    events = [chunk("Hel"), chunk("lo", finish="stop"), chunk(usage=USAGE)]

    data = returned("create_chat_completion", stream(*events))

    assert data["text"] == "Hello"
    assert data["finish_reason"] == "stop"
    assert data["model"] == "google/gemini-2.5-flash"
    assert data["usage"] == {
        "prompt": 10,
        "completion": 4,
        "reasoning": None,
        "cached": None,
        "cost": "0.00014",
        "is_byok": False,
    }


def test_a_chat_answer_carries_tool_calls_reasoning_and_annotations():
    details = [{"type": "reasoning.text", "text": "hm", "index": 0}]
    said = {
        "content": "",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}],
        "reasoning": "hm",
        "reasoning_details": details,
        "annotations": [{"type": "url_citation", "url_citation": {"url": "https://example.com"}}],
    }

    data = returned("create_chat_completion", completion(said), plugins=[{"id": "response-healing"}])

    assert data["tool_calls"] == [{"id": "c1", "name": "look", "arguments": '{"a":1}'}]
    assert (data["reasoning"], data["reasoning_details"]) == ("hm", details)
    assert data["annotations"][0]["type"] == "url_citation"


def test_streamed_tool_calls_are_returned_too():
    events = [tool_chunk(index=0, id="c1", name="look", arguments='{"a"'), tool_chunk(index=0, arguments=":1}")]

    data = returned("create_chat_completion", stream(*events, chunk(finish="tool_calls", usage=USAGE)))

    assert data["tool_calls"] == [{"id": "c1", "name": "look", "arguments": '{"a":1}'}]


def test_a_message_answer_is_split_into_text_and_tool_uses():
    body = {
        "id": GENERATION,
        "type": "message",
        "role": "assistant",
        "model": "anthropic/claude-haiku-4.5",
        "provider": "Anthropic",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "Hello"},
            {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "stop_details": None,
        "usage": {"input_tokens": 9, "output_tokens": 3, "cache_read_input_tokens": 2, "cost": 0.002},
    }

    data = returned("create_message", body, plugins=[{"id": "response-healing"}])

    assert (data["text"], data["stop_reason"]) == ("Hello", "tool_use")
    assert data["tool_uses"] == [{"id": "t1", "name": "look", "input": {"a": 1}}]
    assert data["usage"] == {"input": 9, "output": 3, "cache_read": 2, "cache_write": None, "cost": "0.002"}


# --- account ---------------------------------------------------------------------------------------


def test_the_balance_is_exact_and_may_be_negative():
    data = returned("get_credits", {"data": {"total_credits": 0.3, "total_usage": 0.1}})
    empty = returned("get_credits", {"data": {"total_credits": 0, "total_usage": 0.25}})

    assert (data["total_credits"], data["total_usage"], data["balance"]) == ("0.3", "0.1", "0.2")
    assert empty["balance"] == "-0.25"
    assert datetime.fromisoformat(data["as_of"]).tzinfo is not None


@pytest.mark.parametrize(
    ("reset", "resets_at"),
    [
        ("daily", "2026-12-31T00:00:00+00:00"),
        ("weekly", "2027-01-04T00:00:00+00:00"),
        ("monthly", "2027-01-01T00:00:00+00:00"),
        (None, None),
        ("hourly", None),
    ],
)
def test_a_key_says_when_its_limit_starts_again(reset, resets_at):
    wednesday = datetime(2026, 12, 30, 23, 59, tzinfo=UTC)

    assert key_facts({"limit_reset": reset}, wednesday)["resets_at"] == resets_at


def test_a_key_is_told_apart_and_its_tightest_limit_counts():
    now = datetime(2026, 11, 22, tzinfo=UTC)
    budget = {"remaining_usd": Decimal("1.5"), "scope": "workspace"}

    facts = key_facts({"is_management_key": True, "limit_remaining": Decimal(3), "effective_budget": budget}, now)

    assert (facts["kind"], facts["remaining_usd"]) == ("management", Decimal("1.5"))
    assert key_facts({"is_management_key": False, "limit_remaining": None}, now)["remaining_usd"] is None
    assert key_facts({}, now)["kind"] == "api"


@pytest.mark.parametrize(
    ("expires_at", "expired"),
    [
        ("2026-11-22T00:00:00Z", True),
        ("2026-11-22T00:00:01Z", False),
        ("2026-11-22T01:00:00+02:00", True),
        (None, False),
        ("soon", False),
    ],
)
def test_a_key_says_whether_it_is_expired(expires_at, expired):
    now = datetime(2026, 11, 22, tzinfo=UTC)

    assert key_facts({"expires_at": expires_at}, now)["expired"] is expired


def test_a_key_answer_lists_its_fields_by_name():
    data = returned("get_current_key", {"data": {"label": "sk-or-v1-0e6...1c96", "usage": 1.5, "surprise": "x"}})

    assert data["usage"] == "1.5"
    assert "surprise" not in data


def test_a_generation_shows_cost_tokens_and_attempts():
    attempts = [{"provider_name": "Google", "status": 429, "id": "x"}, {"provider_name": "DeepInfra", "status": 200}]

    data = returned(
        "get_generation",
        {
            "data": {
                "id": GENERATION,
                "total_cost": 0.0000001,
                "native_tokens_prompt": 9,
                "provider_responses": attempts,
            }
        },
    )

    assert (data["id"], data["total_cost"], data["native_tokens_prompt"]) == (GENERATION, "0.0000001", 9)
    assert [(attempt["provider_name"], attempt["status"]) for attempt in data["attempts"]] == [
        ("Google", 429),
        ("DeepInfra", 200),
    ]


def test_the_withdrawn_charge_fails_with_the_way_out():
    message = "The Coinbase APIs used by this endpoint have been deprecated."

    error = failure(answer(error_body(410, message), status=410), asked("create_coinbase_charge"))

    assert isinstance(error, Gone)
    assert not error.retryable
    assert build_failure(error)["error"]["replacement_url"] == OPENROUTER.tool("create_coinbase_charge").instead_url


# --- catalog -----------------------------------------------------------------------------------------


def test_models_come_as_flat_rows_with_exact_prices():
    data = returned("list_available_models", {"data": [model()], "total_count": 369, "links": {"next": None}})

    assert data == {
        "models": [
            {
                "id": "openai/gpt-oss-20b",
                "name": "OpenAI: gpt-oss-20b",
                "context_length": 131072,
                "max_completion_tokens": 65536,
                "prompt_per_million": "0.03",
                "completion_per_million": "0.14",
                "cache_read_per_million": "0.015",
                "request": None,
                "input_modalities": ["text"],
                "output_modalities": ["text"],
                "supports": {"tools": True, "structured_outputs": False, "reasoning": True},
                "expiration_date": None,
            }
        ],
        "total": 369,
        "offset": 0,
    }


@pytest.mark.parametrize(
    ("pricing", "price"),
    [
        ({"prompt": "-1"}, None),
        ({"prompt": "0"}, Decimal(0)),
        ({"prompt": "0.00000008333333333333334"}, Decimal("0.08333333333333334")),
        ({"prompt": "0.000002", "discount": Decimal("0.25")}, Decimal("1.5")),
        ({"prompt": "0.0001"}, Decimal(100)),
        ({"prompt": "free"}, None),
        ({"prompt": "NaN"}, None),
        ({"prompt": "1e999999999"}, None),
        ({}, None),
    ],
)
def test_prices_are_exact_and_null_when_they_vary(pricing, price):
    assert per_million(pricing, "prompt") == price


def test_free_only_looks_through_the_whole_list():
    listed = {"data": [model(f"a/m{n}{':free' if n % 2 else ''}") for n in range(100)], "total_count": 100}

    data = returned("list_available_models", listed, free_only=True, offset=10, limit=5)

    assert asked("list_available_models", free_only=True).query == ()
    assert [row["id"] for row in data["models"]] == [f"a/m{n}:free" for n in (21, 23, 25, 27, 29)]
    assert data["total"] == 50


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ({}, True),
        ({"q": "GPT-OSS"}, True),
        ({"q": "claude"}, False),
        ({"supported_parameters": ["tools", "reasoning"]}, True),
        ({"supported_parameters": ["structured_outputs"]}, False),
        ({"input_modalities": ["image"]}, False),
        ({"output_modalities": ["image"]}, False),
        ({"min_context": 131072}, True),
        ({"min_context": 131073}, False),
        ({"max_prompt_price": "0.03"}, True),
        ({"max_prompt_price": "0.029"}, False),
        ({"max_output_price": "0.1"}, False),
        ({"authors": ["openai"]}, True),
        ({"authors": ["qwen"]}, False),
        ({"free_only": True}, False),
    ],
)
def test_the_accounts_own_models_are_filtered_here(told, kept):
    assert fits(model(), parse_arguments(OPENROUTER.tool("list_user_models"), told)) is kept


def test_a_varying_price_is_over_every_limit():
    filters = parse_arguments(OPENROUTER.tool("list_user_models"), {"max_prompt_price": "1000"})

    assert not fits(model(pricing={"prompt": "-1", "completion": "-1"}), filters)


def test_own_models_are_sorted_with_the_unknown_last():
    cheap, dear = model("a/cheap", pricing={"prompt": "0.1"}), model("a/dear", pricing={"prompt": "0.2"})
    varying = model("a/varying", pricing={"prompt": "-1"})

    assert in_order([varying, dear, cheap], "pricing-low-to-high") == [cheap, dear, varying]
    assert in_order([varying, cheap, dear], "pricing-high-to-low") == [dear, cheap, varying]
    assert in_order([varying, dear], None) == [varying, dear]


def test_own_models_come_a_page_at_a_time():
    data = returned("list_user_models", {"data": [model(f"a/m{n}") for n in range(30)]}, offset=25)

    assert ([row["id"] for row in data["models"]], data["total"]) == ([f"a/m{n}" for n in range(25, 30)], 30)


def test_embedding_models_are_short_rows():
    rows = [model("openai/text-embedding-3-small", name="Small"), model("qwen/qwen3-embedding", name="Qwen")]

    data = returned("list_embedding_models", {"data": rows}, q="qwen")

    assert [row["id"] for row in data["models"]] == ["qwen/qwen3-embedding"]
    assert "completion_per_million" not in data["models"][0]


def test_the_count_says_what_was_counted():
    assert returned("get_models_count", {"data": {"count": 369}}) == {"count": 369, "output_modalities": ["text"]}
    assert asked("get_models_count", output_modalities=["all"]).query == (("output_modalities", "all"),)


def test_endpoints_are_sorted_best_first_with_the_unknown_last():
    dear = endpoint(tag="google-vertex", pricing={"prompt": "0.000001", "completion": "0"}, status=-2)
    unknown = endpoint(tag="azure", pricing={"prompt": "-1"}, latency_last_30m=None)

    data = returned(
        "list_model_endpoints", {"data": {"id": "x/y", "endpoints": [unknown, dear, endpoint()]}}, sort="price"
    )

    assert [(row["tag"], row["prompt_per_million"], row["status"]) for row in data["endpoints"]] == [
        ("deepinfra/fp4", "0.03", "operational"),
        ("google-vertex", "1", "degraded"),
        ("azure", None, "operational"),
    ]
    assert data["endpoints"][0]["latency_p50_ms"] == 420 or data["endpoints"][0]["latency_p50_ms"] == "420"
    assert data["endpoints"][0]["provider_slug"] == "deepinfra"


def test_providers_are_found_by_slug():
    rows = [{"name": "DeepInfra", "slug": "deepinfra", "privacy_policy_url": None}, {"name": "Z.ai", "slug": "z-ai"}]

    data = returned("list_providers", {"data": rows}, slug=["DeepInfra"])

    assert [row["slug"] for row in data["providers"]] == ["deepinfra"]
    assert len(returned("list_providers", {"data": rows})["providers"]) == 2


def test_zero_retention_endpoints_are_grouped_by_model():
    dear = endpoint(
        tag="google-vertex", provider_name="Google", pricing={"prompt": "0.000001", "completion": "0.000002"}
    )
    rows = [endpoint(), dear, endpoint("qwen/qwen3"), endpoint(None)]

    data = returned("list_zdr_endpoints", {"data": rows})

    assert data["total"] == 2
    assert data["models"][0] == {
        "model": "openai/gpt-oss-20b",
        "endpoints": 2,
        "providers": ["deepinfra", "google-vertex"],
        "cheapest_prompt_per_million": "0.03",
        "cheapest_completion_per_million": "0.14",
    }
    assert returned("list_zdr_endpoints", {"data": rows}, provider="google")["total"] == 1
    assert returned("list_zdr_endpoints", {"data": rows}, model="qwen/qwen3:nitro")["total"] == 1


def test_the_impact_of_zero_retention_names_what_is_kept_and_lost():
    asked_for = ["openai/gpt-oss-20b", "openai/gpt-oss-20b:nitro", "openai/gpt-oss-20b:free", "anthropic/claude"]

    data = returned("list_zdr_endpoints", {"data": [endpoint()]}, impact_on=asked_for)

    assert [row["asked"] for row in data["impact"]["kept"]] == ["openai/gpt-oss-20b", "openai/gpt-oss-20b:nitro"]
    assert data["impact"]["lost"] == ["openai/gpt-oss-20b:free", "anthropic/claude"]
    assert impact([], {}) == {"kept": [], "lost": []}


# --- odd answers -----------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text()
junk = st.recursive(
    scalars | st.just("-1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def oddly(real):
    """A real object with some of its fields turned into anything."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(real, junk)).map(lambda odd: real | odd)


odd_rows = st.lists(oddly(model()) | oddly(endpoint()) | junk, max_size=4)
odd_answers = st.one_of(
    oddly(completion()),
    st.builds(lambda choices: {"choices": choices}, st.lists(oddly({"message": {}, "finish_reason": 0}), max_size=2)),
    st.builds(lambda rows: {"data": rows}, odd_rows),
    st.builds(lambda rows: {"data": {"endpoints": rows}}, odd_rows),
    st.builds(lambda data: {"data": data}, oddly(dict.fromkeys(("limit_remaining", "expires_at", "total_credits")))),
)
FULL = {
    "list_user_models": {"min_context": 1, "max_prompt_price": "9999999", "sort": "newest"},
    "list_model_endpoints": {"model": "a/b", "sort": "uptime"},
    "list_zdr_endpoints": {"provider": "x", "impact_on": ["a/b"]},
    "list_available_models": {"free_only": True},
}


READINGS = [prepared(name, **told)[:2] for name in NAMES for told in ({}, FULL.get(name, {}))]


@settings(max_examples=150, deadline=None)
@given(body=odd_answers)
def test_an_odd_answer_never_breaks_the_reading(body):
    got = Answer(200, body)
    for tool, arguments in READINGS:
        json.dumps(build_result(tool.read(got, arguments), got), allow_nan=False)


# --- the envelope ---------------------------------------------------------------------------------------------


def test_a_result_keeps_money_exact():
    got = Answer(200, {}, generation_id="gen-1", model="a/b", provider="X", cost_usd=Decimal("0.00000001"), tokens_in=3)

    assert build_result({"price": Decimal("1E-7")}, got, attempts=[{"model": "a/b", "outcome": "done"}]) == {
        "successful": True,
        "data": {"price": "0.0000001"},
        "error": None,
        "meta": {
            "status": 200,
            "generation_id": "gen-1",
            "model": "a/b",
            "provider": "X",
            "cost": "0.00000001",
            "usage": {"tokens_in": 3, "tokens_out": None},
            "latency_ms": 0,
            "attempts": [{"model": "a/b", "outcome": "done"}],
        },
    }


def test_a_failure_has_the_shape_of_a_result_and_says_what_to_do():
    error = RateLimited("Slow down.", code=429, retry_after=40.0, provider_name="X", partial_text="Hel")

    failed = build_failure(error)

    assert failed.keys() == build_result({}, Answer(200, {})).keys()
    assert failed["meta"].keys() == build_result({}, Answer(200, {}))["meta"].keys()
    assert (failed["successful"], failed["data"]) == (False, {"partial_text": "Hel"})
    assert failed["error"]["outcome"] == "rate_limited"
    assert (failed["error"]["retryable"], failed["error"]["retry_after"]) == (True, 40.0)


def test_plain_leaves_nothing_json_cannot_hold():
    assert plain(Decimal("1E+999999999")) == "1E+999999999"
    assert plain({"a": (Decimal("0.10"), {"b": None}), 1: True}) == {"a": ["0.10", {"b": None}], "1": True}


def test_the_client_of_the_integration_is_made_from_an_address():
    assert isinstance(CLIENT, OpenRouter)
