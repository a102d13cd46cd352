"""Have a persona of the demo team ask first, and let a flow of it come that far."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page

from bench.installation import Installation

RULE = """
UPDATE vault_grant SET scopes = jsonb_set(scopes, '{{tools,create_chat_completion}}', '"{rule}"')
 WHERE revoked_at IS NULL AND holder = (SELECT id FROM personas_persona WHERE slug = 'second-reader')
"""


@contextmanager
def asking_first(place: Installation) -> Iterator[None]:
    """Set the demo team's Second Reader to "ask first" for the length of the block."""
    _rule(place, "ask")
    try:
        yield
    finally:
        _rule(place, "allowed")


def _rule(place: Installation, rule: str) -> None:
    with place.database() as database:
        database.execute(RULE.format(rule=rule))


def run_until_it_asks(page: Page) -> None:
    """Run the flow whose second stage is the Second Reader's, and wait until it asks."""
    page.goto("/t/demo-team/flows/second-opinion/")
    page.get_by_role("button", name="Run now").click()
    question = page.get_by_role("link", name="See what it asks")
    for _ in range(120):  # without scripts a page does not change by itself
        if question.count():
            return
        page.wait_for_timeout(250)
        page.reload()
    question.wait_for()
