import re

from playwright.sync_api import expect

from tests.browser.limiting import set_cap

MONTH = re.compile(r"This month has ([\d,]+) instead of ([\d,]+) platform credits")


def test_a_run_under_a_cap_that_is_used_up_is_refused_with_the_cap_and_what_to_do(lived_in, open_page, signed_in):
    page = open_page(storage_state=signed_in)
    set_cap(page, who="The whole team", dollars="0.0001", period="a week")
    row = page.get_by_role("row").filter(has_text="$0.0001 a week")
    expect(row).to_contain_text("The whole team")
    page.goto("/t/demo-team/flows/minute-brief/")
    page.get_by_role("button", name="Run now").click()
    main = page.get_by_role("main")
    expect(main).to_contain_text("the team's cap of $0.0001 a week")
    expect(main).to_contain_text("An owner or admin can raise it on the Limits page.")

    page.goto("/t/demo-team/limits/")
    row.get_by_role("link", name="End the cap of The whole team").click()
    page.get_by_role("button", name="End the cap").click()
    page.wait_for_url("**/limits/")
    expect(row).to_have_count(0)


def test_changing_the_plan_and_adding_a_pack_say_what_they_do_first(lived_in, open_page, signed_in):
    page = open_page("/t/demo-team/plan/", storage_state=signed_in)
    page.get_by_role("link", name="Add 10,000 platform credits").click()
    # Per seat, and other tests may have added members.
    main = page.get_by_role("main")
    expect(main).to_contain_text(MONTH)
    after, before = (int(number.replace(",", "")) for number in MONTH.search(main.inner_text()).groups())
    assert after - before == 10_000
    page.get_by_role("button", name="Add the pack").click()
    expect(page.get_by_role("main")).to_contain_text("Added: Pack of 10,000")
    page.get_by_role("link", name="Change to Starter").click()
    expect(page.get_by_role("main")).to_contain_text("so nothing that is used or held is taken away")
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("heading", name="Plan", exact=True)).to_be_visible()
