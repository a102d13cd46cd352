"""Hostile answers in a real chat under the real content policy: nothing runs, loads, leads away or takes a name."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Request, expect

from bench.installation import Installation
from definable.middleware import CSP
from personas.chat.reading import SHOWN
from tests.browser.talking import SECONDS, Talker, slowly
from tests.browser.watch import blocked
from tests.hostile_outputs import GROUPS

PERSON = "target@demo.example"
ROOM = SHOWN // 2  # answers: as many as a page of a chat shows with what they answer
# The same words as a title, as what a member said, as what a model thought, and as its answer.
PREPARE = f"""
import json
from django.core.management import call_command
from django.db import transaction
from accounts.models import Membership, Team, User
from tests.hostile_outputs import hostile_outputs
from tests.personas.chat.builders import make_answer, make_chat, make_message
team, user = Team.objects.get(is_demo=True), User.objects.create_user(email="{PERSON}", name="Target")
Membership.objects.create(team=team, user=user, role="member")
texts, rooms = hostile_outputs(), []
with transaction.atomic():
    for start in range(0, len(texts), {ROOM}):
        title = texts[start][:100].replace(chr(0), "")
        chat, last = make_chat(team, user=user, persona=team.personas.get(slug="brief-writer"), title=title), None
        for text in texts[start : start + {ROOM}]:
            last = make_answer(make_message(chat, text[:2000], parent=last), text, reasoning=text[:2000])
        rooms.append(str(chat.pk))
print(json.dumps([len(texts), rooms]))
call_command("sign_in_link", email="{PERSON}")
"""
INERT = (Path(__file__).parent / "inert.js").read_text()
HALF = "Half of it was said."
# Together no longer than an answer of that persona may be.
GROWS = "\n\n".join([*GROUPS["frames of a stream"][:4], *GROUPS["orders to htmx"][15:20], HALF, *GROUPS["tables"][:2]])
BAD = '<a href="/logout/" onclick="alert(1)">x</a><img src="https://evil.example/p.png" id="main" onerror="alert(1)">'
SOON = 5_000  # ms
# Asked by the page itself: what a browser driver polls it evaluates, and the policy forbids that.
HEARD = """(most) => new Promise((done) => {
  const end = performance.now() + most;
  const enough = () => blocked.length >= 3 && strange.length >= 2;
  const look = () => (enough() || performance.now() > end ? done(blocked) : setTimeout(look, 50));
  look();
})"""


class Listener:
    """Hears all that a page does beside showing itself."""

    def __init__(self, page: Page, place: Installation) -> None:
        self.page, self.url, self.heard = page, place.url, []
        page.add_init_script(INERT)
        page.on("dialog", lambda dialog: (self.heard.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("popup", lambda popup: self.heard.append(f"popup: {popup.url}"))
        page.on("pageerror", lambda error: self.heard.append(f"error: {error}"))
        page.context.on("request", self._request)

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        allowed = ("/static/", "/t/demo-team/chat/", "/stream/t/demo-team/chats/", "/sign-in-link/", "/favicon.ico")
        if f"{parts.scheme}://{parts.netloc}" != self.url or not parts.path.startswith(allowed):
            self.heard.append(f"request: {request.method} {request.url[:200]}")

    def faults(self) -> list[str]:
        """What went wrong since the page was opened; and that its own scripts live is part of it."""
        strange, taken = self.page.evaluate("[strange, taken()]")
        heard, self.heard = self.heard, []
        return [*heard, *blocked(self.page), *strange, *(f"taken: {name}" for name in taken)]


@pytest.mark.requirement("LLM-3")
def test_hostile_answers_do_nothing_in_a_chat(place: Installation, open_page: Callable[..., Page]):
    *_, found, link = place.manage("shell", "-v", "0", "-c", PREPARE).splitlines()
    count, rooms = json.loads(found)
    page = open_page(link)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/personas/")
    listener = Listener(page, place)
    assert sum(shows_a_room(listener, room) for room in rooms) == count
    sees_them_stream(listener, place)
    notices_what_is_not_inert(listener)


def shows_a_room(listener: Listener, room: str) -> int:
    """Open one and return how many answers stand in it."""
    opened = listener.page.goto(f"/t/demo-team/chat/{room}/")
    assert (opened.status, opened.headers["content-security-policy"]) == (200, CSP)
    assert listener.faults() == []
    assert urlsplit(listener.page.url).path == f"/t/demo-team/chat/{room}/"
    return listener.page.locator(".answer .prose").count()


def sees_them_stream(listener: Listener, place: Installation) -> None:
    talker = Talker(listener.page)
    listener.page.goto("/t/demo-team/chat/new/?persona=brief-writer")
    listener.page.get_by_label("Message to").fill(f"Reply with exactly: {GROWS}")
    with slowly(place, 0.1):
        listener.page.keyboard.press("Enter")
        expect(talker.prose).to_contain_text(HALF, timeout=SECONDS * 1000)
        listener.page.keyboard.press("Escape")
    talker.sees_the_end()
    assert listener.page.evaluate("streamed")
    assert listener.faults() == []


def notices_what_is_not_inert(listener: Listener) -> None:
    """The listener itself is no wall: the policy is, and it is told of."""
    listener.page.reload()  # so that no last piece of an answer takes the place of what is put there
    listener.page.evaluate("(bad) => { document.querySelector('.prose').innerHTML = bad; }", BAD)
    listener.page.evaluate(HEARD, SOON)
    faults = listener.faults()
    assert not any(fault.startswith("dialog") for fault in faults)
    assert {"taken: main"} < set(faults), faults
