"""A change of a grant, in sentences."""

from uuid import uuid4

import pytest

from integrations.registry import get_integration
from integrations.scope_words import describe, listed, summary
from integrations.scopes import read_scopes

TITLES = {tool.name: tool.title for tool in get_integration("openrouter").tools}
CHAT, MESSAGE, MODELS = "create_chat_completion", "create_message", "list_available_models"


def words(before, after):
    old, new = (None if data is None else read_scopes(data) for data in (before, after))
    return describe(old, new, name="Nachtbote", titles=TITLES)


def tools(**said):
    return {"tools": said}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("off", "allowed", "Nachtbote may now use Create chat completion without asking."),
        ("ask", "allowed", "Nachtbote no longer has to ask before it uses Create chat completion."),
        ("off", "ask", "Nachtbote may now use Create chat completion, after asking a person."),
        ("allowed", "ask", "Nachtbote must now ask a person before it uses Create chat completion."),
        ("ask", "off", "Nachtbote may no longer use Create chat completion, not even after asking."),
        ("allowed", "off", "Nachtbote may no longer use Create chat completion."),
    ],
)
def test_a_change_of_one_tool_is_one_sentence(before, after, expected):
    assert words(tools(**{CHAT: before}), tools(**{CHAT: after})) == [expected]


def test_what_stays_is_not_mentioned():
    kept = tools(**{CHAT: {"rule": "ask", "pinned": {"temperature": 1}}}) | {"models": {"deny": ["*:free"]}}

    assert words(kept, kept) == []
    assert words(None, None) == []


def test_gains_come_before_losses_and_losses_before_limits():
    before = tools(**{CHAT: "allowed", MESSAGE: "off"})
    after = tools(**{CHAT: "off", MESSAGE: "allowed"}) | {"models": {"deny": ["openai/*"]}}

    assert words(before, after) == [
        "Nachtbote may now use Create message without asking.",
        "Nachtbote may no longer use Create chat completion.",
        "Models like openai/* may not be asked.",
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"unattended": False}, "Schedules may not use Create message."),
        ({"unattended": False}, {}, "Schedules may now use Create message."),
        ({}, {"after_untrusted": True}, "Text of strangers no longer makes Create message ask first."),
        ({"after_untrusted": True}, {}, "Text of strangers makes Create message ask first."),
        ({}, {"max_tokens": 1500}, "Answers of Create message may have at most 1,500 tokens."),
        ({"max_tokens": 1500}, {}, "Answers of Create message may be as long as the tool itself allows."),
        ({}, {"max_messages": 1}, "Conversations of Create message may have at most 1 message."),
        ({}, {"pinned": {"temperature": 1, "model": "a/b"}}, "In Create message, model and temperature are now fixed."),
        ({"pinned": {"top_k": 1}}, {"pinned": {"top_k": 2}}, "In Create message, top_k is fixed to another value."),
        ({"pinned": {"top_k": 1}}, {}, "In Create message, top_k is no longer fixed."),
    ],
)
def test_a_limit_on_a_tool_is_one_sentence(before, after, expected):
    old, new = ({"rule": "allowed"} | limits for limits in (before, after))

    assert words(tools(**{MESSAGE: old}), tools(**{MESSAGE: new})) == [expected]


def test_tools_with_the_same_change_share_a_sentence():
    after = {"rule": "allowed", "unattended": False}

    assert words({}, tools(**{CHAT: after, MODELS: after})) == [
        "Nachtbote may now use Create chat completion and List available models without asking.",
        "Schedules may not use Create chat completion and List available models.",
    ]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"models": {"allow": ["a/*", "*:free"]}}, ["Only models like a/* and *:free may be asked."]),
        ({"models": {"allow": ["a/*"]}}, {}, ["Models are no longer limited to a/*."]),
        (
            {"models": {"allow": ["a/*", "b/*"]}},
            {"models": {"allow": ["b/*", "c/*"]}},
            ["Models like c/* may now be asked too.", "Models like a/* are no longer among those allowed."],
        ),
        ({"models": {"deny": ["a/*"]}}, {}, ["Models like a/* are no longer forbidden."]),
        ({}, {"providers": {"allow": ["azure"]}}, ["Only providers like azure may be used."]),
        ({}, {"providers": {"deny": ["azure"]}}, ["Providers like azure may not be used."]),
        ({}, {"ends_at": "2026-06-01T03:00:00Z"}, ["The grant ends on 1 Jun 2026 at 03:00 UTC."]),
        ({"ends_at": "2026-06-01T03:00:00Z"}, {}, ["The grant has no end."]),
        ({}, {"one_run": True}, ["The grant serves the next run that uses it, and no other."]),
        ({"one_run": True}, {}, ["The grant is no longer for one run."]),
        ({}, {"only_run": str(uuid4())}, ["The grant serves one run alone, which is known already."]),
        ({}, {"approvers": [str(uuid4())]}, ["Only 1 named member may allow what asks first."]),
        (
            {"approvers": [str(uuid4())]},
            {},
            ["Everybody with the right to decide may allow what asks first."],
        ),
    ],
)
def test_a_limit_on_the_whole_grant_is_told(before, after, expected):
    assert words(before, after) == expected


def test_a_grant_that_is_taken_away_is_one_sentence():
    assert words(tools(**{CHAT: "allowed"}), None) == ["Nachtbote may no longer use this connection at all."]


def test_a_grant_with_every_tool_off_is_told_too():
    assert words(None, {}) == ["Nachtbote gets a grant for this connection, with every tool off."]


def test_a_summary_says_what_a_grant_says():
    assert summary(None, name="Nachtbote", titles=TITLES) == ["Nachtbote has no grant for this connection."]
    assert summary(read_scopes(tools(**{CHAT: "ask"})), name="Nachtbote", titles=TITLES) == [
        "Nachtbote may now use Create chat completion, after asking a person."
    ]


def test_names_are_text_and_nothing_else():
    strange = {"rule": "allowed", "pinned": {"{name.__class__}": 1}}

    assert words(tools(**{"a{0}": "allowed"}), tools(**{"a{0}": strange})) == [
        "In a{0}, {name.__class__} is now fixed."
    ]


def test_a_long_list_is_cut_and_counted():
    assert listed(["a"]) == "a"
    assert listed(list("abcdef")) == "a, b, c, d, e and f"
    assert listed(list("abcdefghij")) == "a, b, c, d, e and 5 more"
