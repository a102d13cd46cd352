"""Every page of the product, as the demo team has it: accessible, within its window, obedient to its policy."""

import re

import pytest
from playwright.sync_api import Page

from tests.browser.addresses import SIGNED_OUT, address, pages
from tests.browser.watch import blocked, overflow, violations
from tests.routes import Route

HEIGHT = 900
TITLE = re.compile(r"^[^·]+( · [^·]+)? · Definable$")
# A theme changes colours alone, so in the dark only those are looked at again.
LOOKS = [(width, scheme, rule) for width in (1440, 390) for scheme, rule in (("light", ""), ("dark", "color-contrast"))]
WIDTHS = (320, 390, 768, 1440)


@pytest.mark.requirement("HDR-3")
@pytest.mark.parametrize("route", pages(), ids=str)
def test_a_page_is_sound(lived_in, open_page, signed_in, route: Route):
    page = open_page(storage_state=None if route.name in SIGNED_OUT else signed_in)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    answer = page.goto(address(lived_in, route))

    assert answer.status in (200, 410), page.url
    assert (page.locator("h1").count(), page.locator("main").count()) == (1, 1)
    assert TITLE.match(page.title()), page.title()
    assert blocked(page) == []
    assert [line for line in said if "status of 410" not in line] == []
    assert {width: _overflow(page, width) for width in WIDTHS} == dict.fromkeys(WIDTHS, 0)
    assert [found for look in LOOKS for found in _violations(page, *look)] == []


def _overflow(page: Page, width: int) -> int:
    page.set_viewport_size({"width": width, "height": HEIGHT})
    return overflow(page)


def _violations(page: Page, width: int, scheme: str, rule: str) -> list[str]:
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.emulate_media(color_scheme=scheme)
    return [f"{width} {scheme}: {found}" for found in violations(page, only=rule)]
