"""Whatever a model answers, the page gets harmless elements: whole, and while the answer is still being given."""

import pytest

from definable.streams import frame
from personas.templatetags.chats import said
from personas.views.chat_growing import Growing
from tests.definable.test_markdown import Elements, harmless
from tests.hostile_outputs import GROUPS, hostile_outputs

PLACE = "text-1"
# What the page itself puts around an answer: the button of a block of code, and the part that is drawn again.
OURS = {"div": {"class", "id"}, "button": {"class", "type", "data-js", "data-copy", "hidden", "aria-label"}}
OURS |= {"svg": {"class", "aria-hidden"}, "use": {"href"}, "pre": {"tabindex"}, "table": {"tabindex"}}


def of_a_model(html: str) -> list[tuple[str, dict]]:
    """Return the elements that are neither harmless nor what a page of ours puts around them."""
    found = [(tag, attributes) for tag, attributes in Elements(html).found if not harmless(tag, attributes)]
    return [(tag, attributes) for tag, attributes in found if tag not in OURS or not set(attributes) <= OURS[tag]]


def pieces_of(text: str) -> list[str]:
    """A text as it grows: to a third, to the middle of what may be a tag, and to its end."""
    return [text[: len(text) // 3], text[: len(text) // 2 + 1], text]


def test_there_are_enough_of_them_and_none_twice():
    texts = hostile_outputs()
    assert len(texts) == len(set(texts)) >= 200


@pytest.mark.requirement("LLM-4")
@pytest.mark.parametrize("group", GROUPS)
def test_a_hostile_answer_becomes_harmless_elements(group):
    for text in GROUPS[group]:
        html = said(text)
        assert of_a_model(html) == [], text[:200]
        assert html.count("<button") == html.count('<div class="code">') == html.count("<pre tabindex"), text[:200]


@pytest.mark.requirement("LLM-5")
@pytest.mark.parametrize("group", GROUPS)
def test_a_hostile_answer_that_grows_changes_nothing_but_its_place(group):
    for text in GROUPS[group]:
        growing = Growing(PLACE, said)
        for grown in pieces_of(text):
            orders = growing.grow(grown)
            inner = orders.removeprefix("<hx-partial ").partition(">")[2].removesuffix("</hx-partial>")
            assert "<hx-partial" not in inner, text[:200]
            assert of_a_model(inner) == [], text[:200]
            ids = [attributes["id"] for _, attributes in Elements(inner).found if "id" in attributes]
            assert set(ids) <= {f"{PLACE}-tail"}, text[:200]


@pytest.mark.requirement("LLM-5")
@pytest.mark.parametrize("group", GROUPS)
def test_a_hostile_answer_is_one_event_of_a_stream(group):
    for text in GROUPS[group]:
        sent = frame(text, id="1-0").decode()
        head, *fields, blank, end = sent.split("\n")
        assert (head, blank, end) == ("id: 1-0", "", ""), text[:200]
        assert "\r" not in sent
        assert all(field.startswith("data: ") for field in fields), text[:200]


def test_the_judge_of_these_tests_sees_what_is_not_ours():
    bad = ["<script>", "<div onclick=x>", "<button form=composer>", "<svg onload=x>", "<use href=x xlink:href=y>"]
    assert all(of_a_model(html) for html in bad)
