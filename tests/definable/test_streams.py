"""Frames of a stream: whatever is in them, a browser reads the events that were meant, and htmx the orders."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from definable.markdown import render_markdown
from definable.streams import frame, partial
from personas.templatetags.chats import said
from personas.views.chat_growing import Growing, cut
from tests.personas.chat.pages import ORDER, parse

PARTS = [
    "data: ", "event: done", "id: 7", "retry: 1", ": ping", "\n", "\r", "\r\n", "\n\n", "\u2028", "\u2029", "\x85",
    "\x0b", "\x0c", "\x00", "\ufeff", "\ud83d", "<hx-partial hx-target=body>", "</hx-partial>", "<hx-get>",
    "<template hx>",
    "</template>", "<div hx-swap-oob=true>", '"', "'", "<", ">", "&lt;", "<html>", "<head>", "</head>", "<title>",
    "[a](https://x.example/<hx-partial>)", "![b](https://x.example/ \"<hx-get >\")", "```\n", "~~~", "- ", "1. ", "> ",
    "# ", "| a | b |\n|--|--|\n", "    ", "\t", "***", "--", "===", "`", "\\", "word", " ", "é😀",
]  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=8)), max_size=40).map("".join)


@pytest.mark.requirement("LLM-5")
@given(texts, texts)
def test_any_text_in_a_frame_is_one_event_with_just_that_text(first, second):
    stream = frame(first, id="5") + frame(second, id="6", event="done")

    events = parse(stream.decode())

    lines = [re.sub(r"\r\n|\r", "\n", text).encode("utf-8", "replace").decode() for text in (first, second)]
    assert [(event.id, event.name, event.data) for event in events] == [("5", "", lines[0]), ("6", "done", lines[1])]


@pytest.mark.requirement("LLM-5")
@given(texts, st.lists(st.integers(1, 60), min_size=1, max_size=12))
def test_an_answer_however_it_is_cut_gives_one_order_for_its_own_place(text, sizes):
    clean = text.encode("utf-8", "replace").decode()
    growing, heard = Growing("text-1", said), ""
    while len(heard) < len(clean):
        heard = clean[: len(heard) + sizes[len(heard) % len(sizes)]]
        order = growing.grow(heard)
        assert order.startswith(('<hx-partial hx-target="#text-1" ', '<hx-partial hx-target="#text-1-tail" '))
        assert len(ORDER.findall(order)) == order.lower().count("</hx-") == 1
        assert not re.search(r"<(template|html|head|body|title)\b", order, re.IGNORECASE)


@pytest.mark.requirement("LLM-5")
@pytest.mark.parametrize("words", ["<hx-partial>", "<HX-get x>", "</hx-partial>", "</template>", "<head>", "<title>"])
def test_an_order_in_an_attribute_or_a_text_is_only_its_words(words):
    inner = f'<a href="https://x.example/{words}">x</a>'

    order = partial("#here", "innerHTML", inner)

    harmless = inner.replace(words, html.escape(words[0]) + words[1:])
    assert order == f'<hx-partial hx-target="#here" hx-swap="innerHTML">{harmless}</hx-partial>'


@given(texts)
def test_dividing_a_text_loses_nothing_of_it(text):
    whole = text.replace("\r\n", "\n").replace("\r", "\n")
    done, tail = cut(whole)

    assert done + tail == whole


def drawn(text: str, step: int) -> str:
    """The words of an answer that grew by so many characters at a time, as they stand at its end."""
    growing, shown = Growing("text-1", render_markdown), ""
    for end in range(step, len(text) + step, step):
        order = growing.grow(text[:end])
        inner = order.partition(">")[2].removesuffix("</hx-partial>")
        shown = inner if 'hx-swap="innerHTML"' in order else shown[: shown.rindex('<div class="tail"')] + inner
    return re.sub(r'<div class="tail" id="text-1-tail">|</div>', "", shown)


@pytest.mark.parametrize("step", [1, 2, 5, 17])
@pytest.mark.parametrize(
    "text",
    [
        "A first one.\n\nA *second* one,\nof two lines.\n\n# A heading\n\nAnd more.",
        "- one\n- two\n\n  still two\n- three\n\nAfter the list.",
        "Some code:\n\n```python\ndef f():\n\n    return 1\n```\n\nDone.",
        "| a | b |\r\n|---|---|\r\n| 1 | 2 |\r\n\r\n> Said\r\n> twice\r\n",
        "A title\n=======\n\nText\n***\n\nText",
    ],
)
def test_a_grown_answer_looks_as_if_it_had_been_drawn_at_once(text, step):
    def plain(shown: str) -> str:
        return re.sub(r"\s+", " ", shown).strip()

    assert plain(drawn(text, step)) == plain(render_markdown(text.replace("\r\n", "\n")))


@pytest.mark.parametrize("line", ["word", "- item of **many**", "1. item", "```\ncode", "> quote", "| a | b |"])
def test_ten_thousand_lines_cost_what_they_are_long(line):
    """Each line is drawn a few times, not ten thousand times: counted in characters, not in seconds."""
    work = 0

    def count(text: str) -> str:
        nonlocal work
        work += len(text)
        return "x"

    lines = [f"{line} {number}" for number in range(10_000)]
    text = "\n".join(lines if "```" not in line else ["```", *lines[1:]])
    growing, at = Growing("text-1", count), 0
    while at < len(text):  # as it comes: 6,000 characters a second, drawn as often as is allowed
        at += max(600, int(6_000 * len(growing._tail) / 40_000))
        growing.grow(text[:at])

    assert work < 40 * len(text)
