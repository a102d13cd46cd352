"""What a page weighs for somebody who comes for the first time, in compressed bytes and requests."""

import gzip
from collections import Counter

import pytest
from playwright.sync_api import Request

from tests.browser.addresses import SIGNED_OUT, address, pages
from tests.routes import Route

KB = 1024
MOST = {"document": 30 * KB, "stylesheet": 10 * KB, "script": 25 * KB, "font": 52 * KB}
MOST_REQUESTS = 9


def weigh(request: Request) -> int:
    """The bytes of an answer's body as they travel; a proxy compresses pages, which the web process does not."""
    if request.resource_type == "document":
        return len(gzip.compress(request.response().body(), 6))
    return request.sizes()["responseBodySize"]


@pytest.mark.parametrize("route", pages(), ids=str)
def test_a_page_is_light(lived_in, open_page, signed_in, route: Route):
    page = open_page(storage_state=None if route.name in SIGNED_OUT else signed_in)
    asked: list[Request] = []
    page.on("requestfinished", lambda request: asked.append(request))
    page.goto(address(lived_in, route), wait_until="load")
    page.evaluate("document.fonts.ready.then(() => true)")

    answered = [request for request in asked if request.response().status < 300]
    bytes_of = Counter()
    for request in answered:
        bytes_of[request.resource_type] += weigh(request)
    assert {kind: size for kind, size in bytes_of.items() if size > MOST.get(kind, 4 * KB)} == {}
    assert {request.url for request in asked if not request.url.startswith((lived_in.url, "data:"))} == set()
    assert len(asked) <= MOST_REQUESTS, [request.url for request in asked]
