"""Somebody asks what breaks if zero retention is turned on: by mouse, by keyboard, without JavaScript, on a phone."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.watch import blocked, overflow, violations

RETENTION = "/t/demo-team/retention/"


@pytest.fixture
def retention(lived_in, open_page, signed_in) -> Page:
    page = open_page(RETENTION, storage_state=signed_in)
    for _ in range(30):  # calls are added up some seconds after they end
        if page.locator(".shift").count():
            break
        page.wait_for_timeout(2_000)
        page.reload()
    return page


def test_what_breaks_under_zero_retention_is_read_applied_and_taken_back(retention):
    expect(retention.get_by_role("radio", name=re.compile("^Nothing"))).to_be_checked()
    expect(retention.locator(".verdict")).to_contain_text(re.compile(r"personas|would stop working"))
    assert retention.locator(".shift [role=img]").get_attribute("aria-label").startswith("Of ")
    retention.get_by_text("Show as table").click()
    expect(retention.get_by_role("region", name="The figure as a table, scrollable")).to_be_visible()
    assert (violations(retention), overflow(retention), blocked(retention)) == ([], 0, [])

    retention.get_by_role("button", name="Apply to the team").click()
    expect(retention.get_by_text("Policy changed")).to_be_visible()
    expect(retention.get_by_text("This is the rule in force for the team")).to_be_visible()
    expect(retention.get_by_role("button", name="Apply to the team")).to_have_count(0)

    retention.get_by_role("button", name="Undo this change").click()
    expect(retention.get_by_role("button", name="Apply to the team")).to_be_visible()


def test_a_rule_is_chosen_by_keyboard_and_its_address_can_be_sent(retention, open_page, signed_in):
    retention.get_by_role("radio", name=re.compile("^Nothing")).focus()
    for _ in range(2):
        retention.keyboard.press("ArrowUp")
    retention.wait_for_url(re.compile("tier=any"))
    expect(retention.locator(".verdict")).to_contain_text("keep")
    retention.get_by_role("checkbox", name="OpenAI").focus()
    retention.keyboard.press("Space")
    retention.wait_for_url(lambda url: "group=openai" not in url)
    retention.get_by_label("Applies to").focus()
    retention.keyboard.type("Brief Writer")
    retention.keyboard.press("Tab")
    retention.wait_for_url(re.compile("scope=persona"))
    expect(retention.locator(".verdict")).to_contain_text("Brief Writer keeps its route")

    sent = open_page(RETENTION, storage_state=signed_in, java_script_enabled=False)
    sent.goto(retention.url)
    assert sent.locator(".verdict").inner_text() == retention.locator(".verdict").inner_text()


def test_without_scripts_a_rule_for_no_group_is_named_and_a_file_is_offered(open_page, lived_in, signed_in):
    page = open_page(RETENTION, storage_state=signed_in, java_script_enabled=False)
    for group in ("Anthropic", "OpenAI", "Google", "xAI", "All other models"):
        page.get_by_role("checkbox", name=group).uncheck()
    page.get_by_role("button", name="Update preview").click()
    expect(page.get_by_role("alert")).to_contain_text("Tick at least one group")
    page.goto(f"{RETENTION}?rows=all")
    with page.expect_download() as begun:
        page.get_by_role("link", name="CSV").click()
    assert begun.value.suggested_filename.startswith("retention-demo-team-")


def test_on_a_phone_the_figure_is_a_list(retention):
    retention.set_viewport_size({"width": 320, "height": 800})
    expect(retention.locator(".shift .lab").first).to_be_hidden()
    expect(retention.locator(".only-narrow")).to_contain_text(re.compile(r"Same route \d"))
    assert overflow(retention) == 0
