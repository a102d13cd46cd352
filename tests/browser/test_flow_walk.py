"""By keyboard alone: a flow of five stages is built, scheduled, run, decided on, fails, is resumed and compared."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from bench.installation import Installation
from tests.browser.watch import blocked, overflow, violations

SECONDS = 40
BROKEN = {"match": {"path": "/chat/completions"}, "answer": {"kind": "status", "status": 400}}


class Keyboard:
    """Somebody who uses no mouse."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.main = page.get_by_role("main")

    def strike(self, what: Locator, key: str = "Enter") -> None:
        what.focus()
        self.page.keyboard.press(key)

    def press(self, name: str) -> None:
        self.strike(self.main.get_by_role("button", name=name, exact=True).first)
        self.page.wait_for_load_state()

    def follow(self, name: str) -> None:
        self.strike(self.main.get_by_role("link", name=name, exact=True).first)
        self.page.wait_for_load_state()

    def write(self, label: str, text: str, *, stage: int = 0) -> None:
        form = self.main.get_by_role("group", name=f"Stage {stage}", exact=True) if stage else self.main
        form.get_by_label(re.compile(f"^{label}( optional)?$")).focus()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(text)

    def choose(self, label: str, option: str, *, stage: int) -> None:
        """Find an option of a list by typing its beginning."""
        form = self.main.get_by_role("group", name=f"Stage {stage}", exact=True)
        form.get_by_label(label, exact=True).focus()
        self.page.keyboard.type(option)

    def sees(self, text: str) -> None:
        self.main.get_by_text(text, exact=True).first.wait_for(timeout=SECONDS * 1000)

    def is_sound(self) -> None:
        assert (violations(self.page), blocked(self.page), overflow(self.page)) == ([], [], 0)


@pytest.fixture
def keyboard(open_page: Callable[..., Page], signed_in: dict) -> Keyboard:
    return Keyboard(open_page("/t/demo-team/flows/", storage_state=signed_in))


def test_a_flow_of_five_stages_goes_its_whole_way(place: Installation, keyboard: Keyboard):
    builds(keyboard)
    schedules_it(keyboard)
    runs_until_it_asks(keyboard)
    lets_it_fail(keyboard, place)
    failed = keyboard.page.url
    takes_it_up_again(keyboard)
    compares(keyboard, failed)


def builds(keyboard: Keyboard) -> None:
    keyboard.follow("New flow")
    keyboard.write("Name", "Harbour notes")
    keyboard.write("Inputs", "place = Trieste")
    says(keyboard, 1, "sights", "Reply with exactly: the pier\nthe lamp")
    keyboard.press("Prompt for each")
    says(keyboard, 2, "notes", "Reply with exactly: {{ item }} of {{ input.place }}")
    keyboard.write("List", "{{ stage.sights.output }}", stage=2)
    keyboard.press("Approve")
    keyboard.write("Stage name", "asked", stage=3)
    keyboard.write("Text for whoever decides", "Shall it be these?\n{{ stage.notes.output }}", stage=3)
    keyboard.press("Prompt")
    says(keyboard, 4, "title", "Reply with exactly: At the harbour")
    keyboard.press("Combine")
    keyboard.write("Stage name", "page", stage=5)
    keyboard.write("Text", "{{ stage.title.output }}: {{ stage.missing.output }}", stage=5)
    keyboard.press("Publish")
    expect(keyboard.page.get_by_role("alert")).to_contain_text("{{ stage.missing.output }} is not known here")
    keyboard.write("Text", "{{ stage.title.output }}: {{ stage.notes.output }}", stage=5)
    keyboard.is_sound()
    keyboard.press("Publish")
    keyboard.sees("5. page")
    keyboard.is_sound()


def says(keyboard: Keyboard, stage: int, name: str, text: str) -> None:
    keyboard.write("Stage name", name, stage=stage)
    keyboard.choose("Persona", "Brief Writer", stage=stage)
    keyboard.write("Text", text, stage=stage)


def schedules_it(keyboard: Keyboard) -> None:
    keyboard.follow("Schedule")
    keyboard.strike(keyboard.main.get_by_label("Again and again after the same time"), "Space")
    keyboard.write("Every so many", "6")
    keyboard.sees("Every 6 hours")  # the preview
    keyboard.is_sound()
    keyboard.press("Set schedule")
    keyboard.sees("Its first time has not come yet")
    keyboard.is_sound()
    keyboard.strike(
        keyboard.page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="Harbour notes")
    )
    keyboard.sees("Every 6 hours")


def runs_until_it_asks(keyboard: Keyboard) -> None:
    keyboard.write("place", "Genoa")
    keyboard.press("Run now")
    expect(keyboard.main.get_by_role("heading", name="Decide stage 3, asked")).to_be_visible(timeout=SECONDS * 1000)
    keyboard.main.get_by_text("the pier of Genoa").first.wait_for()
    keyboard.is_sound()


def lets_it_fail(keyboard: Keyboard, place: Installation) -> None:
    place.rules(BROKEN)
    keyboard.press("Approve")
    keyboard.sees("This run failed.")
    place.rules()


def takes_it_up_again(keyboard: Keyboard) -> None:
    keyboard.press("Run again from stage 4")
    keyboard.main.get_by_text("At the harbour:").first.wait_for(timeout=SECONDS * 1000)
    keyboard.is_sound()


def compares(keyboard: Keyboard, failed: str) -> None:
    keyboard.follow("Compare")
    other = keyboard.main.get_by_label("Compare with")
    assert failed.split("/runs/")[1].split("/")[0] in other.inner_html()
    keyboard.main.get_by_role("heading", name="title").first.wait_for()
    keyboard.is_sound()
