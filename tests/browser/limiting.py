"""Setting a dollar cap as an owner does."""

from playwright.sync_api import Page


def set_cap(page: Page, *, who: str, dollars: str, period: str) -> None:
    """Set a cap in the demo team, and look at the list of limits."""
    page.goto("/t/demo-team/limits/new/")
    page.get_by_label("Who").select_option(label=who)
    page.get_by_label("US dollars at most").fill(dollars)
    page.get_by_label("In which time").select_option(label=period)
    page.get_by_role("button", name="Show what it means").click()
    page.get_by_role("button", name="Set the cap").click()
    page.wait_for_url("**/limits/")
