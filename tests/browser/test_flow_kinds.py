"""A flow of every kind of stage on its run's page: it asks a person, goes through a list, says what was not done."""

import json

import pytest

from bench.installation import Installation
from tests.browser.watch import blocked, violations

READER = "SELECT id::text FROM personas_persona WHERE slug = 'second-reader'"
SET = """
UPDATE personas_flowversion SET stages = %s::jsonb
 WHERE id = (SELECT version_id FROM personas_flow WHERE slug = 'second-opinion')
RETURNING id
"""
KEPT = """
SELECT stages FROM personas_flowversion
 WHERE id = (SELECT version_id FROM personas_flow WHERE slug = 'second-opinion')
"""


def stages(reader: str) -> list[dict]:
    asks = {"kind": "prompt", "persona": reader}
    return [
        {"kind": "combine", "name": "list", "template": '["tide", "ebb", "a-very-long-word-' + "x" * 60 + '"]'},
        {"kind": "approve", "name": "check", "text": "Shall **{{ stage.list.output }}** be translated?"},
        {
            "kind": "each",
            "name": "all",
            "over": "{{ stage.list.output }}",
            "do": asks | {"template": "Reply with exactly: {{ item }}"},
        },
        {"kind": "combine", "name": "sorry", "template": "x", "when": {"stage": "all", "is": "failed"}},
        {"kind": "combine", "name": "end", "template": "{{ stage.check.output }} {{ stage.all.output }}"},
    ]


@pytest.fixture
def of_all_kinds(place) -> Installation:
    """The installation, with a flow of every kind of stage for one test."""
    with place.database() as database:
        before = database.execute(KEPT).fetchone()[0]
        reader = database.execute(READER).fetchone()[0]
        database.execute(SET, [json.dumps(stages(reader))])
    yield place
    with place.database() as database:
        database.execute(SET, [json.dumps(before)])


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "plain"])
def test_a_run_waits_for_a_member_and_shows_all_that_became_of_its_stages(of_all_kinds, open_page, signed_in, scripts):
    page = open_page(storage_state=signed_in, java_script_enabled=scripts, color_scheme="dark")
    page.set_viewport_size({"width": 320, "height": 900})
    main = page.get_by_role("main")

    def wait_for(what) -> None:
        for _ in range(120):
            if what.count():
                return
            page.wait_for_timeout(250)
            if not scripts:
                page.reload()
        what.wait_for()

    page.goto("/t/demo-team/flows/second-opinion/")
    page.get_by_role("button", name="Run now").click()
    wait_for(page.get_by_role("heading", name="Decide stage 2, check"))
    _look(page, scripts)
    page.get_by_label("Note").fill("Yes, but <b>all</b> of it")
    if scripts:  # what somebody writes stays, though the page asks for news each second
        for _ in range(2):
            with page.expect_response(lambda answer: "/_progress/" in answer.url):
                pass
        assert page.get_by_label("Note").input_value() == "Yes, but <b>all</b> of it"
    page.get_by_role("button", name="Approve").click()

    wait_for(main.get_by_text("4 of 5 stages done, 1 skipped"))
    page.get_by_role("link", name="3. all").click()
    page.get_by_text("3 of 3 items done").click()
    page.get_by_text("2. ebb").click()
    page.get_by_role("region", name="Output of item 2, scrollable").wait_for()
    _look(page, scripts)
    page.get_by_role("link", name="4. sorry").click()
    page.get_by_text("It is done only if stage all fails.").wait_for()
    page.get_by_role("link", name="5. end").click()
    main.get_by_text("Yes, but <b>all</b> of it").first.wait_for()


def _look(page, scripts: bool) -> None:
    if not scripts:
        return
    for scheme, width in (("dark", 320), ("light", 1440)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        assert (violations(page), blocked(page)) == ([], [])
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 320, "height": 900})
