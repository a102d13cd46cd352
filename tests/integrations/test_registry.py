"""The list of tools, and the strict door every argument passes."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.describe import guide
from integrations.registry import (
    InvalidArguments,
    UnknownTool,
    get_integration,
    get_tool,
    integrations,
    json_schema,
    offered_tools,
    parse_arguments,
    tokens_upper_bound,
)
from integrations.strict_json import MOST_BYTES, MOST_DEPTH, MOST_VALUES
from vault.secret import Secret

OPENROUTER = get_integration("openrouter")
ALL = OPENROUTER.tools
CHAT = OPENROUTER.tool("create_chat_completion")
ASK = {"model": "openai/gpt-oss-20b", "messages": [{"role": "user", "content": "Hi"}]}

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def problems(tool, given):
    with pytest.raises(InvalidArguments) as refusal:
        parse_arguments(tool, given)
    return [(problem.path, problem.message) for problem in refusal.value.problems]


def test_openrouter_has_its_thirteen_tools():
    assert [tool.name for tool in ALL] == [
        "create_chat_completion",
        "create_coinbase_charge",
        "create_message",
        "get_credits",
        "get_current_key",
        "get_generation",
        "get_models_count",
        "list_available_models",
        "list_embedding_models",
        "list_model_endpoints",
        "list_providers",
        "list_user_models",
        "list_zdr_endpoints",
    ]


def test_unknown_names_are_refused():
    assert get_tool("openrouter", "get_credits") is OPENROUTER.tool("get_credits")
    assert OPENROUTER in integrations()
    with pytest.raises(UnknownTool):
        get_tool("openrouter", "create_completion")
    with pytest.raises(UnknownTool):
        get_tool("elsewhere", "get_credits")


def test_every_name_can_be_used_as_a_function_name():
    assert [tool.name for tool in ALL if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.name)] == []


def test_every_tool_tells_people_what_it_is_and_when_to_use_it():
    assert [tool.name for tool in ALL if not (tool.title and tool.summary and tool.when_to_use)] == []


def test_a_withdrawn_tool_is_never_offered_to_a_model():
    withdrawn = [tool for tool in ALL if tool.hints.retired]

    assert [tool.name for tool in withdrawn] == ["create_coinbase_charge"]
    assert set(offered_tools(OPENROUTER)) == set(ALL) - set(withdrawn)
    assert all(tool.retired_because and tool.instead_url.startswith("https://") for tool in withdrawn)
    assert not any(tool.hints.repeatable for tool in withdrawn)


def test_what_spends_money_is_bounded_and_not_repeated():
    spending = [tool for tool in ALL if tool.hints.spends_money]

    assert [tool.name for tool in spending] == ["create_chat_completion", "create_message"]
    assert all(tool.tokens and not tool.hints.repeatable and not tool.hints.read_only for tool in spending)
    assert (
        tokens_upper_bound(OPENROUTER.tool("get_credits"), parse_arguments(OPENROUTER.tool("get_credits"), {})) is None
    )


def test_only_the_balance_needs_a_management_key():
    assert [tool.name for tool in ALL if tool.hints.needs_management_key] == ["get_credits"]
    assert [tool.name for tool in ALL if tool.credential == "management"] == ["get_credits"]


@pytest.mark.requirement("IN-1")
@pytest.mark.parametrize("tool", ALL, ids=lambda tool: tool.name)
def test_every_object_in_every_schema_is_closed(tool):
    schema = json_schema(tool)
    shapes = {tool.name: schema, **schema.get("$defs", {})}

    assert [name for name, shape in shapes.items() if shape.get("additionalProperties") is not False] == []


@pytest.mark.requirement("IN-1")
@pytest.mark.parametrize("tool", ALL, ids=lambda tool: tool.name)
def test_an_unknown_field_is_refused_by_its_name(tool):
    assert ("surprise", "There is no such field.") in problems(tool, {"surprise": 1})


@pytest.mark.requirement("IN-1")
@pytest.mark.parametrize("tool", ALL, ids=lambda tool: tool.name)
def test_every_text_number_and_list_has_a_limit(tool):
    free_texts = re.compile(
        # What the limit on the text of a whole call bounds.
        r"\.(text|content|system|arguments|reasoning|refusal|thinking|signature|data|encrypted_content|url|file_data)$"
    )
    schema = json_schema(tool)
    shapes = {tool.name: schema, **schema.get("$defs", {})}
    unbounded = [
        f"{shape}.{name}"
        for shape, spec in shapes.items()
        for name, field in spec["properties"].items()
        if any(not _bounded(leaf) for leaf in _leaves(field))
    ]

    assert [name for name in unbounded if not free_texts.search(name)] == []


def _leaves(field):
    for branch in field.get("anyOf", field.get("oneOf", [field])):
        yield branch
        if "items" in branch:
            yield from _leaves(branch["items"])


def _bounded(leaf):
    if "enum" in leaf or "const" in leaf or "$ref" in leaf:
        return True
    match leaf.get("type"):
        case "string":
            return "maxLength" in leaf or "pattern" in leaf
        case "integer" | "number":
            return ("minimum" in leaf or "exclusiveMinimum" in leaf) and (
                "maximum" in leaf or "exclusiveMaximum" in leaf
            )
        case "array":
            return "maxItems" in leaf
        case _:
            return True


@pytest.mark.requirement("IN-1")
def test_arguments_nested_too_deeply_are_refused():
    deep = {"model": "a/b"}
    for _ in range(MOST_DEPTH):
        deep = {"x": deep}

    assert problems(CHAT, deep) == [("", "This is nested more than 20 levels deep.")]
    assert problems(CHAT, "[" * 100_000) == [("", "This is not JSON.")]


@pytest.mark.requirement("IN-1")
def test_arguments_over_five_mebibytes_are_refused_in_words():
    big = {**ASK, "messages": [{"role": "user", "content": "x" * MOST_BYTES}]}

    assert problems(CHAT, big) == [("", "The arguments are larger than 10 MiB.")]
    assert problems(CHAT, json.dumps(big)) == [("", "The arguments are larger than 10 MiB.")]


@pytest.mark.requirement("IN-1")
def test_arguments_of_very_many_values_are_refused():
    assert problems(CHAT, {**ASK, "stop": [[]] * MOST_VALUES}) == [("", "The arguments hold more than 100,000 values.")]


def test_a_schema_belongs_to_whoever_asked_for_it():
    json_schema(CHAT)["properties"].clear()

    assert "model" in json_schema(CHAT)["properties"]


@pytest.mark.requirement("IN-5")
@pytest.mark.parametrize(
    "tag",
    [
        {"__class__": "os.system", "args": ["id"]},
        {"lc": 1, "type": "constructor", "id": ["langchain", "Secret"], "kwargs": {}},
        {"$type": "System.Diagnostics.Process"},
        {"py/object": "vault.secret.Secret"},
        {"!!python/object/apply": "os.system"},
    ],
)
def test_a_tag_inside_json_makes_no_object(tag):
    schema = {"type": "object", "default": tag}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]

    arguments = parse_arguments(CHAT, {**ASK, "tools": tools})

    kept = arguments.tools[0].function.parameters["default"]
    assert kept == tag
    assert type(kept) is dict
    assert problems(CHAT, {**ASK, "provider": tag}) != []


@pytest.mark.requirement("IN-5")
def test_only_plain_data_is_accepted_from_python():
    assert problems(CHAT, {**ASK, "seed": object()}) == [
        ("", "Only text, numbers, true, false, null, lists and objects are accepted.")
    ]
    assert problems(CHAT, {**ASK, "prompt_cache_key": Secret("sk-or-v1-abc")})[0][0] == ""
    assert problems(CHAT, {1: 2})[0][0] == ""
    assert problems(CHAT, ["a"]) == [("", "The arguments must be one JSON object.")]


@pytest.mark.requirement("IN-9")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"seed": NaN}', "NaN and Infinity are not accepted."),
        ('{"seed": 1e999}', "NaN and Infinity are not accepted."),
        ('{"seed": 1, "seed": 2}', "An object names one field twice."),
        ('{"seed": ' + "9" * 5000 + "}", "A number has more than 40 digits."),
        ('{"prompt_cache_key": "\\ud800"}', "A text holds half of a character pair."),
        ('{"prompt_cache_key": "\\u0000"}', "A text holds the NUL character, which cannot be stored."),
        ("{'seed': 1}", "This is not JSON."),
    ],
)
def test_json_with_two_meanings_is_refused(text, message):
    assert problems(CHAT, text) == [("", message)]


def test_text_and_mapping_mean_the_same():
    assert parse_arguments(CHAT, json.dumps(ASK)) == parse_arguments(CHAT, ASK)
    assert parse_arguments(CHAT, json.dumps(ASK).encode()) == parse_arguments(CHAT, ASK)


def test_a_refusal_repeats_nothing_that_was_given():
    key = "sk-or-v1-" + "a" * 64
    given = {**ASK, "temperature": key, key: 1, "tool_choice": key, "messages": [{"role": key, "content": key}]}

    with pytest.raises(InvalidArguments) as refusal:
        parse_arguments(CHAT, given)

    assert key[:20] not in f"{refusal.value} {refusal.value.problems!r} {refusal.value.__context__!r}"
    assert "(a name that is not shown): There is no such field." in str(refusal.value)


def test_a_refusal_stays_short_however_much_is_wrong():
    given = {**ASK, **{f"field{n}": n for n in range(500)}}

    assert len(problems(CHAT, given)) == 21
    assert problems(CHAT, given)[-1] == ("", "There are more problems.")


@settings(max_examples=150, deadline=None)
@given(given=st.dictionaries(st.sampled_from(["model", "messages", "tools", "provider", "stop", "plugins", "x"]), junk))
def test_junk_in_known_fields_is_only_ever_refused(given):
    _refused_or_accepted(given)


@settings(max_examples=150, deadline=None)
@given(given=junk | st.text(max_size=50) | st.binary(max_size=50))
def test_junk_instead_of_arguments_is_only_ever_refused(given):
    _refused_or_accepted(given)


def _refused_or_accepted(given):
    for tool in (CHAT, OPENROUTER.tool("create_message"), OPENROUTER.tool("list_available_models")):
        try:
            parse_arguments(tool, given)
        except InvalidArguments as refusal:
            assert refusal.problems


def test_the_guide_is_in_step_with_the_tools(request):
    written = (request.config.rootpath / "docs" / "tools.md").read_text()

    assert written == guide(), "run: python -m integrations.describe > docs/tools.md"


def test_every_tool_is_in_the_guide():
    assert [tool.name for tool in ALL if f"\n### {tool.title}\n\n`{tool.name}`" not in guide()] == []
