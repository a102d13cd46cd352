"""
Take the pictures of the README again, from a fresh installation.

    .venv/bin/python -m tests.browser.screenshots
"""

import os
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from bench.installation import Installation
from tests.browser.conftest import LOOK, find_chromium

PICTURES = Path(__file__).parents[2] / "docs/images"
RUNS = 4  # the third one meets the demo's rate limit


def main() -> None:
    place = Installation()
    try:
        with sync_playwright() as playwright:
            chromium = find_chromium(playwright.chromium.executable_path)
            browser = playwright.chromium.launch(
                executable_path=chromium, args=[] if os.geteuid() else ["--no-sandbox"]
            )
            page = browser.new_page(base_url=place.url, **LOOK)
            _work_a_little(page, place.first_link)
            _take(page, "/t/demo-team/personas/", "personas")
            page.goto("/t/demo-team/runs/")
            run = _fallback(page)
            _take(page, run, "run")
            _take(page, run, "attempts", part="#stage")
            _take(page, "/t/demo-team/personas/public-voice/scopes/", "scopes")
            browser.close()
    finally:
        place.stop()


def _work_a_little(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    for flow in ["second-opinion", *["minute-brief"] * RUNS]:
        page.goto(f"/t/demo-team/flows/{flow}/")
        page.get_by_role("button", name="Run now").click()
        page.get_by_role("main").get_by_text("Succeeded").first.wait_for()


def _fallback(page: Page) -> str:
    """The address of a run that shows an attempt which failed and was replaced."""
    runs = page.locator("tbody a[href*='/runs/']").evaluate_all("links => links.map(link => link.href)")
    for run in runs:
        page.goto(run)
        if page.get_by_text("Used fallback").count() and page.get_by_text("Rate limited").count():
            return run
    raise SystemExit("No run was rate limited and used its fallback.")


def _take(page: Page, address: str, name: str, *, part: str = "") -> None:
    for scheme, ending in (("light", ""), ("dark", "-dark")):
        page.emulate_media(color_scheme=scheme)
        page.goto(address)
        shown = page.locator(part) if part else page
        shown.screenshot(path=PICTURES / f"{name}{ending}.png")


if __name__ == "__main__":
    main()
