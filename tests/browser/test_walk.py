"""
The way of a newcomer from the sign-in link to a revoked key, in a team of their own.

Walked once with scripts and once without: every step is a page, a link or a form.
"""

import re
from dataclasses import dataclass

import pytest
from playwright.sync_api import Locator, Page
from playwright.sync_api import TimeoutError as NotThere

from bench.installation import Installation
from tests.browser.watch import blocked, violations

SECONDS = 40  # a call, its retries and a worker that is busy with the demo
SLOW = {"match": {"path": "/chat/completions"}, "answer": {"kind": "slow", "delay": 0.05}}


@dataclass
class Walker:
    """Somebody at a browser. Without scripts they press reload where others just look."""

    page: Page
    scripts: bool

    def follow(self, name: str, *, exact: bool = True) -> None:
        self.page.get_by_role("main").get_by_role("link", name=name, exact=exact).first.click()

    def menu(self, name: str) -> None:
        self.page.get_by_role("navigation", name="Main").get_by_role("link", name=name, exact=True).click()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).first.click()

    def fill(self, label: str, text: str, *, stage: int = 0) -> None:
        self._field(label, stage).fill(text)

    def choose(self, label: str, option: str, *, stage: int = 0) -> None:
        self._field(label, stage).select_option(option)

    def _field(self, label: str, stage: int) -> Locator:
        main = self.page.get_by_role("main")
        form = main.get_by_role("group", name=f"Stage {stage}", exact=True) if stage else main
        return form.get_by_label(re.compile(f"^{label}( optional)?$"))

    def see(self, text: str | re.Pattern) -> None:
        """Find a text on the page as it is."""
        self.page.get_by_role("main").get_by_text(text).first.wait_for()

    def wait_for(self, text: str) -> None:
        """Wait until work in the background shows on the page."""
        found = self.page.get_by_role("main").get_by_text(text, exact=True).first
        if not self.scripts:
            self._reload_until(found)
        found.wait_for(timeout=SECONDS * 1000)

    def _reload_until(self, found: Locator) -> None:
        for _ in range(4 * SECONDS):
            try:
                return found.wait_for(timeout=250)
            except NotThere:
                self.page.reload()
        return None

    def is_sound(self) -> None:
        """Check the page as it is now: newcomers see states that the demo team has left behind."""
        if self.scripts:
            assert (violations(self.page), blocked(self.page)) == ([], [])


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_a_newcomer_walks_from_sign_in_to_a_revoked_key(place, open_page, scripts):
    walker = Walker(open_page(place.sign_in_link(), java_script_enabled=scripts), scripts)
    place.rules(SLOW)
    signs_in(walker)
    makes_a_team(walker)
    connects(walker, place)
    makes_a_persona(walker)
    grants_tools(walker)
    asks_a_model_by_hand(walker)
    reads_the_log_entry(walker)
    builds_a_flow(walker)
    schedules_it(walker)
    watches_a_run(walker)
    revokes_the_key(walker)
    sees_the_next_run_fail(walker)
    place.rules()


def signs_in(walker: Walker) -> None:
    walker.press("Sign in")
    walker.page.wait_for_url("**/t/demo-team/personas/")


def makes_a_team(walker: Walker) -> None:
    walker.page.get_by_text("Demo team").first.click()
    walker.page.get_by_role("link", name="New team").click()
    walker.fill("Team name", f"Night desk {'one' if walker.scripts else 'two'}")
    walker.press("Create team")
    walker.see("No personas yet")
    walker.is_sound()
    for name, first in (("Flows", "No flows yet"), ("Runs", "No runs yet"), ("Integrations", "Not connected yet.")):
        walker.menu(name)
        walker.see(first)
        walker.is_sound()


def connects(walker: Walker, place: Installation) -> None:
    walker.follow("OpenRouter")
    walker.follow("Connect a key")
    walker.fill("Key", "this is no key")
    walker.press("Connect and test")
    walker.see("Not connected yet")
    walker.is_sound()
    key = place.key(limit=5)
    walker.fill("Key", key)
    walker.press("Connect and test")
    walker.wait_for("Ready")
    walker.see("No personas yet")
    assert key not in walker.page.content()
    walker.is_sound()


def makes_a_persona(walker: Walker) -> None:
    walker.menu("Personas")
    walker.follow("Create the first persona")
    walker.is_sound()
    walker.follow("Start from nothing")
    walker.fill("Name", "Night Writer")
    walker.fill("Instructions", "Answer in one sentence.")
    walker.fill("Model", "openai/gpt-5.4-mini")
    walker.fill("Fallback model", "mistralai/mistral-medium-3.1")
    walker.press("Create persona")
    walker.see("No schedule uses this persona.")
    walker.is_sound()


def grants_tools(walker: Walker) -> None:
    walker.follow("Enable OpenRouter main account")
    for tool in ("create_chat_completion", "get_current_key"):
        walker.page.locator(f"#tool-{tool}").check()
    walker.press("Allow ticked tools")
    walker.see("2 of 13 tools")


def asks_a_model_by_hand(walker: Walker) -> None:
    walker.follow("Run a tool")
    walker.page.get_by_role("main").locator("a[href$=create_chat_completion\\/]").click()
    walker.fill("Prompt", "Say in one sentence why nights are quiet.")
    walker.press("Run as Night Writer")
    walker.wait_for("1 of 1 stages done")  # not "Succeeded", which the stage says before the run does
    walker.see("Succeeded")
    assert walker.page.locator("#output").inner_text().strip()
    assert re.search(r"\$0\.0\d+", walker.page.locator(".figs").inner_text())
    assert re.search(r"\d s", walker.page.locator("ol.wf").inner_text())
    walker.is_sound()


def reads_the_log_entry(walker: Walker) -> None:
    walker.page.get_by_role("region", name="In the log").get_by_role("link").first.click()
    walker.see("Call finished")
    walker.follow("Call finished")
    walker.page.get_by_role("link", name="Show prompt and response").click()
    walker.page.get_by_text("Say in one sentence why nights are quiet.").first.wait_for()
    walker.page.get_by_text("X-Request-Id").first.wait_for()
    walker.is_sound()
    walker.page.goto(walker.page.url.split("/audit/")[0] + "/flows/")


def builds_a_flow(walker: Walker) -> None:
    walker.follow("Create the first flow")
    walker.fill("Name", "Night report")
    walker.press("Tool")
    walker.press("Combine")
    walker.press("Up stage 2")
    walker.fill("Stage name", "limits", stage=1)
    walker.choose("Persona", "Night Writer", stage=1)
    walker.choose("Tool", "get_current_key", stage=1)
    walker.fill("Stage name", "note", stage=2)
    walker.choose("Persona", "Night Writer", stage=2)
    walker.fill("Text", "Write about {{ stage.limit.output }}", stage=2)
    walker.fill("Stage name", "report", stage=3)
    walker.fill("Text", "# Night report\n\n{{ stage.note.output }}", stage=3)
    walker.press("Publish")
    walker.see(re.compile("stage.limit.output }} is not known"))
    walker.is_sound()
    walker.fill("Text", "Write about {{ stage.limits.output }}", stage=2)
    walker.press("Publish")
    walker.see("None. It runs when somebody starts it.")


def schedules_it(walker: Walker) -> None:
    walker.follow("Schedule")
    walker.fill("Cron rule", "* * * * *")
    if walker.scripts:
        walker.see("Every minute")  # the preview, before anything is saved
        walker.is_sound()
    walker.press("Set schedule")
    walker.see("Every minute")
    assert walker.page.get_by_role("region", name="Next times").get_by_role("listitem").count() == 6
    walker.page.get_by_role("navigation", name="Breadcrumb").get_by_role("link", name="Night report").click()


def watches_a_run(walker: Walker) -> None:
    walker.press("Run now")
    if walker.scripts:
        walker.page.evaluate("window.stayed = true")
    walker.see(re.compile("Stage [123] of 3"))
    walker.wait_for("3 of 3 stages done")
    if walker.scripts:
        assert walker.page.evaluate("window.stayed"), "the page was loaded again"
    assert walker.page.locator("#output h1, #output h2, #output h3").first.inner_text() == "Night report"
    walker.is_sound()


def revokes_the_key(walker: Walker) -> None:
    walker.menu("Integrations")
    walker.follow("OpenRouter main account")
    walker.follow("Revoke")
    walker.see(re.compile("1 persona loses"))
    walker.is_sound()
    walker.press("Revoke OpenRouter main account")
    walker.see("Revoked")


def sees_the_next_run_fail(walker: Walker) -> None:
    walker.menu("Flows")
    walker.follow("Night report")
    walker.press("Run now")
    walker.wait_for("Failed")
    walker.see("Night Writer has no connection to OpenRouter. Enable one on the persona's page.")
    walker.is_sound()
    walker.menu("Flows")
    walker.follow("Night report")
    walker.follow("Every minute")
    walker.follow("Pause")
    walker.press("Pause")
    walker.see(re.compile("Switched off"))
