"""A flow that must ask first, from the question to the answer, with scripts and without."""

import pytest

from tests.browser.asking import asking_first, run_until_it_asks
from tests.browser.watch import blocked, violations


@pytest.mark.requirement("LLM-8")
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "plain"])
def test_a_flow_waits_for_a_person_and_goes_on_when_they_allow_it(lived_in, open_page, signed_in, scripts):
    page = open_page(storage_state=signed_in, java_script_enabled=scripts)
    with asking_first(lived_in):
        run_until_it_asks(page)
        run = page.url
        page.get_by_role("link", name="See what it asks").click()
        page.get_by_role("heading", name="Second Reader asks for create_chat_completion").wait_for()
        question = page.url
        if scripts:
            assert (violations(page), blocked(page)) == ([], [])

        page.get_by_role("button", name="Allow once").click()

        page.get_by_text("allowed this call.").wait_for()
        assert page.url == question
        page.goto(run)
        for _ in range(120):
            if page.get_by_role("main").get_by_text("Succeeded").count() > 2:
                break
            page.wait_for_timeout(250)
            page.reload()
    page.goto(question)
    page.get_by_text("Allowed and called").wait_for()


def test_a_second_tab_is_told_who_was_first(lived_in, open_page, signed_in):
    first, second = (open_page(storage_state=signed_in) for _ in range(2))
    with asking_first(lived_in):
        run_until_it_asks(first)
        first.get_by_role("link", name="See what it asks").click()
        first.get_by_role("button", name="Refuse").wait_for()
        second.goto(first.url)
        second.get_by_role("button", name="Allow once").wait_for()

        first.get_by_role("button", name="Refuse").click()
        first.get_by_text("refused this call").first.wait_for()
        second.get_by_role("button", name="Allow once").click()

        second.get_by_text("refused this call").first.wait_for()
        assert second.get_by_role("button", name="Allow once").count() == 0
