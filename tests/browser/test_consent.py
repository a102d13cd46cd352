"""Somebody connects OpenRouter by agreeing there: with the mouse, by keyboard, without JavaScript, and by saying no."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.watch import blocked, overflow, violations

INTEGRATION = "/t/demo-team/integrations/openrouter/"


def set_out(page: Page, name: str) -> None:
    page.get_by_role("link", name="Agree at OpenRouter").click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("heading", name="1. Say yes at OpenRouter")).to_be_visible()


def end(page: Page, name: str) -> None:
    """Revoke it, so that the demo team has what it had."""
    page.get_by_role("link", name="Revoke").first.click()
    page.get_by_role("button", name=re.compile("Revoke")).click()
    expect(page.get_by_text(f"{name} revoked", exact=True)).to_be_visible()


def test_a_connection_is_made_by_saying_yes_at_the_provider(lived_in, open_page, signed_in):
    page = open_page(INTEGRATION, storage_state=signed_in)
    set_out(page, "Agreed by mouse")
    assert (violations(page), overflow(page), blocked(page)) == ([], 0, [])
    page.get_by_role("link", name="Continue at OpenRouter").click()
    page.get_by_role("button", name="Authorize").click()
    # A worker exchanges the code; the page goes on to the connection by itself.
    expect(page.get_by_role("heading", name="Agreed by mouse")).to_be_visible(timeout=30_000)
    page.wait_for_url(re.compile("/connections/"), timeout=30_000)
    expect(page.get_by_text("Usable").first).to_be_visible(timeout=30_000)
    end(page, "Agreed by mouse")


@pytest.mark.parametrize("scripts", [True, False])
def test_saying_no_connects_nothing(lived_in, open_page, signed_in, scripts):
    page = open_page(INTEGRATION, storage_state=signed_in, java_script_enabled=scripts)
    set_out(page, "Not agreed")
    page.get_by_role("link", name="Continue at OpenRouter").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("no key was made")).to_be_visible()
    page.get_by_role("link", name="Begin anew").click()
    expect(page.get_by_role("button", name="Next")).to_be_visible()
