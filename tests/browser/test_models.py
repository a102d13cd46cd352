"""Somebody looks through the models: by mouse, by keyboard, without JavaScript, on a phone."""

import re

from playwright.sync_api import Page, expect

MODELS = "/t/demo-team/models/"
DOLLARS = re.compile(r"\$(\d+\.\d+)")
ORDERED = re.compile("cheapest in first")


def found(page: Page) -> list[str]:
    """The ids of the models that are shown."""
    return page.locator("#list tbody th .mono").all_inner_texts()


def first_price(page: Page) -> str:
    return DOLLARS.search(page.locator('#list tbody tr [data-label="In"]').first.inner_text())[1]


def test_the_cheapest_model_with_tools_and_200k_under_zero_retention_is_found(lived_in, open_page, signed_in):
    page = open_page(MODELS, storage_state=signed_in)
    page.get_by_label("Zero retention").check()
    page.get_by_role("checkbox", name="Tools").check()
    page.get_by_label("Context", exact=True).select_option("200000")
    page.get_by_label("Order").select_option("price_in")
    expect(page.get_by_role("status").first).to_contain_text(ORDERED)
    page.wait_for_url(re.compile("zdr=1.*sort=price_in|sort=price_in.*zdr=1"))
    answer, price, address = found(page)[0], first_price(page), page.url

    # The same by the address alone, as it would be sent to somebody, and without JavaScript.
    plain = open_page(MODELS, storage_state=signed_in, java_script_enabled=False)
    plain.get_by_label("Zero retention").check()
    plain.get_by_role("checkbox", name="Tools").check()
    plain.get_by_label("Context", exact=True).select_option("200000")
    plain.get_by_label("Order").select_option("price_in")
    plain.get_by_role("button", name="Show").click()
    assert (found(plain)[0], first_price(plain)) == (answer, price)
    plain.goto(address)
    assert found(plain) == found(page)

    # Its page says what use would cost, and takes it into a new persona.
    plain.locator("#list tbody th a").first.click()
    plain.get_by_label("Calls a day").fill("1000")
    plain.get_by_role("button", name="Work it out").click()
    expect(plain.get_by_role("main")).to_contain_text("1,000 calls")
    expect(plain.get_by_role("region", name="Endpoints", exact=True)).to_contain_text("Retains nothing")
    plain.get_by_role("link", name="Use in a persona").click()
    expect(plain.get_by_label("Model", exact=False).first).to_be_visible()
    assert plain.locator("[name=model]").input_value() == answer

    page.get_by_role("link", name="Remove Tools").click()
    expect(page.get_by_role("checkbox", name="Tools")).not_to_be_checked()
    page.go_back()
    expect(page.get_by_role("checkbox", name="Tools")).to_be_checked()


def test_words_are_found_while_somebody_types_and_nothing_found_can_be_cleared(lived_in, open_page, signed_in):
    page = open_page(MODELS, storage_state=signed_in)
    page.set_viewport_size({"width": 320, "height": 800})
    page.keyboard.press("/")
    page.keyboard.type("claude")
    expect(page.get_by_role("status").first).to_contain_text(" of ")
    assert all("claude" in name for name in found(page))
    expect(page.get_by_label("Find a model")).to_be_focused()
    page.keyboard.type(" no such model")
    expect(page.get_by_role("main")).to_contain_text("No model matches these filters")
    page.get_by_role("main").get_by_role("link", name="Clear filters").last.click()
    page.wait_for_url("**" + MODELS)
    assert len(found(page)) == 50


def side_by_side(page: Page) -> list[str]:
    """The rows of the comparison, as they are read."""
    rows = page.get_by_role("table").first.get_by_role("row").all()
    return [" ".join(row.inner_text().split()) for row in rows[1:]]


def test_models_are_picked_through_filters_and_compared_by_mouse_key_and_without_javascript(
    lived_in, open_page, signed_in
):
    page = open_page(MODELS, storage_state=signed_in)
    page.get_by_label("Find a model").fill("gpt-4o-mini")
    expect(page.get_by_role("status").first).to_contain_text(" of ")
    page.get_by_role("checkbox", name=re.compile("^Compare ")).first.check()
    page.get_by_label("Find a model").fill("claude")
    expect(page.get_by_role("group", name="Picked before")).to_be_visible()
    page.get_by_role("checkbox", name=re.compile("^Compare ")).first.focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Compare the picked models").press("Enter")
    page.wait_for_url(re.compile(r"/models/compare/\?m=[^&]*&m=[^&]*$"))
    told = side_by_side(page)
    assert any("lowest" in row for row in told)

    plain = open_page(page.url, storage_state=signed_in, java_script_enabled=False)
    plain.set_viewport_size({"width": 320, "height": 900})
    assert len(side_by_side(plain)) == len(told)
    assert plain.evaluate("document.documentElement.scrollWidth") <= 320
    plain.get_by_role("link", name="Change the selection").click()
    assert plain.locator("[name=m]:checked").count() == 2
    plain.get_by_role("checkbox", name=re.compile("^Compare ")).nth(7).check()
    plain.get_by_role("button", name="Show").click()
    assert plain.locator("[name=m]:checked").count() == 3
    plain.get_by_role("button", name="Compare the picked models").click()
    assert plain.url.count("m=") == 3
    plain.get_by_role("link", name=re.compile("^Remove ")).first.click()
    assert plain.url.count("m=") == 2
