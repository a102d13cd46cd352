"""
Every page of the product, as the demo team has it: light, accessible, within its window, obedient to its policy.

Each is visited once, by somebody who comes for the first time; what it weighs is in compressed bytes and requests.
"""

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Page, Request, Response

from tests.browser.addresses import SIGNED_OUT, address, pages
from tests.browser.watch import blocked, overflow, violations
from tests.routes import Route

HEIGHT = 900
TITLE = re.compile(r"^[^·]+( · [^·]+)? · Definable$")
# A theme changes colours alone, so in the dark only those are looked at again.
LOOKS = [(width, scheme, rule) for width in (1440, 390) for scheme, rule in (("light", ""), ("dark", "color-contrast"))]
WIDTHS = (320, 390, 768, 1440)
KB = 1024
MOST = {"document": 30 * KB, "stylesheet": 10 * KB, "script": 25 * KB, "font": 52 * KB}
MOST_REQUESTS = 9


@dataclass
class Visit:
    """A page that was opened, what its console said, and what it asked for."""

    page: Page
    answer: Response | None = None
    said: list[str] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)


@pytest.fixture(scope="module", params=pages(), ids=str)
def visit(request, lived_in, new_context, signed_in) -> Iterator[Visit]:
    route: Route = request.param
    context = new_context(storage_state=None if route.name in SIGNED_OUT else signed_in)
    visit = Visit(context.new_page())
    visit.page.on("console", lambda message: visit.said.append(message.text))
    visit.page.on("requestfinished", lambda request: visit.asked.append(request))
    visit.answer = visit.page.goto(address(lived_in, route), wait_until="load")
    visit.page.evaluate("document.fonts.ready.then(() => true)")
    yield visit
    context.close()


def test_a_page_is_light(place, visit):
    asked = list(visit.asked)
    bytes_of = Counter()
    for request in asked:
        if request.response().status < 300:
            bytes_of[request.resource_type] += weigh(request)
    assert {kind: size for kind, size in bytes_of.items() if size > MOST.get(kind, 4 * KB)} == {}
    assert {request.url for request in asked if not request.url.startswith((place.url, "data:"))} == set()
    assert len(asked) <= MOST_REQUESTS, [request.url for request in asked]


def weigh(request: Request) -> int:
    """The bytes of an answer's body as they travel; a proxy compresses pages, which the web process does not."""
    if request.resource_type == "document":
        return len(gzip.compress(request.response().body(), 6))
    return request.sizes()["responseBodySize"]


@pytest.mark.requirement("HDR-3")
def test_a_page_is_sound(visit):
    page = visit.page
    assert visit.answer.status in (200, 410), page.url
    assert (page.locator("h1").count(), page.locator("main").count()) == (1, 1)
    assert TITLE.match(page.title()), page.title()
    assert blocked(page) == []
    assert [line for line in visit.said if "status of 410" not in line] == []
    assert {width: _overflow(page, width) for width in WIDTHS} == dict.fromkeys(WIDTHS, 0)
    assert [found for look in LOOKS for found in _violations(page, *look)] == []


def _overflow(page: Page, width: int) -> int:
    page.set_viewport_size({"width": width, "height": HEIGHT})
    return overflow(page)


def _violations(page: Page, width: int, scheme: str, rule: str) -> list[str]:
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.emulate_media(color_scheme=scheme)
    return [f"{width} {scheme}: {found}" for found in violations(page, only=rule)]
