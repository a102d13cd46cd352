"""
Whole conversations by keyboard, with all that can come between: reloads, further tabs, no network, a person to ask.

The first is with a persona that calls a tool; the second in the other format, over two models, with a picture, and
shared. The third does without scripts.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Locator, expect

from bench.installation import Installation
from tests.browser.line import Line
from tests.browser.talking import HEAR, SECONDS, TOOL, Talker, asking, slowly
from tests.browser.watch import blocked, violations

BEGINS, ENDS = "Brief Writer is answering.", "Brief Writer has answered."
BILLED = re.compile(r"Billed: \$0\.\d+ and \d+ platform credit|being looked up")
CLIPBOARD = ["clipboard-read", "clipboard-write"]
READER = "reader@demo.example"
# Somebody else in the team, and a persona that is spoken to in the other format, by the product's own actions.
PREPARE = f"""
from django.core.management import call_command
from accounts.models import Membership, Team, User
from integrations.actions import enable_for
from personas.actions import create_persona
team = Team.objects.get(is_demo=True)
owner = team.memberships.get(role="owner").user
Membership.objects.create(team=team, user=User.objects.create_user(email="{READER}", name="Reader"), role="member")
chain = ["anthropic/claude-sonnet-4.6", "anthropic/claude-haiku-4.5"]
writer = create_persona(team=team, name="Letter Writer", purpose="", by=owner, chain=chain, format="messages")
main = team.connections.get(label="OpenRouter main account")
enable_for(connection=main, persona_id=writer.pk, tools=["create_message"], by=owner)
call_command("sign_in_link", email="{READER}")
"""
UNDER_WAY = "SELECT count(*) FROM personas_run WHERE chat_id = %s AND finished_at IS NULL"


@pytest.fixture
def open_context(new_context: Callable[..., BrowserContext]):
    """Open a browser with somebody in it, who may have several tabs."""
    opened: list[BrowserContext] = []

    def open_(**options) -> BrowserContext:
        opened.append(new_context(viewport={"width": 1280, "height": 844}, **options))
        opened[-1].add_init_script(HEAR)
        return opened[-1]

    yield open_
    for context in opened:
        context.close()


@pytest.fixture
def line(place: Installation) -> Iterator[Line]:
    opened = Line(place.url)
    yield opened
    opened.close()


# --- with a tool ------------------------------------------------------------------------


def test_a_conversation_with_a_tool_goes_on_wherever_it_is_followed_from(place, open_context, signed_in):
    context = open_context(storage_state=signed_in, permissions=CLIPBOARD)
    talker, other = Talker(context.new_page()), Talker(context.new_page())
    is_followed_through_a_reload_and_from_a_second_tab_until_it_is_stopped(talker, other, place)
    room = allows_a_tool_and_leaves(talker, place)
    learns_of_it_in_the_second_tab(other)
    talker = Talker(context.new_page())
    comes_back_to_a_whole_answer(talker, room)
    opens_the_card_and_copies(talker)
    edits(talker)
    asks_again_and_goes_back(talker)
    assert talker.faults() == []


def is_followed_through_a_reload_and_from_a_second_tab_until_it_is_stopped(
    talker: Talker, other: Talker, place: Installation
) -> None:
    """The answer takes a minute if nobody stops it, so a slow machine has time for all that is done meanwhile."""
    talker.begin("Brief Writer")
    with slowly(place):
        talker.say("Write a long note about the harbour.", "Use five paragraphs.")
        talker.hears(BEGINS)
        expect(talker.main.locator(".bubble").last).to_have_text(re.compile("harbour.\nUse five"))
        before = talker.sees_growth()
        assert violations(talker.page) == []
        talker.page.reload()
        assert talker.prose.inner_text().startswith(before[:20])
        other.page.goto(talker.page.url)
        other.sees_growth()
        talker.sees_growth()
        assert talker.page.evaluate("heard") in ([], [BEGINS])
        talker.page.keyboard.press("Escape")
        talker.sees("Stopped.")
    talker.hears("The answer was stopped.")
    other.hears("The answer was stopped.")
    assert talker.prose.inner_text().startswith(before[:20])
    talker.sees(BILLED)


def allows_a_tool_and_leaves(talker: Talker, place: Installation) -> str:
    """Allow a call and close the page. Returns the address of the chat."""
    with asking(place):
        talker.page.get_by_label("Message to").focus()
        with slowly(place):  # a page that opens on a question says nothing
            talker.say(f"Call {TOOL} and tell me about it.")
            talker.hears("Brief Writer asks for your approval.")
        talker.sees("Waiting for approval")
        assert violations(talker.page) == []
        talker.press("Allow once")
        talker.page.get_by_text("Call allowed once").wait_for()
    room = room_of(talker)
    talker.page.close()
    return room


def room_of(talker: Talker) -> str:
    return re.match(r"[^?#]+", talker.page.url)[0]


def learns_of_it_in_the_second_tab(other: Talker) -> None:
    other.hears("This chat went on in another tab.")
    other.follow("Show it")
    expect(other.main.locator(".bubble")).to_have_count(2)
    other.page.close()


def comes_back_to_a_whole_answer(talker: Talker, room: str) -> None:
    """An answer is finished, billed and logged, whether anybody looks or not."""
    talker.page.goto(room)
    talker.sees_the_end()
    figures = talker.answer.locator(".took").inner_text()
    assert re.search(r"via \w+", figures)
    assert re.search(r"\d+ tokens in, \d+ out", figures)
    assert re.search(r"\$0\.\d+", figures)
    assert re.search(r"\d+ platform credit", figures)
    assert set(talker.page.evaluate("heard")) <= {BEGINS, ENDS}


def opens_the_card_and_copies(talker: Talker) -> None:
    card = talker.answer.locator("details.tool")
    expect(card).to_contain_text("Done")
    talker.strike(card.locator("summary"))
    expect(card.get_by_role("heading", name="Given")).to_be_visible(timeout=SECONDS * 1000)
    expect(card.get_by_role("heading", name="Attempts")).to_be_visible()
    assert violations(talker.page) == []
    talker.press("Copy")
    talker.page.get_by_text("Copied").wait_for()
    copied = talker.page.evaluate("navigator.clipboard.readText()")
    assert copied.strip().endswith(talker.prose.inner_text().strip()[-20:])


def edits(talker: Talker) -> None:
    """Say the first thing otherwise; what was said before stays beside it."""
    talker.strike(talker.main.get_by_role("link", name="Edit", exact=True).first)
    expect(talker.page.get_by_label("Your message")).to_be_focused()
    talker.page.keyboard.press("Control+A")
    talker.page.keyboard.insert_text("Reply with exactly: Short.")
    talker.press("Send instead")
    expect(talker.main.locator(".mine .siblings")).to_contain_text("2 of 2")
    talker.sees_the_end()
    expect(talker.prose).to_have_text("Short.")


def asks_again_and_goes_back(talker: Talker) -> None:
    talker.press("Try again")
    beside = talker.answer.locator(".siblings")
    expect(beside).to_contain_text("2 of 2")
    talker.sees_the_end()
    talker.follow("Previous")
    expect(beside).to_contain_text("1 of 2")
    talker.follow("Branch")
    writes = talker.page.get_by_label("Message to")
    expect(writes).to_be_focused()
    talker.follow("Branch")  # leads to where one is
    expect(writes).to_be_focused()


# --- in the other format, over two models -----------------------------------------------


def test_a_conversation_over_two_models_is_shared_and_survives_a_lost_network(place, line, open_context, signed_in):
    link = place.manage("shell", "-v", "0", "-c", PREPARE).split()[-1]
    talker = Talker(open_context(storage_state=signed_in, base_url=line.url).new_page())
    compares_two_models_over_a_picture(talker)
    loses_the_network(talker, line, place)
    is_read_by_a_colleague(talker, Talker(open_context().new_page()), link)
    assert blocked(talker.page) == []


def compares_two_models_over_a_picture(talker: Talker) -> None:
    talker.begin("Letter Writer")
    talker.strike(talker.main.locator("summary", has_text="Files and models"))
    field(talker, "Files").set_input_files({"name": "red.png", "mimeType": "image/png", "buffer": png()})
    for label, model in (("Model", "anthropic/claude-sonnet-4.6"), ("Compare with", "anthropic/claude-haiku-4.5")):
        field(talker, label).focus()
        talker.page.keyboard.type(model)
    expect(talker.page.locator("#takes")).to_have_text(re.compile(r"^\s*Both answers together"), use_inner_text=True)
    talker.page.get_by_label("Message to").focus()
    talker.say("Reply with exactly: A red square.")
    beside = talker.main.locator(".compared .answer")
    expect(beside).to_have_count(2)
    for number in (0, 1):
        beside.nth(number).locator(".took").wait_for(timeout=SECONDS * 1000)
        tokens = re.search(r"([\d,]+) tokens in", beside.nth(number).inner_text())
        assert int(tokens[1].replace(",", "")) > 258, "the picture was not sent"
    assert violations(talker.page) == []
    shown = talker.page.request.get(talker.main.get_by_role("link", name="red.png").get_attribute("href"))
    assert (shown.headers["content-type"], shown.body()) == ("image/png", png())
    talker.strike(talker.main.get_by_role("link", name="Use this one").first)


def field(talker: Talker, label: str) -> Locator:
    return talker.main.get_by_label(re.compile(f"^{label}( optional)?$"))


def loses_the_network(talker: Talker, line: Line, place: Installation) -> None:
    """What is said while the network is away is there when it is back, without a reload."""
    with slowly(place, 0.3, "/messages"):
        talker.say("Reply with exactly: " + " ".join(f"wave{number}" for number in range(24)))
        talker.sees_growth()
        talker.page.evaluate("window.stayed = true")
        line.cut()
    before = talker.prose.inner_text()
    wait_for_its_end(talker, place)
    assert "wave23" not in talker.prose.inner_text(), "the network was not away"
    line.mend()
    assert talker.sees_the_end().startswith(before[:20])
    expect(talker.prose).to_contain_text("wave23")
    assert talker.page.evaluate("window.stayed"), "the page was loaded again"
    assert talker.page.evaluate("heard") == ["Letter Writer is answering.", "Letter Writer has answered."]


def wait_for_its_end(talker: Talker, place: Installation) -> None:
    chat_id = re.search(r"/chat/([0-9a-f-]{36})/", talker.page.url)[1]
    with place.database() as database:
        for _ in range(10 * SECONDS):
            if not database.execute(UNDER_WAY, [chat_id]).fetchone()[0]:
                return
            talker.page.wait_for_timeout(100)
    pytest.fail("The answer did not end.")


def is_read_by_a_colleague(talker: Talker, reader: Talker, link: str) -> None:
    talker.open_menu()
    talker.press("Share with the team")
    talker.page.get_by_text("Shared with the team").first.wait_for()
    reader.page.goto(link)
    reader.strike(reader.page.get_by_role("button", name="Sign in"))
    reader.page.wait_for_url("**/personas/")
    reader.page.goto("/t/demo-team/chat/?which=shared")
    reader.strike(reader.main.locator(".rows-a").first)
    reader.sees("You read it; start one of your own to ask something.")
    assert reader.prose.inner_text() == talker.prose.inner_text()
    ways = reader.main.get_by_role("button").or_(reader.main.get_by_role("link"))
    assert not {"Send", "Edit", "Try again", "Stop", "Stop sharing"} & {way.strip() for way in ways.all_inner_texts()}
    assert (violations(reader.page), blocked(reader.page)) == ([], [])
    talker.open_menu()
    talker.press("Stop sharing")
    expect(talker.page.get_by_text("Nobody else can read this chat any more")).to_be_visible()
    assert reader.page.reload().status == 404


def png() -> bytes:
    """A red picture of 8 by 8."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\xff\0\0" * 8) * 8
    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- without scripts --------------------------------------------------------------------


def test_without_scripts_a_message_is_sent_and_read_after_a_reload(place, open_page, signed_in):
    page = open_page("/t/demo-team/chat/new/?persona=brief-writer", storage_state=signed_in, java_script_enabled=False)
    with slowly(place, 1.0):
        page.get_by_label("Message to").fill("Reply with exactly: Plain.")
        page.get_by_role("button", name="Send").click()
        again, said = page.get_by_role("link", name="Reload"), page.locator(".answer .prose")
        expect(again).to_be_visible()
    for _ in range(4 * SECONDS):
        if not again.count():
            break
        page.wait_for_timeout(250)
        again.click()
    expect(said.last).to_have_text("Plain.")
