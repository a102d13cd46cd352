"""Scopes in a real browser: without scripts, by keyboard alone, and from two tabs at once."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.browser.test_keyboard import press, tab_to
from tests.browser.watch import blocked, violations

CHAT, CREDITS = "Create chat completion through OpenRouter main account", "Get credits through OpenRouter main account"


@pytest.fixture
def matrix(lived_in, open_page, signed_in) -> Callable[..., Page]:
    """Open the scopes of a persona of that name, which is made first."""

    def open_(name: str, *, again: bool = False, **options) -> Page:
        slug = name.lower().replace(" ", "-")
        page = open_page(storage_state=signed_in, **options)
        if not again:
            page.goto("/t/demo-team/personas/new/blank/")
            page.get_by_label("Name", exact=True).fill(name)
            page.get_by_role("button", name="Create persona").click()
            page.get_by_role("heading", name=name).wait_for()
        page.goto(f"/t/demo-team/personas/{slug}/scopes/")
        return page

    return open_


def choose(page: Page, cell: str, rule: str) -> None:
    page.get_by_label(cell, exact=True).select_option(rule)


def chosen(page: Page, cell: str) -> str:
    return page.get_by_label(cell, exact=True).input_value()


def click(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()


def test_the_matrix_is_edited_without_scripts(matrix):
    page = matrix("Plain Hand", java_script_enabled=False)
    choose(page, CHAT, "ask")
    choose(page, CREDITS, "allowed")
    click(page, "Preview the change")
    page.get_by_text("Plain Hand may now use Create chat completion, after asking a person.").wait_for()
    page.get_by_text("Plain Hand may now use Get credits without asking.").wait_for()
    click(page, "Apply")
    page.get_by_text("Scopes changed").first.wait_for()
    assert (chosen(page, CHAT), chosen(page, CREDITS)) == ("ask", "allowed")


def test_the_matrix_is_edited_without_a_mouse(matrix):
    page = matrix("Key Hand")
    tab_to(page, CHAT)
    page.keyboard.press("ArrowDown")
    press(page, "Preview the change")
    page.get_by_role("heading", name="This would change").wait_for()
    assert page.evaluate("document.activeElement.id") == "preview"
    assert (violations(page), blocked(page)) == ([], [])
    press(page, "Apply")
    page.get_by_text("Scopes changed").first.wait_for()
    assert chosen(page, CHAT) == "ask"


def test_of_two_tabs_the_second_is_told_and_changes_nothing(matrix):
    one = matrix("Two Tabs")
    other = matrix("Two Tabs", again=True)
    for page, rule in ((one, "allowed"), (other, "ask")):
        choose(page, CHAT, rule)
        click(page, "Preview the change")
        page.get_by_role("heading", name="This would change").wait_for()
    click(one, "Apply")
    one.get_by_text("Scopes changed").first.wait_for()
    click(other, "Apply")
    other.get_by_text("Somebody changed these scopes meanwhile. Nothing was applied").wait_for()
    assert chosen(other, CHAT) == "allowed"
    assert (violations(other), blocked(other)) == ([], [])


def test_limits_of_a_tool_and_of_a_grant_are_set_and_explained(matrix):
    page = matrix("Narrow Hand")
    choose(page, CHAT, "allowed")
    click(page, "Preview the change")
    click(page, "Apply")
    page.get_by_role("link", name=f"Limits of {CHAT}").click()
    page.get_by_label("Also by schedule").uncheck()
    page.get_by_label("Fixed arguments optional", exact=True).fill('{"temperature": 9}')
    click(page, "Preview the change")
    page.get_by_role("heading", name="Nothing to preview yet").wait_for()
    assert (violations(page), blocked(page)) == ([], [])
    page.get_by_label("Fixed arguments optional", exact=True).fill('{"temperature": 0.2}')
    click(page, "Preview the change")
    page.get_by_text("In Create chat completion, temperature is now fixed.").wait_for()
    assert (violations(page), blocked(page)) == ([], [])
    click(page, "Apply")
    page.get_by_role("link", name="Change limits of OpenRouter main account").click()
    page.get_by_label("Only these models optional", exact=True).fill("openai/*")
    click(page, "Preview the limits")
    page.get_by_text("Only models like openai/* may be asked.").wait_for()
    assert (violations(page), blocked(page)) == ([], [])
    click(page, "Apply")
    page.get_by_role("link", name="Why? Try a call").click()
    page.get_by_label("Model optional", exact=True).fill("anthropic/claude-sonnet-4.6")
    page.get_by_label("Started").select_option("schedule")
    click(page, "Try")
    page.get_by_role("heading", name="No", exact=True).wait_for()
    page.get_by_role("list").get_by_text("may not be used by a schedule").wait_for()
    page.get_by_role("list").get_by_text("is not among those allowed in this grant").wait_for()
    assert (violations(page), blocked(page)) == ([], [])
