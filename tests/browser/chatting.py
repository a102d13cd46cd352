"""Have the demo team's Brief Writer call a tool in a chat."""

from playwright.sync_api import Page

TOOL = "get_current_key"


def talk_once(page: Page) -> None:
    """Begin a chat, and wait until its first answer is there."""
    page.goto("/t/demo-team/chat/new/?persona=brief-writer")
    page.get_by_label("Message to").fill(f"Call {TOOL} and tell me about it.")
    page.get_by_role("button", name="Send").click()
    page.locator(".answer .took").wait_for()
