"""By keyboard alone: somebody builds a flow, is told of a wrong reference while writing, and tries one stage."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_flow_walk import SECONDS, Keyboard, says
from tests.browser.watch import blocked, overflow, violations


@pytest.fixture
def keyboard(open_page: Callable[..., Page], signed_in: dict) -> Keyboard:
    return Keyboard(open_page("/t/demo-team/flows/", storage_state=signed_in, color_scheme="dark"))


def test_a_stage_is_built_and_tried_with_texts_that_are_pinned(keyboard: Keyboard):
    builds(keyboard)
    tries(keyboard)
    pins(keyboard)
    looks_at_the_flow(keyboard)


def builds(keyboard: Keyboard) -> None:
    keyboard.follow("New flow")
    keyboard.write("Name", "Lighthouse letters")
    keyboard.write("Inputs", "place = Trieste")
    says(keyboard, 1, "sights", "Reply with exactly: the lamp")
    keyboard.press("Prompt")
    says(keyboard, 2, "letter", "Reply with exactly: Dear {{ stage.sihgts.output }}")
    expect(keyboard.main.get_by_text("Did you mean {{ stage.sights.output }}?")).to_be_visible(timeout=SECONDS * 1000)
    assert keyboard.page.evaluate("document.activeElement.name") == "stage-1-template"
    is_sound(keyboard)
    keyboard.write("Text", "Reply with exactly: Dear {{ stage.sights.output }} of {{ input.place }}", stage=2)
    expect(keyboard.main.get_by_text("is not known here")).to_have_count(0, timeout=SECONDS * 1000)
    draws(keyboard, "2 stages with 1 link between them")
    stage = keyboard.main.get_by_role("group", name="Stage 2", exact=True)
    keyboard.strike(stage.get_by_text("When it is done, tries and limits"))
    keyboard.choose("Done when optional", "A stage was done", stage=2)
    keyboard.write("Of the stage", "sights", stage=2)
    draws(keyboard, "2 stages with 2 links between them")


def draws(keyboard: Keyboard, what: str) -> None:
    expect(keyboard.main.get_by_role("img", name=what)).to_be_visible(timeout=SECONDS * 1000)


def tries(keyboard: Keyboard) -> None:
    keyboard.press("Save draft and try stage 2")
    keyboard.sees("Try stage 2, letter")
    keyboard.write("What stage sights gives", "keeper")
    expect(keyboard.main.get_by_text("At most")).to_be_visible(timeout=SECONDS * 1000)
    is_sound(keyboard)
    keyboard.press("Try this stage")
    keyboard.main.get_by_text("Dear keeper of Trieste").first.wait_for(timeout=SECONDS * 1000)
    is_sound(keyboard)


def pins(keyboard: Keyboard) -> None:
    keyboard.follow("Try this stage again")
    expect(keyboard.main.get_by_label("What stage sights gives")).to_have_value("keeper")
    keyboard.press("Keep as sample data")
    keyboard.sees("Erase sample data")


def looks_at_the_flow(keyboard: Keyboard) -> None:
    keyboard.strike(
        keyboard.page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="Lighthouse letters")
    )
    keyboard.sees("Uses sights, input place.")
    draws(keyboard, "2 stages with 2 links between them")
    is_sound(keyboard)


def is_sound(keyboard: Keyboard) -> None:
    """In the dark and on the narrowest screen, and the other way round."""
    page = keyboard.page
    for scheme, width in (("light", 1440), ("dark", 320)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        assert (violations(page), blocked(page), overflow(page)) == ([], [], 0)
