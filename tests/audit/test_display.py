import json

import pytest

from audit import display
from audit.display import action_words, outcome_state, read, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("admin\u202etxt.exe", "admin[U+202E]txt.exe"),
        ("a\u2066b\u2069", "a[U+2066]b[U+2069]"),
        ("zero\u200bwidth\ufeff", "zero[U+200B]width[U+FEFF]"),
        ("bell\x07 escape\x1b[31m", "bell[U+0007] escape[U+001B][31m"),
        ("next\x85line\u2028", "next[U+0085]line[U+2028]"),
        ("tag\U000e0041", "tag[U+E0041]"),
        ("selector\U000e0101", "selector[U+E0101]"),
        ("half\ud800", "half[U+D800]"),
        ("soft\xadhyphen", "soft[U+00AD]hyphen"),
    ],
)
def test_characters_that_hide_or_reorder_are_shown_by_their_code(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize("text", ["plain\n\ttext", "Grüße, Ελλάδα, 日本語, العربية", "👩‍👩‍👧 ❤️", "€ – “quoted” ×"])
def test_ordinary_text_of_any_script_is_left_alone(text):
    assert visible(text) == text


def test_prompt_is_shown_message_by_message_and_whole():
    body = {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\u202e"}],
    }
    reading = read("request", "ab", json.dumps(body).encode())
    assert (reading.title, reading.sha256) == ("Prompt", "ab")
    assert reading.said == [("system", "Be brief."), ("user", "Hi[U+202E]")]
    assert "[U+202E]" in reading.whole
    assert '"model": "m"' in reading.whole


def test_prompt_in_parts_names_what_is_no_text():
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "data:,"}}, "odd"]
    body = {"system": [{"type": "text", "text": "S"}], "messages": [{"role": "user", "content": parts}]}
    assert read("request", "", json.dumps(body).encode()).said == [
        ("system", "S"),
        ("user", "Look\n[image_url]\n[part]"),
    ]


def test_answer_is_shown_as_text_and_so_is_what_came_before_it_failed():
    assert read("response", "", b'{"data": {"text": "Yes."}}').said == [("answer", "Yes.")]
    assert read("response", "", b'{"data": {"partial_text": "Ye"}}').said == [("answer", "Ye")]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[1, 2]",
        b"null",
        b'{"messages": 3}',
        b'{"messages": [3, null, {}]}',
        b'{"data": 3}',
        b'{"data": {"text": 3}}',
        b'{"messages": [{"role": {}, "content": {"a": 1}}]}',
        b'{"a": "\\ud800"}',
        b'{"a": NaN}',
    ],
)
def test_whatever_was_sealed_can_be_shown(data):
    reading = read("request", "", data)
    assert (reading.whole + "".join(who + words for who, words in reading.said)).encode() is not None


def test_json_nested_too_deep_to_read_is_shown_as_it_is():
    deep = b"[" * 100_000
    assert read("response", "", deep).whole == deep.decode()


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("vault.credential.revoked", "Credential revoked"),
        ("accounts.member.role_changed", "Member role changed"),
        ("call.finished", "Call finished"),
    ],
)
def test_action_reads_as_a_short_sentence(action, words):
    assert action_words(action) == words


@pytest.mark.parametrize(
    ("action", "outcome", "shown"),
    [
        ("call.started", "", ("sent", "Started")),
        ("call.finished", "done", ("done", "")),
        ("call.finished", "rate_limited", ("failed", "Rate limited")),
        ("call.finished", "unknown", ("unknown", "")),
        ("call.refused", "out_of_credits", ("blocked", "Out of platform credits")),
        ("personas.run.done", "done", ("done", "")),
        ("vault.credential.revoked", "", ("", "")),
    ],
)
def test_outcome_is_shown_by_a_state_and_a_word(action, outcome, shown):
    assert outcome_state(action, outcome) == shown


# --- why --------------------------------------------------------------------------------


def test_the_rules_that_decided_are_told_apart_from_the_other_facts():
    details = {"message": "It is off.", "why": [{"rule": "tool", "holds": False, "words": "It is off."}]}

    assert display.facts_of(details) == [("Message", "It is off.")]
    assert [(step.holds, step.words) for step in display.why_of(details)] == [(False, "It is off.")]


@pytest.mark.parametrize("why", [None, "yes", {}, [], ["yes"], [None]])
def test_an_event_without_rules_tells_none(why):
    assert display.why_of({"why": why}) == []


def test_a_rule_without_words_or_with_strange_ones_is_shown_as_it_is():
    strange = [{"holds": "true"}, {"holds": True, "words": ["a\u202eb"]}, {"holds": 1, "words": "c"}]

    shown = [(step.holds, step.words) for step in display.why_of({"why": strange})]

    assert shown == [(False, "null"), (True, "a[U+202E]b"), (False, "c")]


def test_sentences_in_a_list_are_written_one_after_another():
    assert display.facts_of({"changes": ["One.", "Two."], "tools": ["a", "b"]}) == [
        ("Changes", "One. Two."),
        ("Tools", "a, b"),
    ]


def test_a_file_in_a_request_is_named_and_text_is_never_taken_for_one():
    encoded = "QUFB" * 1000
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": encoded}},
        {"type": "text", "text": f"data:image/png;base64,{encoded}"},
        {"type": "text", "text": "short", "url": "data:image/png;base64,QUFB", "data": encoded},
    ]
    reading = read("arguments", "", json.dumps({"messages": [{"role": "user", "content": parts}]}).encode())

    assert reading.whole.count(encoded) == 2
    assert reading.whole.count("[4000 characters, SHA-256 ") == 2
    assert "data:image/png;base64,QUFB" in reading.whole
