"""How a page follows an answer when something is late or refused."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.talking import SECONDS, Talker, slowly
from tests.browser.watch import blocked

NEW = "/t/demo-team/chat/new/?persona=brief-writer"
# Two frames and the tasks between them: htmx, if nothing held it, has been through the page by then.
A_WHILE = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0, true))))"


@pytest.fixture
def talker(place, open_page: Callable[..., Page], signed_in) -> Talker:
    return Talker(open_page(NEW, storage_state=signed_in))


def test_a_page_follows_its_answer_when_the_script_that_streams_arrives_after_htmx(place, talker: Talker):
    late: list[Route] = []
    talker.page.route("**/hx-sse*.js", lambda route: late.append(route))
    with slowly(place):
        talker.say("Write a long note about the harbour.")
        talker.page.wait_for_url("**/chat/*-*/*", wait_until="commit")
        for _ in range(20 * SECONDS):
            if talker.page.evaluate("'htmx' in window"):
                break
            talker.page.wait_for_timeout(50)
        talker.page.evaluate(A_WHILE)
        assert talker.page.evaluate("document.readyState") == "interactive"
        for script in late:
            script.continue_()
        talker.sees_growth()
        talker.page.keyboard.press("Escape")
        talker.sees("Stopped.")
    assert (len(late), blocked(talker.page)) == (1, [])


def test_a_page_that_is_refused_a_stream_asks_for_its_answer_until_it_is_whole(place, talker: Talker):
    refused, asked = [], []
    talker.page.route("**/stream/**", lambda route: (refused.append(1), route.fulfill(status=429)))
    talker.page.on("request", lambda request: asked.append(request.url) if "/_answer/" in request.url else None)
    with slowly(place, 1.0):
        talker.say("Reply with exactly: The page asked for this.")
        talker.hears("Brief Writer is answering.")
        talker.page.evaluate("window.stayed = true")
    talker.sees_the_end()
    talker.hears("Brief Writer has answered.")
    expect(talker.prose).to_have_text("The page asked for this.", timeout=SECONDS * 1000)
    assert refused
    assert asked
    assert talker.page.evaluate("window.stayed"), "the page was loaded again"
    assert blocked(talker.page) == []
