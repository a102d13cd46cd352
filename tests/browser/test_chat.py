"""Whole conversations by keyboard: written, streamed, reloaded, stopped, asked again, edited, allowed."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Locator, Page, expect

from bench.installation import Installation
from tests.browser.watch import blocked, violations

SECONDS = 40  # for an answer, on a machine that is busy with the demo
SLOW = {"match": {"path": "/chat/completions"}, "answer": {"kind": "slow", "delay": 0.6}}
TOOL = "get_current_key"
ASKS = """
UPDATE vault_grant SET scopes = jsonb_set(scopes, '{{tools,get_current_key}}', '"{rule}"')
 WHERE revoked_at IS NULL AND holder = (SELECT id FROM personas_persona WHERE slug = 'brief-writer')
"""


class Talker:
    """Somebody at a keyboard before a chat."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.main = page.get_by_role("main")

    def begin(self, persona: str) -> None:
        self.page.goto("/t/demo-team/chat/")
        self._press(self.main.get_by_role("link", name=re.compile("New chat|Start the first chat")).first)
        self._press(self.main.get_by_role("link", name=re.compile(persona)))

    def say(self, *lines: str) -> None:
        """Write where the focus is, the lines of one message, and send it."""
        expect(self.page.get_by_label("Message to")).to_be_focused()
        for number, line in enumerate(lines):
            if number:
                self.page.keyboard.press("Shift+Enter")
            self.page.keyboard.type(line)
        self.page.keyboard.press("Enter")

    def press(self, name: str) -> None:
        self._press(self.main.get_by_role("button", name=name, exact=True).last)

    def follow(self, name: str) -> None:
        self._press(self.main.get_by_role("link", name=name, exact=True).last)

    def _press(self, what: Locator) -> None:
        what.focus()
        self.page.keyboard.press("Enter")

    def hears(self, text: str) -> None:
        """What a screen reader is told."""
        expect(self.page.locator("#chat-status")).to_have_text(text, timeout=SECONDS * 1000)

    def sees(self, text: str | re.Pattern) -> None:
        self.main.get_by_text(text).last.wait_for(timeout=SECONDS * 1000)

    @property
    def answer(self) -> Locator:
        return self.main.locator(".answer").last

    def sees_growth(self) -> str:
        """Wait until the answer under way is longer than it was, and return it."""
        prose = self.answer.locator(".prose").last
        expect(prose).not_to_be_empty(timeout=SECONDS * 1000)
        before = prose.inner_text()
        expect(prose).not_to_have_text(before, timeout=SECONDS * 1000)
        return before


@contextmanager
def slowly(place: Installation) -> Iterator[None]:
    """Have models answer a piece at a time."""
    place.rules(SLOW)
    try:
        yield
    finally:
        place.rules()


@pytest.fixture
def talker(place, open_page: Callable[..., Page], signed_in) -> Talker:
    return Talker(open_page("/t/demo-team/chat/", storage_state=signed_in))


def test_a_conversation_is_streamed_reloaded_stopped_and_branched(place, talker: Talker):
    page = talker.page
    talker.begin("Brief Writer")
    with slowly(place):
        talker.say("Write a long note about the harbour.", "Use five paragraphs.")
        talker.hears("Brief Writer is answering.")
        expect(talker.main.locator(".bubble").last).to_have_text(re.compile("harbour.\nUse five"))
        before = talker.sees_growth()
        assert violations(page) == []

        page.reload()
        assert talker.answer.locator(".prose").last.inner_text().startswith(before[:20])
        talker.sees_growth()
        page.keyboard.press("Escape")
        talker.sees("Stopped.")
        talker.hears("The answer was stopped.")
        expect(talker.answer.locator(".prose").last).to_contain_text(before[:20])

    talker.press("Try again")
    talker.sees("2 of 2")
    expect(talker.answer).to_contain_text("Copy", timeout=SECONDS * 1000)
    talker.sees(re.compile(r"via \w+"))
    talker.sees(re.compile(r"\d+ tokens in, \d+ out"))
    talker.follow("Previous")
    talker.sees("Stopped.")
    talker.follow("Next")
    talker.follow("Edit")
    expect(page.get_by_label("Your message")).to_be_focused()
    page.keyboard.press("Control+A")
    page.keyboard.type("Reply with exactly: Short.")
    talker.press("Send instead")
    expect(talker.answer.locator(".prose")).to_have_text("Short.", timeout=SECONDS * 1000)
    expect(talker.main.locator(".mine .siblings")).to_contain_text("2 of 2")
    assert (violations(page), blocked(page)) == ([], [])


def test_a_tool_is_allowed_in_the_conversation_and_opens_to_what_it_did(place, talker: Talker):
    with place.database() as database:
        database.execute(ASKS.format(rule="ask"))
    try:
        talker.begin("Brief Writer")
        talker.say(f"Call {TOOL} and tell me about it.")
        talker.sees("Waiting for approval")
        talker.hears("Brief Writer asks for your approval.")
        assert violations(talker.page) == []
        talker.press("Allow once")
    finally:
        with place.database() as database:
            database.execute(ASKS.format(rule="allowed"))

    expect(talker.answer.locator(".took")).to_be_visible(timeout=SECONDS * 1000)
    card = talker.answer.locator("details.tool")
    expect(card).to_contain_text("Done")
    card.locator("summary").focus()
    talker.page.keyboard.press("Enter")
    expect(card.get_by_role("heading", name="Given")).to_be_visible(timeout=SECONDS * 1000)
    expect(card.get_by_role("heading", name="Attempts")).to_be_visible()
    assert (violations(talker.page), blocked(talker.page)) == ([], [])


@pytest.mark.parametrize("scripts", [False])
def test_without_scripts_a_message_is_sent_and_read_after_a_reload(place, open_page, signed_in, scripts):
    page = open_page(
        "/t/demo-team/chat/new/?persona=brief-writer", storage_state=signed_in, java_script_enabled=scripts
    )
    page.get_by_label("Message to").fill("Reply with exactly: Plain.")
    page.get_by_role("button", name="Send").click()
    said = page.locator(".answer .prose")
    for _ in range(SECONDS):
        if "Plain." in (said.last.inner_text() if said.count() else ""):
            break
        page.wait_for_timeout(1000)
        page.reload()
    expect(said.last).to_have_text("Plain.")
