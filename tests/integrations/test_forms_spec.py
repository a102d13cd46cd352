"""A tool as a form, and a form as arguments."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.forms_spec import form_fields, parse_form
from integrations.registry import InvalidArguments, get_integration, json_schema, parse_arguments

OPENROUTER = get_integration("openrouter")
CHAT = OPENROUTER.tool("create_chat_completion")
MESSAGE = OPENROUTER.tool("create_message")
MODELS = OPENROUTER.tool("list_available_models")
SAID = {"model": "openai/gpt-oss-20b", "prompt": "Hi"}


def fields(tool):
    return {field.name: field for field in form_fields(tool)}


def blamed(tool, posted):
    with pytest.raises(InvalidArguments) as refusal:
        parse_form(tool, posted)
    return [(problem.path, problem.message) for problem in refusal.value.problems]


@pytest.mark.parametrize("tool", OPENROUTER.tools, ids=lambda tool: tool.name)
def test_every_argument_can_be_reached_from_the_form(tool):
    shown = fields(tool)
    rich = shown["advanced_json"].help if "advanced_json" in shown else ""

    assert [name for name in json_schema(tool)["properties"] if name not in shown and name not in rich] == []


def test_a_conversation_shows_a_prompt_and_folds_the_rest_away():
    shown = [field.name for field in form_fields(CHAT) if not field.advanced]

    assert shown == ["prompt", "model", "system", "max_completion_tokens", "temperature"]
    assert [name for name, field in fields(CHAT).items() if field.required] == ["prompt", "model"]
    assert form_fields(CHAT)[-1].name == "advanced_json"


def test_a_field_knows_its_kind_range_default_and_options():
    limit, sort = fields(MODELS)["limit"], fields(MODELS)["sort"]

    assert (limit.kind, limit.minimum, limit.maximum, limit.default) == ("integer", 1, 200, 20)
    assert (sort.kind, sort.choices[0]) == ("choice", "most-popular")
    assert fields(MODELS)["supported_parameters"].kind == "list"
    assert "tools" in fields(MODELS)["supported_parameters"].choices
    assert fields(MODELS)["free_only"].kind == "bool"
    assert fields(CHAT)["temperature"].kind == "number"
    assert fields(CHAT)["model"].example == "openai/gpt-oss-20b"


def test_a_tool_without_arguments_has_no_fields():
    assert form_fields(OPENROUTER.tool("get_credits")) == []
    assert parse_form(OPENROUTER.tool("get_credits"), {}) == {}


def test_prompt_and_system_become_messages():
    posted = SAID | {"system": "Be brief.", "temperature": "0.5", "max_completion_tokens": "10", "logprobs": "true"}

    assert parse_form(CHAT, posted) == {
        "model": "openai/gpt-oss-20b",
        "temperature": 0.5,
        "max_completion_tokens": 10,
        "logprobs": True,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    }


def test_a_tool_with_its_own_system_field_gets_it_there():
    assert parse_form(MESSAGE, SAID | {"system": "Be brief."}) == {
        "model": "openai/gpt-oss-20b",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_a_prompt_keeps_its_spaces_and_gets_plain_line_ends():
    assert parse_form(CHAT, SAID | {"prompt": "  a\r\n b "})["messages"] == [{"role": "user", "content": "  a\n b "}]


def test_empty_fields_are_left_out():
    assert parse_form(MODELS, {"q": " ", "limit": "", "authors": [], "zdr": ""}) == {}


def test_lists_come_as_several_values_or_as_one_text():
    assert parse_form(MODELS, {"authors": ["openai", "qwen"]}) == {"authors": ["openai", "qwen"]}
    assert parse_form(MODELS, {"authors": "openai, qwen\r\nmistralai\n"}) == {
        "authors": ["openai", "qwen", "mistralai"]
    }


def test_a_choice_of_numbers_is_a_number():
    posted = {"amount": "10.50", "sender": "0x" + "a" * 40, "chain_id": "137"}

    assert parse_form(OPENROUTER.tool("create_coinbase_charge"), posted)["chain_id"] == 137


def test_advanced_json_adds_what_has_no_field():
    posted = SAID | {"advanced_json": '{"provider": {"zdr": true}, "reasoning": {"effort": "low"}}'}

    arguments = parse_form(CHAT, posted)

    assert (arguments["provider"], arguments["reasoning"]) == ({"zdr": True}, {"effort": "low"})
    assert parse_arguments(CHAT, arguments).provider.zdr is True


def test_messages_in_advanced_json_come_between_system_and_prompt():
    earlier = [{"role": "user", "content": "One"}, {"role": "assistant", "content": "Two"}]
    posted = SAID | {"system": "Be brief.", "advanced_json": json.dumps({"messages": earlier})}

    assert [message["content"] for message in parse_form(CHAT, posted)["messages"]] == ["Be brief.", "One", "Two", "Hi"]


@pytest.mark.requirement("IN-1")
def test_an_unknown_field_is_refused():
    assert blamed(CHAT, SAID | {"api_key": "x"}) == [("api_key", "There is no such field.")]
    assert blamed(CHAT, SAID | {"messages": "x"}) == [("messages", "There is no such field.")]


@pytest.mark.requirement("IN-1")
def test_an_unknown_field_in_advanced_json_is_refused_by_the_tool():
    arguments = parse_form(CHAT, SAID | {"advanced_json": '{"stream": true}'})

    with pytest.raises(InvalidArguments) as refusal:
        parse_arguments(CHAT, arguments)

    assert [problem.path for problem in refusal.value.problems] == ["stream"]


def test_one_argument_cannot_be_given_in_two_places():
    posted = SAID | {"temperature": "1", "advanced_json": '{"temperature": 2}'}

    assert blamed(CHAT, posted) == [("temperature", "This is also in Advanced JSON.")]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("max_completion_tokens", "1.5", "This must be a whole number."),
        ("max_completion_tokens", "１２", "This must be a whole number."),
        ("max_completion_tokens", "1_000", "This must be a whole number."),
        ("temperature", "warm", "This must be a number, for example 0.7."),
        ("temperature", "nan", "This must be a number, for example 0.7."),
        ("logprobs", "maybe", "This must be yes or no."),
        ("verbosity", "shouting", "Choose one of the options."),
        ("model", ["a/b", "c/d"], "This field takes one value."),
        ("advanced_json", "[]", 'The arguments must be one JSON object. Write {"name": value, …}.'),
        ("advanced_json", "{", "This is not JSON. Check quotes, commas and brackets."),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_at_its_field(field, value, message):
    assert blamed(CHAT, SAID | {field: value}) == [(field, message)]


def test_several_mistakes_are_told_at_once():
    assert [path for path, _ in blamed(CHAT, SAID | {"x": "1", "temperature": "warm", "seed": "?"})] == [
        "x",
        "temperature",
        "seed",
    ]


texts = st.text(max_size=30)
posts = st.dictionaries(st.sampled_from([*fields(CHAT), "x"]), texts | st.lists(texts, max_size=3), max_size=8)


@settings(max_examples=200, deadline=None)
@given(posted=posts)
def test_whatever_is_posted_is_refused_or_becomes_arguments(posted):
    try:
        parse_arguments(CHAT, parse_form(CHAT, posted))
    except InvalidArguments as refusal:
        assert refusal.problems
