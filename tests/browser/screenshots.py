"""
Take the pictures of the README again, from a fresh installation.

    .venv/bin/python -m tests.browser.screenshots
"""

from pathlib import Path

from playwright.sync_api import Page

from bench.chromium import chromium
from bench.installation import Installation
from tests.browser.conftest import LOOK

PICTURES = Path(__file__).parents[2] / "docs/images"
RUNS = 4  # the third one meets the demo's rate limit
ASKS = "What may our key still spend? Look with get_current_key, and give me a line for the terminal that shows it."
# The stand-in's models know no such words, so the last answer gets them; all else of the turn is as it took place.
SAYS = """Nearly all of it: a few cents of its **$25** are spent, and no date resets the limit.

This line shows what is left:

```sh
curl -s https://openrouter.ai/api/v1/key -H "Authorization: Bearer $OPENROUTER_API_KEY" \\
  | jq '.data | {limit, limit_remaining, limit_reset}'
```

When `limit_remaining` nears zero, raise the limit or calls are refused with status 402."""
REWORD = f"""
from personas.models import StageRun
from tests.personas.chat.builders import said, seal
stage = StageRun.objects.exclude(run__chat=None).filter(kind="answer").latest("id")
stage.output_content_id = seal(stage.run.chat, said({SAYS!r}))
stage.save(update_fields=["output_content_id"])
"""


def main() -> None:
    place = Installation()
    try:
        with chromium() as browser:
            page = browser.new_page(base_url=place.url, **LOOK)
            _work_a_little(page, place.first_link)
            _take(page, "/t/demo-team/personas/", "personas")
            page.goto("/t/demo-team/runs/")
            run = _fallback(page)
            _take(page, run, "run")
            _take(page, run, "attempts", part="#stage")
            _take(page, "/t/demo-team/personas/public-voice/scopes/", "scopes")
            _take(page, _talk(page, place), "chat")
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


def _talk(page: Page, place: Installation) -> str:
    """The address of a chat in which a tool was called."""
    page.goto("/t/demo-team/chat/new/?persona=brief-writer")
    page.get_by_label("Message to").fill(ASKS)
    page.keyboard.press("Enter")
    page.locator(".answer .took").wait_for()
    page.locator(".answer .tool").wait_for()
    place.manage("shell", "-v", "0", "-c", REWORD)
    return page.url.partition("#")[0]


def _take(page: Page, address: str, name: str, *, part: str = "") -> None:
    for scheme, ending in (("light", ""), ("dark", "-dark")):
        page.emulate_media(color_scheme=scheme)
        page.goto(address)
        shown = page.locator(part) if part else page
        shown.screenshot(path=PICTURES / f"{name}{ending}.png")


if __name__ == "__main__":
    main()
