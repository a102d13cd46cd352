"""The stream of a chat under a real web process: what a page is sent, and what it is not."""

import time
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session

from accounts.models import Membership
from audit.clock import app_now
from personas.chat import live
from personas.leases import claim
from personas.models import Run, StageRun
from tests.factories import make_member, make_team, owner_of
from tests.personas.chat.builders import make_chat, make_turn, said, seal
from tests.personas.chat.pages import Web, signed_in, web

pytestmark = pytest.mark.django_db(transaction=True)

STREAMS = "redis://127.0.0.1:6399/0"


@pytest.fixture
def server() -> Web:
    with web() as running:
        yield running


@pytest.fixture(autouse=True)
def fresh_post(monkeypatch) -> None:
    """Let no test inherit a client of Valkey, or the silence after a failure."""
    monkeypatch.setattr(live, "post", live.Post())


class Speaker:
    """A turn being answered in this process, as a worker answers it."""

    def __init__(self, chat, **fields) -> None:
        self.chat = chat
        self.message = make_turn(chat, state=Run.State.QUEUED, partial="", **fields)
        self.run = self.message.run
        self.lease = claim(run_id=self.run.pk, owner="test")
        self.stage = self.run.stages.get()
        self.block = live.Live(self.run, self.lease).speaking(self.stage)
        self.voice = self.block.__enter__()

    @property
    def place(self) -> str:
        return f"text-{self.stage.pk}"

    def end(self, text: str) -> None:
        self.block.__exit__(None, None, None)
        output = seal(self.chat, said(text))
        StageRun.objects.filter(pk=self.stage.pk).update(
            state="done", output_content_id=output, partial=None, partial_id=None, finished_at=app_now()
        )
        Run.objects.filter(pk=self.run.pk).update(
            state="succeeded", finished_at=app_now(), changes=Run.next_change(), lease_until=None
        )
        live.tell(self.run.pk)


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def chat(team):
    return make_chat(team)


@pytest.fixture
def speaker(chat):
    made = Speaker(chat)
    yield made
    made.block.__exit__(None, None, None)


# --- what a page is shown ---------------------------------------------------------------


def test_words_arrive_as_they_are_said_and_the_finished_answer_after_them(server, chat, speaker):
    page = server.open(chat, chat.user)
    page.wait_for(lambda page: page.element(f"answer-{speaker.message.pk}"))

    speaker.voice.on_text("Good ")
    page.wait_for(lambda page: page.text_of(speaker.place) == "Good", 3)
    speaker.voice.on_text("**morning**")
    page.wait_for(lambda page: "<strong>morning</strong>" in page.element(speaker.place), 3)
    speaker.end("Good **morning**, and goodbye.")

    assert page.ended.wait(5)
    assert page.names == ["done"]
    assert "and goodbye." in page.text_of(f"answer-{speaker.message.pk}")
    assert all(event.id.isdecimal() for event in page.events)


def test_a_reload_in_the_middle_shows_all_that_was_said(server, chat, speaker):
    first = server.open(chat, chat.user)
    speaker.voice.on_text("One. ")
    first.wait_for(lambda page: page.text_of(speaker.place) == "One.")
    first.leave()
    speaker.voice.on_text("Two. ")

    second = server.open(chat, chat.user, **{"Last-Event-ID": first.events[-1].id})

    second.wait_for(lambda page: page.text_of(speaker.place) == "One. Two.")


def test_two_tabs_are_shown_the_same(server, chat, speaker):
    client = signed_in(chat.user)
    pages = [server.open(chat, chat.user, client=client) for _ in range(2)]
    for word in ("a ", "b ", "c "):
        speaker.voice.on_text(word)
        time.sleep(0.12)

    for page in pages:
        page.wait_for(lambda page: page.text_of(speaker.place) == "a b c")


def test_answers_that_are_compared_stream_side_by_side(server, chat, speaker):
    other = Speaker(chat)
    page = server.open(chat, chat.user)

    speaker.voice.on_text("left")
    other.voice.on_text("right")

    page.wait_for(lambda page: page.text_of(speaker.place) == "left")
    page.wait_for(lambda page: page.text_of(other.place) == "right")
    other.end("right")
    page.wait_for(lambda page: "Copy" in page.element(f"answer-{other.message.pk}"))
    assert page.names == []


def test_reasoning_is_shown_folded_while_it_grows(server, chat, speaker):
    page = server.open(chat, chat.user)
    speaker.voice.reasoning("Let me <b>see</b>.")

    page.wait_for(lambda page: "Let me &lt;b&gt;see&lt;/b&gt;." in page.element(f"thought-{speaker.stage.pk}"))


def test_ten_thousand_lines_arrive_whole_and_in_order(server, chat, speaker):
    page = server.open(chat, chat.user)
    page.wait_for(lambda page: page.element(f"answer-{speaker.message.pk}"))
    lines = [f"Line {number}." for number in range(10_000)]
    for at in range(0, len(lines), 500):
        speaker.voice.on_text("\n\n".join(lines[at : at + 500]) + "\n\n")
        time.sleep(0.05)

    page.wait_for(lambda page: "Line 9999." in page.received, 40)
    assert page.text_of(speaker.place).split("\n") != []
    assert [word for word in page.text_of(speaker.place).split("\n") if word] == lines


def test_a_chat_in_which_nothing_happens_is_over_at_once(server, team):
    chat = make_chat(team)
    page = server.open(chat, chat.user)

    assert page.ended.wait(5)
    assert (page.status, page.names) == (200, ["done"])


def test_a_turn_that_ended_while_the_page_was_away_is_told_once_it_is_back(server, chat, speaker):
    before = int(time.time() * 1000)
    speaker.end("It is over.")

    page = server.open(chat, chat.user, **{"Last-Event-ID": str(before)})

    assert page.ended.wait(5)
    assert "It is over." in page.text_of(f"answer-{speaker.message.pk}")


# --- faults -----------------------------------------------------------------------------


def test_without_valkey_the_text_is_followed_in_the_database(server, chat, settings):
    settings.STREAM_URL = "redis://127.0.0.1:1"
    speaker = Speaker(chat)
    page = server.open(chat, chat.user)
    speaker.voice.on_text("Slowly, ")
    page.wait_for(lambda page: page.text_of(speaker.place) == "Slowly,", 8)
    speaker.voice.on_text("but surely.")

    page.wait_for(lambda page: page.text_of(speaker.place) == "Slowly, but surely.", 8)
    speaker.end("Slowly, but surely.")
    assert page.ended.wait(5)


def test_a_flushed_valkey_loses_no_word(server, chat, speaker):
    page = server.open(chat, chat.user)
    speaker.voice.on_text("Before. ")
    page.wait_for(lambda page: page.text_of(speaker.place) == "Before.")
    time.sleep(1.2)  # until it is saved

    live.post._client.delete(live.key_of(speaker.run.pk))
    late = server.open(chat, chat.user)
    speaker.voice.on_text("After.")

    for each in (page, late):
        each.wait_for(lambda page: page.text_of(speaker.place) == "Before. After.", 8)


def test_what_a_killed_worker_had_said_stays(server, chat, speaker):
    page = server.open(chat, chat.user)
    speaker.voice.on_text("Half of")
    page.wait_for(lambda page: page.text_of(speaker.place) == "Half of")
    time.sleep(1.5)
    live.carrier._voices.discard(speaker.voice)  # nobody carries it any more
    Run.objects.filter(pk=speaker.run.pk).update(
        state="failed", failure="The worker was lost.", finished_at=app_now(), changes=Run.next_change()
    )

    assert page.ended.wait(5)
    assert "Half of" in page.text_of(f"answer-{speaker.message.pk}")
    assert "The worker was lost." in page.text_of(f"answer-{speaker.message.pk}")


@pytest.mark.requirement("LLM-5")
@pytest.mark.parametrize("cut", [1, 3, 7, 1000])
def test_no_words_of_a_model_make_an_event_or_an_order(server, chat, speaker, cut):
    hostile = (
        "data: x\n\nevent: done\ndata:\n\nid: 7\nretry: 1\r\rid: 9\r\n\r\nevent: done\u2028\u2029\x85\x0b\x0c\x1e"
        '<hx-partial hx-target="body" hx-swap="innerHTML">gone</hx-partial>\n'
        '<div hx-swap-oob="true" hx-get="/x" hx-trigger="load">x</div><template hx type="partial"></template>\n'
        '[a](https://x.example/<hx-partial>"<hx-get>) ![b](https://x.example/b.png "<hx-partial>")\n'
        "\ud800\udfff \U0001f600\n\n: ping\n\n```\n</code></pre><hx-partial>\n```\n<head></head><title>x</title>"
    )
    page = server.open(chat, chat.user)
    for at in range(0, len(hostile), cut):
        speaker.voice.on_text(hostile[at : at + cut])
    page.wait_for(lambda page: "x.example" in page.text_of(speaker.place) and "title" in page.received)
    time.sleep(0.3)

    assert page.names == []
    targets = {event.order[0] for event in page.events}
    assert targets <= {f"#{speaker.place}", f"#{speaker.place}-tail", f"#answer-{speaker.message.pk}"}
    assert " hx-get" not in page.element(speaker.place).replace('&lt;div hx-swap-oob="true" hx-get', "")
    speaker.end("Bye.")
    assert page.ended.wait(5)


# --- who may ----------------------------------------------------------------------------


def refused(page) -> bool:
    return page.ended.wait(3) and page.names == ["done"] and "You can no longer follow" in page.received


@pytest.fixture
def shared(chat):
    chat.shared_at = app_now()
    chat.save(update_fields=["shared_at"])
    return chat


@pytest.fixture
def member(team):
    return make_member(team, "member")


@pytest.mark.requirement("AUTH-12")
@pytest.mark.parametrize("what", ["logout", "password", "disabled", "removed", "unshared", "expired"])
def test_a_right_that_is_lost_ends_an_open_stream(server, shared, speaker, member, what):
    client = signed_in(member)
    page = server.open(shared, member, client=client)
    page.wait_for(lambda page: page.element(f"answer-{speaker.message.pk}"))

    match what:
        case "logout":
            client.logout()
        case "password":
            member.set_password("another long enough password")
            member.save()
        case "disabled":
            member.is_active = False
            member.save()
        case "removed":
            Membership.objects.filter(user=member).delete()
        case "unshared":
            type(shared).objects.filter(pk=shared.pk).update(shared_at=None)
        case "expired":
            Session.objects.update(expire_date=app_now() - timedelta(seconds=1))

    began = time.monotonic()
    assert refused(page)
    assert time.monotonic() - began < 5  # a second, and what a busy machine adds
    speaker.voice.on_text("A secret.")
    time.sleep(0.3)
    assert "A secret." not in page.received


def test_another_teams_member_and_a_stranger_to_the_chat_find_nothing(server, chat, speaker, member):
    elsewhere = make_team()

    for user in (owner_of(elsewhere), member):
        page = server.open(chat, user)
        assert page.ended.wait(5)
        assert page.status == 404


def test_nobody_follows_without_signing_in(server, chat, speaker):
    page = server.get(f"/stream/t/{chat.team.slug}/chats/{chat.pk}/")
    fragment = server.get(f"/stream/t/{chat.team.slug}/chats/{chat.pk}/", **{"HX-Request": "true"})

    assert page.ended.wait(5) and fragment.ended.wait(5)
    assert (page.status, fragment.status) == (302, 401)


def test_one_person_has_so_many_streams_and_no_more(server, chat, speaker, settings):
    settings.STREAMS_PER_PERSON = 2
    client = signed_in(chat.user)
    pages = [server.open(chat, chat.user, client=client) for _ in range(2)]
    for page in pages:
        page.wait_for(lambda page: page.element(f"answer-{speaker.message.pk}"))

    third = server.open(chat, chat.user, client=client)
    assert third.ended.wait(5) and third.status == 429

    pages[0].leave()
    time.sleep(0.5)
    fourth = server.open(chat, chat.user, client=client)
    fourth.wait_for(lambda page: page.status == 200)


def test_without_streaming_there_is_none(server, chat, speaker, settings):
    settings.STREAMING = False
    page = server.open(chat, chat.user)

    assert page.ended.wait(5) and page.status == 404
