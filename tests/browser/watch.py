"""What the tests look at in every page: policy violations, accessibility, width."""

from pathlib import Path

from playwright.sync_api import Page

WATCH = """
window.blocked = [];
addEventListener('securitypolicyviolation', (event) => blocked.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
AXE = (Path(__file__).parents[1] / "vendor/axe.min.js").read_text()
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = "(what) => axe.run({runOnly: what, resultTypes: ['violations']})"
WIDER = "document.documentElement.scrollWidth - innerWidth"


def blocked(page: Page) -> list[str]:
    """What the content policy has refused on this page."""
    return page.evaluate("window.blocked")


def violations(page: Page, *, only: str = "") -> list[str]:
    """What axe finds, by all its rules or one: a line for each with the elements that break it."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found = page.evaluate(RUN, [only] if only else TAGS)["violations"]
    return [f"{rule['id']}: {[node['target'] for node in rule['nodes']]}" for rule in found]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return max(0, page.evaluate(WIDER))
