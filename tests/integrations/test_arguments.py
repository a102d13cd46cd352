"""What each OpenRouter tool may be told."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.arguments import MOST_TEXT_BYTES
from integrations.openrouter.arguments.limits import text_bytes
from integrations.registry import InvalidArguments, get_tool, parse_arguments, tokens_upper_bound

MODEL = "openai/gpt-oss-20b"
PNG = "data:image/png;base64,iVBORw0KGgo="


def tool(name):
    return get_tool("openrouter", name)


def chat(**fields):
    given = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]} | fields
    return parse_arguments(tool("create_chat_completion"), given)


def message(**fields):
    given = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]} | fields
    return parse_arguments(tool("create_message"), given)


def blamed(make, **fields):
    """The paths that are blamed when these fields are given."""
    with pytest.raises(InvalidArguments) as refusal:
        make(**fields)
    return [problem.path for problem in refusal.value.problems]


# --- chat ---------------------------------------------------------------------------------


def test_every_documented_chat_field_is_accepted():
    told = {
        "messages": [
            {
                "role": "system",
                "content": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            },
            {"role": "developer", "content": "Answer in English."},
            {
                "role": "user",
                "name": "visitor",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                    {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
                    {
                        "type": "file",
                        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
                "reasoning_details": [{"type": "reasoning.encrypted", "id": None, "data": "abc", "index": 0}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": ""},
        ],
        "models": ["anthropic/claude-haiku-4.5", "~openai/gpt-latest", "@preset/mine", "qwen/qwen3:free"],
        "temperature": 0.2,
        "top_p": 1,
        "top_k": 0,
        "min_p": 0.1,
        "top_a": 0.1,
        "frequency_penalty": -2,
        "presence_penalty": 2,
        "repetition_penalty": 1.1,
        "seed": 7,
        "stop": ["a", "b", "c", "d"],
        "logit_bias": {"50256": -100},
        "logprobs": True,
        "top_logprobs": 20,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
        },
        "tools": [
            {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "default": None}}},
            {"type": "openrouter:web_search", "parameters": {"max_results": 3}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "exclude": True},
        "reasoning_effort": "low",
        "verbosity": "low",
        "modalities": ["text"],
        "image_config": {"aspect_ratio": "16:9"},
        "prediction": {"type": "content", "content": "Hello"},
        "plugins": [{"id": "file-parser", "pdf": {"engine": "native"}}, {"id": "web", "max_results": 2}],
        "provider": {
            "order": ["google-vertex/us-east5"],
            "zdr": True,
            "data_collection": "deny",
            "quantizations": ["fp8"],
            "sort": {"by": "price", "partition": "none"},
            "max_price": {"prompt": "0.5", "completion": 2},
            "preferred_max_latency": {"p90": 2.5},
        },
        "service_tier": "flex",
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
        "prompt_cache_key": "k",
        "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
        "stop_server_tools_when": [{"type": "max_cost", "max_cost_in_dollars": 0.5}],
    }

    body = chat(**told).body()

    assert {name: body[name] for name in told if name not in ("messages", "provider", "tools")} == {
        name: told[name] for name in told if name not in ("messages", "provider", "tools")
    }
    assert body["messages"][3]["reasoning_details"] == told["messages"][3]["reasoning_details"]
    assert body["tools"][0] == told["tools"][0]
    assert body["provider"]["max_price"] == {"prompt": "0.5", "completion": "2"}


def test_an_answer_always_has_an_upper_limit():
    assert chat().max_completion_tokens == 1024
    assert message().max_tokens == 1024
    assert chat(max_tokens=5).max_completion_tokens == 5
    assert blamed(chat, max_completion_tokens=0) == ["max_completion_tokens"]
    assert blamed(chat, max_completion_tokens=131_073) == ["max_completion_tokens"]
    assert blamed(chat, max_completion_tokens=5, max_tokens=5) == ["max_tokens"]


def test_null_means_not_set():
    assert "temperature" not in chat(temperature=None).body()


@pytest.mark.requirement("IN-1")
@pytest.mark.parametrize("name", ["stream", "user", "session_id", "metadata", "trace"])
def test_what_the_platform_fills_in_is_no_argument(name):
    for make in (chat, message):
        with pytest.raises(InvalidArguments) as refusal:
            make(**{name: "x"})
        [problem] = refusal.value.problems
        assert problem.path == name
        assert problem.hint.startswith("Leave it out")


@pytest.mark.requirement("IN-9")
@pytest.mark.parametrize(
    "model", ["", "gpt-4", "a/b/c", "a b/c", "a/b\n", "https://x/y", "../key", "a/b?x=1", "a/" + "b" * 200, "ａ/b", 5]
)
def test_a_model_id_that_is_none_is_refused(model):
    assert blamed(chat, model=model) == ["model"]
    assert blamed(message, model=model) == ["model"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": 1.5}, "seed"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0.content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "assistant"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]}]},
            "messages.0.content.0.x",
        ),
        ({"stop": ["a"] * 5}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "openrouter:bash"}]}, "tools.0"),
        ({"plugins": [{"id": "fusion"}]}, "plugins.0"),
        ({"reasoning": {"effort": "low", "max_tokens": 10}}, "reasoning.max_tokens"),
        ({"reasoning": {"effort": "low"}, "reasoning_effort": "high"}, "reasoning_effort"),
        ({"reasoning": {"max_tokens": 10}, "reasoning_effort": "high"}, "reasoning_effort"),
        ({"reasoning": {"max_tokens": 1024}}, "reasoning"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"provider": {"sort": "speed"}}, "provider.sort"),
        ({"provider": {"only": ["a"], "ignore": ["a", "b"]}}, "provider.only"),
        ({"provider": {"api_key": "x"}}, "provider.api_key"),
    ],
)
def test_a_bad_chat_argument_is_blamed_by_its_path(fields, path):
    assert blamed(chat, **fields) == [path]


def test_a_choice_among_tools_must_be_one_of_them():
    tools = [{"type": "function", "function": {"name": "look"}}]

    assert blamed(chat, tools=tools, tool_choice={"type": "function", "function": {"name": "other"}}) == ["tool_choice"]
    assert blamed(chat, tools=tools, tool_choice={"type": "openrouter:web_search"}) == ["tool_choice"]
    assert chat(tools=tools, tool_choice="required").tool_choice == "required"


def test_a_model_or_fallbacks_must_be_named():
    assert blamed(chat, model=None) == ["model"]
    assert chat(model=None, models=[MODEL]).model is None


@pytest.mark.requirement("IN-9")
@pytest.mark.parametrize("price", ["1_000", " 1", "1e5", "-1", "１", "NaN", "", True, -1, "0x10", "1." + "0" * 19])
def test_a_price_that_python_would_guess_at_is_refused(price):
    assert blamed(chat, provider={"max_price": {"prompt": price}}) == ["provider.max_price.prompt"]


@pytest.mark.parametrize(
    "url", ["http://example.com/a.png", "file:///etc/passwd", "ftp://x/y", "data:text/html;base64,PGI+"]
)
def test_a_picture_comes_by_https_or_inside_the_call(url):
    part = {"type": "image_url", "image_url": {"url": url}}

    assert blamed(chat, messages=[{"role": "user", "content": [part]}]) == ["messages.0.content.0.image_url.url"]


# --- size -----------------------------------------------------------------------------------


@pytest.mark.requirement("IN-1")
@pytest.mark.parametrize("make", [chat, message])
def test_two_megabytes_of_prompt_are_refused_with_the_limit_and_the_way_out(make):
    with pytest.raises(InvalidArguments) as refusal:
        make(messages=[{"role": "user", "content": "x" * 2_000_000}])

    assert [problem.as_dict() for problem in refusal.value.problems] == [
        {
            "path": "messages",
            "message": "The text of this call is over the limit of 1 MiB.",
            "hint": "Shorten it, or split the work over several calls.",
        }
    ]


def test_text_may_be_as_long_as_the_limit_says():
    frame = text_bytes(chat(messages=[{"role": "user", "content": "x"}])) - 1

    longest = chat(messages=[{"role": "user", "content": "x" * (MOST_TEXT_BYTES - frame)}])

    assert text_bytes(longest) == MOST_TEXT_BYTES
    assert blamed(chat, messages=[{"role": "user", "content": "x" * (MOST_TEXT_BYTES - frame + 1)}]) == ["messages"]


def test_many_small_texts_count_together():
    messages = [{"role": "user", "content": "x" * 1000}] * 1100

    assert blamed(chat, messages=messages) == ["messages"]


def test_a_picture_does_not_count_as_text():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 2_000_000}}

    assert text_bytes(chat(messages=[{"role": "user", "content": [picture]}])) < 1000


# --- how much a call can take ------------------------------------------------------------------


def test_the_bound_holds_at_one_token_per_byte():
    text = "é🙂 \n" * 100
    asked = chat(messages=[{"role": "user", "content": text}], max_completion_tokens=77)

    tokens_in, tokens_out = tokens_upper_bound(tool("create_chat_completion"), asked)

    assert tokens_in >= len(text.encode())
    assert tokens_out == 77


def test_the_bound_counts_what_the_model_reads_besides_the_text():
    plain = tokens_upper_bound(tool("create_chat_completion"), chat())[0]
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    film = {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}

    seen = chat(messages=[{"role": "user", "content": [picture, film]}])
    searched = chat(tools=[{"type": "openrouter:web_search"}])
    fetched = message(plugins=[{"id": "web-fetch", "max_uses": 2, "max_content_tokens": 1000}])

    assert tokens_upper_bound(tool("create_chat_completion"), seen)[0] > plain + 1_000_000
    assert tokens_upper_bound(tool("create_chat_completion"), searched)[0] > plain + 100_000
    assert tokens_upper_bound(tool("create_message"), fetched)[0] > plain + 2000


# --- messages ----------------------------------------------------------------------------------


def test_every_documented_block_is_accepted():
    blocks = [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a"}, "title": "t"},
        {"type": "document", "source": {"type": "content", "content": "a"}, "citations": {"enabled": True}},
        {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "a"}]},
        {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": None}},
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a"}], "is_error": False},
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"type": "web_search_result"}]},
        {"type": "compaction", "content": "a"},
    ]

    assert message(messages=[{"role": "user", "content": blocks}]).body()["messages"] == [
        {"role": "user", "content": blocks}
    ]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"fallbacks": ["a/b"], "models": ["a/c"]}, "fallbacks"),
        ({"fallbacks": ["a/b"] * 4}, "fallbacks"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "disabled", "budget_tokens": 1024}}, "thinking.budget_tokens"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "messages.0.role"),
        ({"tools": [{"name": "look"}]}, "tools.0.input_schema"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.0"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"output_config": {"task_budget": {"type": "tokens", "total": 10}}}, "output_config.task_budget.total"),
        ({"max_completion_tokens": 5}, "max_completion_tokens"),
    ],
)
def test_a_bad_message_argument_is_blamed_by_its_path(fields, path):
    assert blamed(message, **fields) == [path]


# --- the other tools ----------------------------------------------------------------------------


@pytest.mark.requirement("IN-9")
@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "1e3"}, "amount"),
        ({"sender": "0x123"}, "sender"),
        ({"sender": "0x" + "g" * 40}, "sender"),
        ({"chain_id": 10}, "chain_id"),
        ({"chain_id": "1"}, "chain_id"),
    ],
)
def test_the_withdrawn_charge_still_checks_its_arguments(fields, path):
    good = {"amount": "10.50", "sender": "0x" + "aB" * 20, "chain_id": 8453}

    assert parse_arguments(tool("create_coinbase_charge"), good).body() == good
    with pytest.raises(InvalidArguments) as refusal:
        parse_arguments(tool("create_coinbase_charge"), good | fields)
    assert [problem.path for problem in refusal.value.problems] == [path]


@pytest.mark.parametrize("id", ["", "gen-", "msg_123", "gen-../key", "gen-abc?x=1 "])
def test_a_generation_is_named_by_its_id(id):
    with pytest.raises(InvalidArguments):
        parse_arguments(tool("get_generation"), {"id": id})


@pytest.mark.parametrize("model", ["openai", "openai/", "/x", "a/b/c", "@preset/x", "a/b?c"])
def test_endpoints_are_asked_for_a_catalog_id(model):
    with pytest.raises(InvalidArguments):
        parse_arguments(tool("list_model_endpoints"), {"model": model})


def test_a_list_is_short_unless_asked_otherwise_and_never_endless():
    for name in ("list_available_models", "list_embedding_models", "list_user_models", "list_zdr_endpoints"):
        assert parse_arguments(tool(name), {}).limit == 20
        with pytest.raises(InvalidArguments):
            parse_arguments(tool(name), {"limit": 201})


# --- properties ------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=30)
model_ids = st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,9}/[a-z0-9][a-z0-9.:-]{0,9}\Z")
names = st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z")
fractions = st.floats(0, 1)
parts = st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, words)
    | st.just({"type": "image_url", "image_url": {"url": PNG}}),
    min_size=1,
    max_size=3,
)
messages = st.one_of(
    st.builds(lambda text: {"role": "system", "content": text}, words),
    st.builds(lambda content: {"role": "user", "content": content}, words | parts),
    st.builds(lambda text: {"role": "assistant", "content": text}, words),
    st.builds(lambda text, id: {"role": "tool", "content": text, "tool_call_id": id}, words, names),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
functions = st.builds(
    lambda name, schema: {"type": "function", "function": {"name": name, "parameters": schema}},
    names,
    st.dictionaries(words, json_values, max_size=3),
)
prices = st.decimals(0, 1000, places=6).map(lambda price: format(price, "f"))
chats = st.fixed_dictionaries(
    {"model": model_ids, "messages": st.lists(messages, min_size=1, max_size=4)},
    optional={
        "models": st.lists(model_ids, min_size=1, max_size=3),
        "max_completion_tokens": st.integers(1, 131_072),
        "temperature": st.floats(0, 2),
        "min_p": fractions,
        "seed": st.integers(-(2**63), 2**63 - 1),
        "stop": words | st.lists(words, min_size=1, max_size=4),
        "tools": st.lists(functions, min_size=1, max_size=3),
        "reasoning": st.fixed_dictionaries({}, optional={"effort": st.sampled_from(["low", "high"])}),
        "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}]),
        "provider": st.fixed_dictionaries(
            {}, optional={"zdr": st.booleans(), "max_price": st.fixed_dictionaries({}, optional={"prompt": prices})}
        ),
    },
)


@settings(max_examples=150, deadline=None)
@given(told=chats)
def test_valid_chat_arguments_come_back_as_they_went_in(told):
    parsed = parse_arguments(tool("create_chat_completion"), told)
    body = parsed.body()

    assert {name: body[name] for name in told} == told
    assert parse_arguments(tool("create_chat_completion"), json.dumps(body)) == parsed
