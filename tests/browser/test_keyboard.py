"""Everything by keyboard alone: each step is a Tab, a letter or Enter, and the focus is always seen."""

import pytest
from playwright.sync_api import Page, expect

MOST_TABS = 60
FOCUSED = """() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    const label = element.labels?.[0]?.textContent;
    return {
        name: (element.getAttribute('aria-label') || label || element.textContent || element.name || '').trim(),
        body: element === document.body,
        ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1,
        covered: element.getBoundingClientRect().top < 0,
    };
}"""


def tab_to(page: Page, name: str) -> None:
    """Press Tab until the focus is on what has this name; each stop on the way shows where it is."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused["body"]:
            continue  # the browser's own frame, between the last stop and the first
        assert focused["ring"], f"{focused['name']!r} has no visible focus"
        assert not focused["covered"], f"{focused['name']!r} is out of sight"
        if focused["name"].startswith(name):
            return
    raise AssertionError(f"Tab never reached {name!r}")


def press(page: Page, name: str) -> None:
    """Tab to a link or button that leads somewhere, and press Enter."""
    tab_to(page, name)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def test_a_persona_is_made_and_its_tool_run_without_a_mouse(lived_in, open_page, signed_in):
    page = open_page("/t/demo-team/personas/", storage_state=signed_in)
    press(page, "New persona")
    page.wait_for_url("**/personas/new/")
    press(page, "Start from nothing")
    tab_to(page, "Name")
    page.keyboard.type("Key Presser")
    press(page, "Create persona")
    page.get_by_role("heading", name="Key Presser").wait_for()
    press(page, "Enable OpenRouter main account")
    page.wait_for_url("**/scopes/**")
    tab_to(page, "Get current key")
    page.keyboard.press("Space")
    press(page, "Allow ticked tools")
    page.get_by_text("1 of 13 tools").wait_for()
    press(page, "Run a tool")
    press(page, "Get current key")
    press(page, "Run as Key Presser")
    page.get_by_role("main").get_by_text("Succeeded", exact=True).first.wait_for()


def test_a_refused_form_takes_the_focus_to_what_is_wrong(place, open_page, signed_in):
    page = open_page("/t/demo-team/personas/new/blank/", storage_state=signed_in)
    page.get_by_label("Name", exact=True).fill("Nobody")
    page.get_by_label("Model optional", exact=True).fill("no model id")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Not saved yet").wait_for()
    assert page.evaluate("document.activeElement.id") == "errors"
    press(page, "Model")
    assert page.evaluate("document.activeElement.id") == "id_model"


@pytest.mark.parametrize(
    ("address", "field", "key"), [("personas", "#q", "w"), ("runs", "#state", "S"), ("audit", "main select", "A")]
)
def test_a_filter_keeps_the_focus_while_the_list_changes(lived_in, open_page, signed_in, address, field, key):
    page = open_page(f"/t/demo-team/{address}/", storage_state=signed_in)
    filtering = page.locator(field).first
    filtering.focus()
    with page.expect_response(lambda response: "?" in response.url):
        page.keyboard.press(key)
    expect(page.locator(".htmx-request")).to_have_count(0)
    assert filtering.evaluate("element => element === document.activeElement")


def test_a_live_run_keeps_the_focus_while_it_changes(place, open_page, signed_in):
    place.rules({"match": {"path": "/chat/completions"}, "answer": {"kind": "slow", "delay": 0.05}})
    page = open_page("/t/demo-team/flows/minute-brief/", storage_state=signed_in)
    press(page, "Run now")
    page.wait_for_url("**/runs/**")
    tab_to(page, "2. brief")
    page.get_by_role("main").get_by_text("2 of 2 stages done", exact=True).wait_for()
    assert page.evaluate(FOCUSED)["name"].startswith("2. brief")
    place.rules()


def test_a_drawer_takes_the_focus_and_gives_it_back(lived_in, open_page, signed_in):
    page = open_page("/t/demo-team/audit/", storage_state=signed_in)
    opener = page.locator("tbody a").first
    opener.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert opener.evaluate("element => element === document.activeElement")
