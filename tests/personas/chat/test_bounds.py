"""The hard bounds of a turn. Pure, so each rule is a row of a table."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personas.chat import bounds
from personas.models import PersonaVersion


@dataclass(frozen=True)
class Version:
    most_steps: int = 8
    most_tool_calls: int = 20
    most_seconds: int = 300
    most_credits: int = 500


INSIDE = {"steps": 7, "tool_calls": 20, "seconds": 299.9, "credits": 499}


@pytest.mark.requirement("LLM-2")
@pytest.mark.parametrize(
    ("reached", "words"),
    [
        ({}, ""),
        ({"steps": 0, "tool_calls": 0, "seconds": 0, "credits": 0}, ""),
        ({"steps": 8}, "After 8 answers it still asked for tools."),
        ({"tool_calls": 21}, "more than 20 tool calls"),
        ({"seconds": 300}, "longer than 300 seconds"),
        ({"credits": 500}, "all 500 platform credits"),
        ({"credits": 9_999}, "all 500 platform credits"),
    ],
)
def test_a_turn_ends_at_each_of_its_bounds(reached, words):
    why = bounds.why_stop(Version(), **(INSIDE | reached))

    assert words in why
    assert why.endswith("or raise the limit in the persona's settings.") is bool(words)
    assert bool(why) is bool(words)


def test_a_bound_of_one_is_said_as_one():
    one = Version(most_steps=1, most_tool_calls=1)

    assert "more than 1 tool call," in bounds.why_stop(one, 1, 2, 0, 0)
    assert "After 1 answer " in bounds.why_stop(one, 1, 1, 0, 0)


@pytest.mark.requirement("LLM-2")
def test_no_version_may_allow_more_than_20_calls_and_ten_minutes():
    [ends] = [rule for rule in PersonaVersion._meta.constraints if rule.name == "a_turn_ends"]

    allowed = dict(ends.condition.children)
    assert allowed == {"most_steps__range": (1, 20), "most_tool_calls__lte": 20, "most_seconds__range": (10, 600)}


# --- the same call again ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([], []),
        ([("a", "{}")] * 4, [False, False, True, True]),
        ([("a", ""), ("a", "{}"), ("a", " { } ")], [False, False, True]),
        ([("a", '{"x": 1, "y": [2]}'), ("a", '{"y":[2],"x":1}'), ("a", '{ "x":1,"y":[ 2 ]}')], [False, False, True]),
        ([("a", '{"x": [1, 2]}'), ("a", '{"x": [2, 1]}'), ("a", '{"x": [1]}')], [False] * 3),
        ([("a", "{}"), ("b", "{}"), ("a", "{}"), ("b", "{}"), ("a", "{}")], [False, False, False, False, True]),
        ([("a", "{not json")] * 3, [False, False, True]),
        ([("a", "[" * 100_000)] * 3, [False, False, True]),
    ],
)
def test_the_third_call_alike_is_a_repetition(calls, expected):
    assert bounds.repeated(calls) == expected


# --- what fits --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "results", "expected"),
    [(0, 1, 24_000), (0, 5, 24_000), (0, 8, 15_000), (96_000, 1, 24_000), (110_000, 2, 5_000), (500_000, 3, 2_000)],
)
def test_results_share_the_room_of_their_turn(used, results, expected):
    assert bounds.room_for_each(used, results) == expected


def test_all_results_of_the_longest_turn_stay_in_proportion():
    used = 0
    for _ in range(20):
        used += bounds.room_for_each(used, 1)

    assert used <= bounds.MOST_RESULTS + 20 * bounds.LEAST_RESULT


def test_what_fits_stays_as_it_is():
    assert bounds.fitted({"count": 3}, 100) == ('{"count":3}', "")
    assert bounds.fitted("Hello", 5) == ("Hello", "")


def test_a_long_list_loses_its_last_entries_and_stays_json():
    rows = {"total": 100, "models": [{"id": f"a/{number:03}"} for number in range(100)], "tags": ["x"]}

    text, note = bounds.fitted(rows, 200)

    kept = json.loads(text)
    assert len(text) <= 200
    assert kept == rows | {"models": rows["models"][: len(kept["models"])]}
    assert note.startswith(f"{100 - len(kept['models'])} of 100 entries of models were left out")


def test_what_is_no_list_is_cut_and_says_how_much():
    assert bounds.fitted("x" * 30, 10) == ("x" * 10, "20 of 30 characters were left out, since they did not fit.")
    text, note = bounds.fitted({"text": "y" * 5_000, "tags": []}, 100)
    assert len(text) == 100
    assert "characters were left out" in note
    text, note = bounds.fitted({"rows": ["z" * 5_000]}, 100)
    assert len(text) == 100
    assert "characters were left out" in note


leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=40)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=8), inner, max_size=6)
)


@given(values, st.integers(10, 400))
def test_nothing_ever_takes_more_room_than_it_has(value, room):
    text, note = bounds.fitted(value, room)

    assert len(text) <= room
    whole = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert (text == whole) is (not note)
