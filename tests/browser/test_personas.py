"""Personas in a real browser: nothing typed is lost, two tabs do not overwrite each other, a file goes round."""

import json
import re
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

PERSONAS = "/t/demo-team/personas/"


@pytest.fixture
def watch(lived_in, open_page, signed_in) -> Page:
    """The page of a persona made from a template, with its tools lent."""
    page = open_page(f"{PERSONAS}new/credit-watch/", storage_state=signed_in)
    name = f"Watch {uuid4().hex[:8]}"
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Lend OpenRouter main account").check()
    page.get_by_role("button", name="Create persona").click()
    page.get_by_role("heading", name=name).wait_for()
    return page


def edit(page: Page) -> None:
    page.get_by_role("link", name="Edit", exact=True).click()
    page.get_by_role("button", name="Save draft").wait_for()


def instructions(page: Page) -> str:
    return page.get_by_label("Instructions").input_value()


def test_the_tools_of_a_template_are_lent_with_it(watch):
    assert watch.get_by_text("3 of 13 tools").count() == 1
    assert watch.get_by_text("not lent yet").count() == 0


def test_leaving_with_unsaved_changes_asks_first(watch):
    asked: list[str] = []
    watch.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    edit(watch)
    watch.get_by_label("Purpose").fill("Half typed")
    watch.get_by_role("link", name="Cancel").click()
    watch.wait_for_timeout(200)
    assert asked == ["beforeunload"]
    assert watch.get_by_label("Purpose").input_value() == "Half typed"


def test_two_tabs_do_not_overwrite_each_other(watch):
    edit(watch)
    other = watch.context.new_page()
    other.goto(watch.url)
    other.get_by_label("Instructions").fill("From the other tab.")
    other.get_by_role("button", name="Save draft").click()
    other.get_by_text("Draft saved as version 2").wait_for()

    watch.get_by_label("Instructions").fill("From this tab.")
    watch.get_by_role("button", name="Save draft").click()
    watch.get_by_role("heading", name="Version 2 was saved meanwhile").wait_for()
    assert watch.evaluate("document.activeElement.id") == "errors"
    assert instructions(watch) == "From this tab."
    watch.get_by_role("button", name="Save draft").click()
    watch.get_by_text("Draft saved as version 3").wait_for()


def test_what_changed_is_marked_by_word_and_published_by_one_button(watch):
    edit(watch)
    watch.get_by_label("Instructions").fill(instructions(watch).replace("never guess an amount", "always check it"))
    watch.get_by_role("button", name="Save draft").click()
    watch.get_by_role("heading", name="From version 1 to 2").wait_for()
    assert "never guess an amount" in watch.locator(".diff del").all_inner_texts()[0]
    watch.get_by_role("button", name="Publish version 2").click()
    watch.get_by_text("Version 2 published").wait_for()
    assert watch.get_by_text("is not in use").count() == 0


def test_a_persona_goes_out_as_a_file_and_comes_back_as_a_draft(watch, tmp_path: Path):
    with watch.expect_download() as download:
        watch.get_by_role("button", name="Export").click()
    file = json.loads(download.value.path().read_text())
    file |= {"origin": str(uuid4()), "name": f"Guest {uuid4().hex[:8]}"}
    path = tmp_path / "guest.json"
    path.write_text(json.dumps(file))

    watch.goto(f"{PERSONAS}new/import/")
    watch.get_by_label("File", exact=True).set_input_files(path)
    expect(watch.locator("#id_text")).not_to_have_value(re.compile(r"^.{0,100}$", re.DOTALL))
    watch.get_by_role("button", name="Import as draft").click()
    watch.get_by_text("Imported as draft 1").wait_for()
    assert watch.get_by_text("3 tools it was made for are not lent yet.").count() == 1
