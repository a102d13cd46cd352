"""Somebody at a keyboard before a chat, and what they want of the models meanwhile."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Locator, Page, expect

from bench.installation import Installation
from tests.browser.watch import blocked, overflow, violations

SECONDS = 40  # for an answer, on a machine that is busy with the demo
TOOL = "get_current_key"
LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
ASKS = """
UPDATE vault_grant SET scopes = jsonb_set(scopes, '{{tools,get_current_key}}', '"{rule}"')
 WHERE revoked_at IS NULL AND holder = (SELECT id FROM personas_persona WHERE slug = 'brief-writer')
"""
# All that live regions were given to say, one after the other, from the first moment of a page.
HEAR = """
window.heard = [];
new MutationObserver((changes) => changes.forEach(({ target }) => {
  const element = target.nodeType === 1 ? target : target.parentElement;
  const region = element?.closest('[role=status], [role=alert], [role=log], [aria-live]');
  const words = region?.textContent.trim();
  if (words && words !== heard.at(-1)) heard.push(words);
})).observe(document, { childList: true, characterData: true, subtree: true });
"""


class Talker:
    """Somebody at a keyboard before a chat."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.main = page.get_by_role("main")

    def begin(self, persona: str) -> None:
        """Find the way to a new chat."""
        self.page.goto("/t/demo-team/chat/")
        self.strike(self.main.get_by_role("link", name=re.compile("New chat|Start the first chat")).first)
        self.strike(self.main.get_by_role("link", name=re.compile(persona)))

    def say(self, *lines: str) -> None:
        """Write where the focus is, the lines of one message, and send it."""
        expect(self.page.get_by_label("Message to")).to_be_focused()
        for number, line in enumerate(lines):
            if number:
                self.page.keyboard.press("Shift+Enter")
            self.page.keyboard.insert_text(line)
        self.page.keyboard.press("Enter")

    def press(self, name: str) -> None:
        self.strike(self.main.get_by_role("button", name=name, exact=True).last)

    def follow(self, name: str) -> None:
        self.strike(self.main.get_by_role("link", name=name, exact=True).last)

    def strike(self, what: Locator, key: str = "Enter") -> None:
        what.focus()
        self.page.keyboard.press(key)

    def open_menu(self) -> None:
        self.strike(self.main.locator("summary", has_text="More about this chat"))

    def hears(self, text: str) -> None:
        """What a screen reader is told."""
        expect(self.page.locator("#chat-status")).to_have_text(text, timeout=SECONDS * 1000)

    def sees(self, text: str | re.Pattern) -> None:
        self.main.get_by_text(text).last.wait_for(timeout=SECONDS * 1000)

    @property
    def answer(self) -> Locator:
        return self.main.locator(".answer").last

    @property
    def prose(self) -> Locator:
        return self.answer.locator(".prose").last

    def sees_growth(self) -> str:
        """Wait until the answer under way is longer than it was, and return what it was."""
        expect(self.prose).not_to_be_empty(timeout=SECONDS * 1000)
        before = self.prose.inner_text()
        expect(self.prose).not_to_have_text(before, timeout=SECONDS * 1000)
        return before

    def sees_the_end(self) -> str:
        """Wait until the last answer is whole, and return what it says."""
        self.answer.locator(".took").wait_for(timeout=SECONDS * 1000)
        return self.prose.inner_text()

    def faults(self) -> list[str]:
        """What is wrong with the page as it is now, in both themes, wide and narrow."""
        was, found = self.page.viewport_size, []
        for width, scheme in LOOKS:
            self.page.set_viewport_size({"width": width, "height": 844})
            self.page.emulate_media(color_scheme=scheme)
            found += [f"{width} {scheme}: {each}" for each in violations(self.page)]
            found += [f"{width} {scheme}: too wide by {overflow(self.page)}"] if overflow(self.page) else []
        self.page.set_viewport_size(was)
        self.page.emulate_media(color_scheme="light")
        return found + blocked(self.page)


@contextmanager
def slowly(place: Installation, seconds: float = 0.4, path: str = "/chat/completions") -> Iterator[None]:
    """Have models answer a piece at a time."""
    place.rules({"match": {"path": path}, "answer": {"kind": "slow", "delay": seconds}})
    try:
        yield
    finally:
        place.rules()


@contextmanager
def asking(place: Installation) -> Iterator[None]:
    """Have the Brief Writer ask before it looks at its key."""
    _rule(place, "ask")
    try:
        yield
    finally:
        _rule(place, "allowed")


def _rule(place: Installation, rule: str) -> None:
    with place.database() as database:
        database.execute(ASKS.format(rule=rule))
