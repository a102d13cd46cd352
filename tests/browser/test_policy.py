"""A policy is tried, applied and obeyed, with scripts and without."""

import pytest
from playwright.sync_api import Page

from tests.browser.watch import blocked, overflow, violations

FLOOR = "/t/demo-team/settings/policy/"


@pytest.fixture
def floor(lived_in, open_page, signed_in) -> Page:
    page = open_page(FLOOR, storage_state=signed_in)
    yield page
    page.goto(f"{FLOOR}?preview=1")
    if page.get_by_role("button", name="Apply to the team").count():
        page.get_by_role("button", name="Apply to the team").click()


def test_choosing_a_rule_shows_what_it_would_do_and_applying_keeps_it(floor):
    before = floor.locator(".verdict").inner_text()
    floor.get_by_label("OpenAI models").select_option("zdr")
    floor.get_by_role("button", name="Apply to the team").wait_for()
    assert floor.locator(".verdict").inner_text() != before
    assert (violations(floor), overflow(floor), blocked(floor)) == ([], 0, [])

    floor.get_by_role("button", name="Apply to the team").click()
    floor.get_by_text("Policy changed").wait_for()
    assert floor.get_by_label("OpenAI models").input_value() == "zdr"
    assert floor.get_by_text("Providers of OpenAI models may keep nothing.").count()


def test_without_scripts_a_button_previews_and_wrong_rules_are_named(floor, open_page, signed_in):
    page = open_page(FLOOR, storage_state=signed_in, java_script_enabled=False)
    page.get_by_label("Most for tokens in").fill("NaN")
    page.get_by_role("button", name="Preview").click()
    assert page.get_by_role("alert").get_by_text("Nothing to preview yet").count()
    assert page.get_by_role("button", name="Apply to the team").count() == 0

    page.get_by_label("Most for tokens in").fill("0.30")
    page.get_by_role("button", name="Preview").click()
    assert "stay within reach" in page.locator(".verdict").inner_text()
    page.get_by_role("button", name="Apply to the team").click()
    assert page.get_by_text("Policy changed").count()
