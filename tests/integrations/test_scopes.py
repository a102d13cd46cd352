"""What a grant allows. Pure: no rows, no clock."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations import scopes
from integrations.registry import InvalidArguments, get_tool, json_schema, parse_arguments
from integrations.scopes import Ask, BadScopes, Rule, decide, read_scopes

CHAT = "create_chat_completion"
MESSAGE = "create_message"
NOW = datetime(2026, 6, 1, 2, 0, tzinfo=UTC)
RUN, OTHER_RUN = uuid4(), uuid4()
MODEL = "openai/gpt-5"
FREE = "meta/llama:free"


def tool(name=CHAT):
    return get_tool("openrouter", name)


def arguments(name=CHAT, **more):
    given = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]} | more
    return parse_arguments(tool(name), {key: value for key, value in given.items() if value is not None})


def ask(name=CHAT, *, given=..., unattended=False, now=NOW, run_id=None, models=(), untrusted=False):
    said = arguments(name) if given is ... else given
    return Ask(tool(name), said, unattended=unattended, now=now, run_id=run_id, models=models, untrusted=untrusted)


def grant(said="allowed", **more):
    return read_scopes({"tools": {CHAT: said}} | more)


def chat(rule="allowed", **more):
    return grant({"rule": rule} | more)


def rule(scopes_, asked=None):
    return decide(scopes_, asked or ask()).rule


# --- reading ----------------------------------------------------------------------------


def test_the_short_form_reads_as_allowed_also_unattended():
    said = read_scopes({"tools": {CHAT: "allowed"}}).tools[CHAT]

    assert (said.rule, said.unattended, said.pinned, said.max_tokens) == (Rule.ALLOWED, True, {}, None)


def test_what_is_kept_reads_as_what_was_written():
    written = grant(
        {"rule": "ask", "pinned": {"temperature": 0.5}, "max_tokens": 100, "max_messages": 4, "unattended": False},
        models={"allow": ["openai/*"], "deny": ["*:free"]},
        providers={"allow": ["azure"], "deny": ["deepinfra/fp4"]},
        ends_at="2026-06-01T03:00:00+02:00",
        only_run=str(RUN),
        one_run=True,
        approvers=[str(uuid4())],
    )

    assert read_scopes(json.loads(json.dumps(written.as_json()))) == written


@pytest.mark.parametrize(
    "data",
    [
        {"tools": {CHAT: "maybe"}},
        {"tools": {CHAT: True}},
        {"tools": [CHAT]},
        {"tools": {CHAT: {"rule": "allowed", "max_token": 5}}},
        {"tools": {CHAT: {"rule": "allowed", "max_tokens": "5"}}},
        {"tools": {CHAT: {"rule": "allowed", "max_tokens": 0}}},
        {"tools": {CHAT: {"rule": "allowed", "pinned": ["model"]}}},
        {"tools": {CHAT: {"rule": "allowed", "pinned": {"model": "a\0b"}}}},
        {"tools": {CHAT: {"rule": "allowed", "pinned": {"temperature": float("nan")}}}},
        {"tools": {f"tool_{n}": "allowed" for n in range(1_001)}},
        {"tool": {}},
        {"models": {"allow": "openai/*"}},
        {"models": {"deny": ["gpt-5"]}},
        {"models": {"deny": ["openai/[a-z]+"]}},
        {"models": {"deny": ["openai/*"] * 1_001}},
        {"providers": {"allow": [" azure"]}},
        {"ends_at": "2026-06-01T03:00:00"},
        {"ends_at": 1_780_000_000},
        {"only_run": "the next one"},
        {"approvers": ["everybody"]},
        {"one_run": "true"},
        {"tools": {CHAT: {"rule": "allowed", "pinned": {"stop": "x" * 1_100_000}}}},
        {"tools": {CHAT: {"rule": "allowed", "pinned": {"stop": [[[[[[[[[[[[[[[[[[[["deep"]]]]]]]]]]]]]]]]]]]]}}}},
    ],
)
def test_what_cannot_be_read_is_refused_in_words(data):
    with pytest.raises(BadScopes) as refusal:
        read_scopes(data)

    assert str(refusal.value).endswith(".")


def test_a_refusal_repeats_nothing_that_was_given():
    with pytest.raises(BadScopes) as refusal:
        read_scopes({"tools": {CHAT: {"rule": "sk-or-secret"}}, "models": {"deny": ["sk-or-secret"]}})

    assert "secret" not in str(refusal.value)


def test_a_grant_that_cannot_be_read_allows_nothing():
    assert scopes.allowed_tools({"tools": {CHAT: "allowed"}, "only_on_mondays": True}) == set()
    assert not scopes.allows({"tools": {CHAT: "allowed"}, "only_on_mondays": True}, CHAT)


def test_a_tool_that_asks_first_counts_as_usable():
    kept = {"tools": {CHAT: {"rule": "ask"}, MESSAGE: {"rule": "off"}, "get_credits": "allowed"}}

    assert scopes.allowed_tools(kept) == {CHAT, "get_credits"}
    assert scopes.allows(kept, CHAT)
    assert not scopes.allows(kept, MESSAGE)


# --- deciding ---------------------------------------------------------------------------


def test_without_a_grant_nothing_is_allowed():
    verdict = decide(None, ask())

    assert verdict.rule is Rule.OFF
    assert [step.rule for step in verdict.steps] == ["grant"]
    assert verdict.message == "There is no grant for this connection. Enable it under Scopes."


def test_a_tool_that_the_grant_does_not_name_is_off():
    assert rule(read_scopes({})) is Rule.OFF
    assert rule(read_scopes({"tools": {MESSAGE: "allowed"}})) is Rule.OFF


@pytest.mark.parametrize("said", ["off", "ask", "allowed"])
def test_a_tool_is_what_the_grant_says_of_it(said):
    assert rule(grant(said)) is Rule(said)


@pytest.mark.parametrize(
    ("ends_at", "expected"),
    [
        (NOW - timedelta(seconds=1), Rule.OFF),
        (NOW, Rule.OFF),
        (NOW + timedelta(microseconds=1), Rule.ALLOWED),
        (None, Rule.ALLOWED),
    ],
)
def test_a_grant_ends_at_its_end(ends_at, expected):
    assert rule(grant(ends_at=ends_at and ends_at.isoformat())) is expected


@pytest.mark.parametrize(
    ("limits", "run_id", "expected"),
    [
        ({}, None, Rule.ALLOWED),
        ({"only_run": str(RUN)}, RUN, Rule.ALLOWED),
        ({"only_run": str(RUN)}, OTHER_RUN, Rule.OFF),
        ({"only_run": str(RUN)}, None, Rule.OFF),
        ({"one_run": True}, RUN, Rule.ALLOWED),
        ({"one_run": True}, None, Rule.OFF),
        ({"one_run": True, "only_run": str(RUN)}, OTHER_RUN, Rule.OFF),
    ],
)
def test_a_grant_for_one_run_serves_that_run_alone(limits, run_id, expected):
    assert rule(grant(**limits), ask(run_id=run_id)) is expected


def test_only_a_grant_for_one_run_that_nobody_used_waits_for_its_run():
    assert grant(one_run=True).wants_run
    assert not grant(one_run=True, only_run=str(RUN)).wants_run
    assert not grant().wants_run


@pytest.mark.parametrize(
    ("said", "unattended", "expected"),
    [
        ({"rule": "allowed", "unattended": False}, True, Rule.OFF),
        ({"rule": "allowed", "unattended": False}, False, Rule.ALLOWED),
        ({"rule": "ask", "unattended": False}, True, Rule.OFF),
        ({"rule": "ask"}, True, Rule.ASK),
        ({"rule": "off"}, True, Rule.OFF),
    ],
)
def test_a_schedule_needs_leave_of_its_own(said, unattended, expected):
    assert rule(grant(said), ask(unattended=unattended)) is expected


@pytest.mark.requirement("LLM-7")
@pytest.mark.parametrize(
    ("name", "said", "untrusted", "expected"),
    [
        (CHAT, {"rule": "allowed"}, False, Rule.ALLOWED),
        (CHAT, {"rule": "allowed"}, True, Rule.ASK),
        (CHAT, {"rule": "allowed", "after_untrusted": True}, True, Rule.ALLOWED),
        (CHAT, {"rule": "ask", "after_untrusted": True}, True, Rule.ASK),
        (CHAT, {"rule": "off", "after_untrusted": True}, True, Rule.OFF),
        ("get_models_count", {"rule": "allowed"}, True, Rule.ALLOWED),
        ("get_models_count", {"rule": "ask"}, True, Rule.ASK),
    ],
)
def test_after_text_of_strangers_what_spends_money_asks_first_unless_somebody_opted_in(name, said, untrusted, expected):
    verdict = decide(read_scopes({"tools": {name: said}}), ask(name, given=None, untrusted=untrusted))

    assert verdict.rule is expected
    named = [step.words for step in verdict.steps if step.rule == "untrusted"]
    assert len(named) == untrusted
    assert not untrusted or ("asks a person now" in named[0]) is (said == {"rule": "allowed"} and name == CHAT)


@pytest.mark.parametrize(
    ("limits", "given", "chain", "expected"),
    [
        ({}, {}, (), True),
        ({"allow": ["openai/*"]}, {}, (), True),
        ({"allow": ["anthropic/*"]}, {}, (), False),
        ({"deny": ["openai/*"]}, {}, (), False),
        ({"allow": ["*"], "deny": ["openai/*"]}, {}, (), False),
        ({"allow": ["openai/*"]}, {"models": [MODEL, FREE]}, (), False),
        ({"allow": ["openai/*", "*:free"]}, {"models": [MODEL, FREE]}, (), True),
        ({"allow": ["openai/*"]}, {}, [FREE], False),
        ({"deny": ["*:free"]}, {}, [MODEL, FREE], False),
        ({"deny": ["*:free"]}, {"model": "openrouter/auto"}, (), False),
        ({"allow": ["*"]}, {"model": "@preset/cheap"}, (), False),
        ({"allow": ["@preset/cheap"]}, {"model": "@preset/cheap"}, (), True),
        ({}, {"model": "openrouter/auto"}, (), True),
    ],
)
def test_every_model_that_may_be_asked_must_be_allowed(limits, given, chain, expected):
    asked = ask(given=arguments(**given), models=chain)

    assert rule(grant(models=limits), asked) is (Rule.ALLOWED if expected else Rule.OFF)


def test_the_fallbacks_of_a_message_count_as_models_too():
    limited = read_scopes({"tools": {MESSAGE: "allowed"}, "models": {"allow": ["openai/*"]}})

    assert rule(limited, ask(MESSAGE)) is Rule.ALLOWED
    assert rule(limited, ask(MESSAGE, given=arguments(MESSAGE, fallbacks=[FREE]))) is Rule.OFF


def test_a_limit_on_models_leaves_tools_alone_that_ask_none():
    limited = read_scopes({"tools": {"list_model_endpoints": "allowed"}, "models": {"allow": ["anthropic/*"]}})
    given = parse_arguments(tool("list_model_endpoints"), {"model": MODEL})

    assert rule(limited, ask("list_model_endpoints", given=given)) is Rule.ALLOWED


@pytest.mark.parametrize(("count", "expected"), [(1, Rule.ALLOWED), (2, Rule.ALLOWED), (3, Rule.OFF)])
def test_a_conversation_may_have_so_many_messages(count, expected):
    given = arguments(messages=[{"role": "user", "content": "Hello"}] * count)

    assert rule(chat(max_messages=2), ask(given=given)) is expected


def test_the_whole_path_is_told_even_after_a_refusal():
    verdict = decide(
        grant({"rule": "off", "unattended": False, "max_messages": 1}, models={"deny": ["openai/*"]}),
        ask(unattended=True, given=arguments(messages=[{"role": "user", "content": "Hi"}] * 2)),
    )

    failed = [step.rule for step in verdict.steps if not step.holds]
    assert failed == ["tool", "unattended", "models", "messages"]
    assert verdict.message == "Create chat completion is off. Allow it under Scopes."
    assert all(step.words.endswith(".") for step in verdict.steps)


# --- pinned and capped arguments ----------------------------------------------------------


def test_pinned_arguments_must_be_as_pinned():
    fixed = chat(pinned={"temperature": 0.5, "provider": {"zdr": True}})
    merged = {"temperature": 0.9} | scopes.pinned(fixed, CHAT)

    assert rule(fixed, ask(given=arguments(**merged))) is Rule.ALLOWED
    assert rule(fixed, ask(given=arguments(temperature=0.9, provider={"zdr": True}))) is Rule.OFF
    assert rule(fixed, ask(given=arguments())) is Rule.OFF


def test_an_argument_pinned_under_a_name_that_the_tool_does_not_know_refuses_the_call():
    # `max_tokens` is read as another spelling, which the caller's own would win against.
    assert rule(chat(pinned={"max_tokens": 5}), ask(given=arguments(max_completion_tokens=9))) is Rule.OFF


def test_pinned_values_are_handed_out_as_copies():
    fixed = chat(pinned={"provider": {"zdr": True}})

    scopes.pinned(fixed, CHAT)["provider"]["zdr"] = False

    assert scopes.pinned(fixed, CHAT) == {"provider": {"zdr": True}}
    assert scopes.pinned(fixed, MESSAGE) == {}


@pytest.mark.parametrize(("wanted", "expected"), [(50, 50), (100, 100), (101, 100), (None, 100)])
def test_the_length_of_an_answer_is_lowered_to_the_cap(wanted, expected):
    lowered = scopes.bound(chat(max_tokens=100), tool(), arguments(max_completion_tokens=wanted))

    assert lowered.max_completion_tokens == expected
    assert lowered.model == MODEL


def test_a_cap_below_what_is_pinned_is_no_contradiction():
    fixed = chat(pinned={"max_completion_tokens": 500}, max_tokens=100)
    lowered = scopes.bound(fixed, tool(), arguments(**scopes.pinned(fixed, CHAT)))

    assert lowered.max_completion_tokens == 100
    assert rule(fixed, ask(given=lowered)) is Rule.ALLOWED


def test_arguments_that_need_more_than_the_cap_are_refused():
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 4096}
    limited = read_scopes({"tools": {MESSAGE: {"rule": "allowed", "max_tokens": 1500}}})

    with pytest.raises(InvalidArguments):
        scopes.bound(limited, tool(MESSAGE), arguments(MESSAGE, **thinking))


def test_what_is_pinned_is_not_offered_to_a_model():
    fixed = chat(
        pinned={"model": "openai/gpt-5-secret", "provider": {"only": ["azure"]}}, max_tokens=64, max_messages=3
    )
    offered = scopes.offered_schema(tool(), fixed)

    assert not {"model", "provider"} & offered["properties"].keys()
    assert "gpt-5-secret" not in json.dumps(offered)
    assert offered["required"] == ["messages"]
    assert offered["properties"]["max_completion_tokens"]["maximum"] == 64
    assert offered["properties"]["max_completion_tokens"]["default"] == 64
    assert offered["properties"]["messages"]["maxItems"] == 3
    assert "provider" in json_schema(tool())["properties"]


def test_limits_on_providers_carry_the_names_of_policies():
    limited = grant(providers={"allow": ["azure"], "deny": ["deepinfra"]})

    assert limited.provider_rules == {"providers_only": ["azure"], "providers_never": ["deepinfra"]}
    assert grant().provider_rules == {"providers_only": None, "providers_never": []}


# --- properties ---------------------------------------------------------------------------

PATTERNS = ["openai/*", "*:free", MODEL, FREE, "*", "anthropic/*", "~openai/*", "openrouter/auto", "*/gpt-*"]
MODELS = [MODEL, FREE, "openai/gpt-5:nitro", "~openai/gpt-latest", "openrouter/auto", "@preset/x", "anthropic/claude"]
LEAVE = {Rule.OFF: 0, Rule.ASK: 1, Rule.ALLOWED: 2}

patterns = st.lists(st.sampled_from(PATTERNS), max_size=4)
tool_scopes = st.fixed_dictionaries(
    {"rule": st.sampled_from(["off", "ask", "allowed"])},
    optional={
        "unattended": st.booleans(),
        "after_untrusted": st.booleans(),
        "max_messages": st.integers(1, 4),
        "pinned": st.sampled_from([{}, {"temperature": 0.5}, {"temperature": 1.0}]),
    },
)
kept = st.fixed_dictionaries(
    {"tools": st.fixed_dictionaries({}, optional={CHAT: tool_scopes})},
    optional={
        "models": st.fixed_dictionaries({}, optional={"allow": patterns, "deny": patterns}),
        "ends_at": st.sampled_from([None, "2026-06-01T01:00:00Z", "2026-06-01T03:00:00Z"]),
        "only_run": st.sampled_from([None, str(RUN)]),
        "one_run": st.booleans(),
    },
)
asks = st.builds(
    lambda model, chain, count, unattended, run_id, temperature, untrusted: ask(
        given=arguments(model=model, messages=[{"role": "user", "content": "Hello"}] * count, temperature=temperature),
        unattended=unattended,
        run_id=run_id,
        models=chain,
        untrusted=untrusted,
    ),
    st.sampled_from(MODELS),
    st.lists(st.sampled_from(MODELS), max_size=3),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([None, RUN, OTHER_RUN]),
    st.sampled_from([None, 0.5]),
    st.booleans(),
)


def models_of(data):
    return data.get("models", {})


def with_models(data, **more):
    return data | {"models": models_of(data) | more}


def with_tool(data, **more):
    said = data["tools"].get(CHAT)
    return data | {"tools": {CHAT: said | more}} if said else data


RESTRICTIONS = {
    "off": lambda data: with_tool(data, rule="off"),
    "ask": lambda data: with_tool(data, rule="off" if data["tools"].get(CHAT, {}).get("rule") == "off" else "ask"),
    "gone": lambda data: data | {"tools": {}},
    "attended": lambda data: with_tool(data, unattended=False),
    "suspicious": lambda data: with_tool(data, after_untrusted=False),
    "messages": lambda data: with_tool(data, max_messages=1),
    "deny": lambda data: with_models(data, deny=[*models_of(data).get("deny", []), "*:free"]),
    "only": lambda data: with_models(data, allow=(models_of(data).get("allow") or ["openai/*"])[:1]),
    "ended": lambda data: data | {"ends_at": "2026-06-01T02:00:00Z"},
    "one run": lambda data: data | {"one_run": True},
    "that run": lambda data: data | {"only_run": data.get("only_run") or str(OTHER_RUN)},
}


@pytest.mark.requirement("AUTHZ-7")
@given(kept, asks, st.sampled_from(sorted(RESTRICTIONS)))
def test_a_restriction_more_never_allows_more(data, asked, name):
    before, after = read_scopes(data), read_scopes(RESTRICTIONS[name](data))

    assert LEAVE[rule(after, asked)] <= LEAVE[rule(before, asked)]


@given(kept, asks, st.randoms())
def test_order_means_nothing(data, asked, chance):
    limits = models_of(data)
    shuffled = {side: chance.sample(named, len(named)) for side, named in limits.items()}

    again = replace(asked, models=asked.models[::-1])
    assert rule(read_scopes(data | {"models": shuffled}), again) is rule(read_scopes(data), asked)


leaves = st.none() | st.booleans() | st.floats() | st.integers() | st.text()
anything = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(anything)
def test_no_json_gets_past_the_reader(data):
    try:
        read_scopes({"tools": {CHAT: data}})
    except BadScopes as refusal:
        assert str(refusal)


# --- many rules ---------------------------------------------------------------------------


def test_a_thousand_rules_on_one_grant_are_all_obeyed_and_quick():
    many = {f"tool_{n}": {"rule": "ask", "pinned": {"n": n}} for n in range(999)} | {CHAT: "allowed"}
    limits = {"allow": [f"author-{n}/*" for n in range(999)] + ["openai/*"], "deny": ["*a" * 99 + "*b"] * 1_000}
    kept_json = {"tools": many, "models": limits}

    began = time.perf_counter()
    large = read_scopes(kept_json)
    asked = ask(models=["openai/" + "a" * 190] * 10)
    first, refused = decide(large, asked), decide(large, ask(models=["openai/" + "a" * 190 + "b"]))
    took = time.perf_counter() - began

    assert (first.rule, refused.rule) == (Rule.ALLOWED, Rule.OFF)
    assert took < 2


def test_capitals_do_not_make_a_router_a_model():
    scopes = read_scopes({"tools": {CHAT: "allowed"}, "models": {"deny": ["anthropic/*"]}})
    assert decide(scopes, ask(models=["OpenRouter/Auto"])).rule is Rule.OFF


def test_a_pinned_model_has_no_other_beside_it():
    pinned = chat(pinned={"model": MODEL})
    assert decide(pinned, ask(given=arguments(), models=[MODEL])).rule is Rule.ALLOWED
    for other in (ask(given=arguments(models=["dear/model"])), ask(given=arguments(), models=["dear/model"])):
        verdict = decide(pinned, other)
        assert verdict.rule is Rule.OFF
        assert "dear/model" in verdict.message
    both = chat(pinned={"model": MODEL, "models": ["dear/model"]})
    assert decide(both, ask(given=arguments(models=["dear/model"]))).rule is Rule.ALLOWED
