"""
A real browser, and a whole Definable with its demo team for it to walk through.

Both end with these tests: what still runs would slow the others, and Playwright keeps an event loop.
"""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from bench.chaos import FIRST_MODEL
from bench.chromium import chromium
from bench.installation import Installation
from tests.browser.asking import asking_first, run_until_it_asks
from tests.browser.chatting import talk_once
from tests.browser.limiting import set_cap
from tests.browser.watch import WATCH
from tests.receiver import Receiver, receiving

# Without motion: axe must not meet colours that are half way to another theme.
LOOK = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce"}
SECONDS = 30  # for whatever a test waits for, on a busy machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.nodeid:
            item.add_marker("browser")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="package")
def receiver() -> Iterator[Receiver]:
    """Somebody who takes deliveries, at an address that the installation may reach."""
    with receiving() as found:
        yield found


@pytest.fixture(scope="package")
def place(receiver) -> Iterator[Installation]:
    """A running installation: web, worker, control, beat, sandbox, and servers of its own."""
    running = Installation(WORKER_THREADS="8", DB_POOL="8", OUTGOING_ALSO_TO=receiver.origin)
    yield running
    running.stop()


@pytest.fixture(scope="package")
def signed_in(place, browser) -> dict:
    """What a browser keeps after the demo owner came in by a one-time link."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(place.first_link)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/personas/")
    kept = context.storage_state()
    context.close()
    return kept


@pytest.fixture(scope="package")
def lived_in(place, browser, signed_in) -> Installation:
    """The installation with runs of the demo team: one on a fallback, one that waits for a person; and with a chat."""
    place.rules({"match": {"model": FIRST_MODEL}, "answer": {"kind": "status", "status": 429, "times": 1}})
    context = browser.new_context(base_url=place.url, storage_state=signed_in)
    page = context.new_page()
    for flow in ("second-opinion", "minute-brief"):
        page.goto(f"/t/demo-team/flows/{flow}/")
        page.get_by_role("button", name="Run now").click()
        page.get_by_role("main").get_by_text("Succeeded").first.wait_for()
    with asking_first(place):
        run_until_it_asks(page)
    talk_once(page)
    set_cap(page, who="Each run", dollars="5", period="in all")
    context.close()
    place.rules()
    return place


@pytest.fixture(scope="package")
def new_context(browser, place) -> Callable[..., BrowserContext]:
    """Give a browser that has nothing of us yet; whoever asks closes it."""

    def new(**options) -> BrowserContext:
        context = browser.new_context(**{"base_url": place.url} | LOOK | options)
        context.set_default_timeout(SECONDS * 1000)
        context.add_init_script(WATCH)
        return context

    return new


@pytest.fixture
def open_page(new_context) -> Iterator[Callable[..., Page]]:
    """Open a page in a browser of its own: `open_page("/account/", storage_state=signed_in)`."""
    opened: list[BrowserContext] = []

    def open_(address: str = "", **options) -> Page:
        context = new_context(**options)
        opened.append(context)
        page = context.new_page()
        if address:
            page.goto(address)
        return page

    yield open_
    for context in opened:
        context.close()
