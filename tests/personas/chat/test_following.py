"""What may be shown to whom, how turns stand, and texts that arrive in pieces: without a page."""

import asyncio
import hashlib
import itertools
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.clock import app_now
from personas.chat import following
from personas.chat.following import Text
from personas.chat.looking import Claim, look, read_partials
from personas.models import Chat, Run, StageRun
from tests.factories import make_member, make_team, owner_of
from tests.personas.chat.builders import make_call, make_chat, make_turn
from tests.personas.chat.pages import signed_in


def run_apart(work: Coroutine) -> None:
    """Run this to its end in a thread of its own: in this one, the browser driver's event loop may be running."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


# --- texts ------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=5), max_size=12), st.randoms())
def test_pieces_in_any_order_and_twice_make_the_text_once_it_was_saved(words, chance):
    places = itertools.accumulate(map(len, words), initial=0)
    pieces = list(zip(places, words, strict=False)) * 2
    chance.shuffle(pieces)
    text = Text()
    for place, word in pieces:
        text.add("voice", "text", place, word)

    text.load({"text": "".join(words)})

    assert text.said["text"] == "".join(words)
    assert not text.has_gap


def test_a_gap_is_not_shown_and_is_filled_from_what_was_saved():
    text = Text()
    text.add("v", "text", 0, "One ")
    text.add("v", "text", 8, "three")
    assert (text.said["text"], text.has_gap) == ("One ", True)

    text.load({"text": "One two ", "reasoning": ""})

    assert (text.said["text"], text.has_gap) == ("One two three", False)


def test_what_was_saved_before_takes_nothing_back():
    text = Text()
    text.add("v", "text", 0, "One two")
    text.load({"text": "One"})

    assert text.said["text"] == "One two"


def test_an_answer_that_is_begun_anew_begins_anew():
    text = Text()
    text.add("first", "text", 0, "Lost words")
    text.add("second", "text", 0, "New")

    assert text.said["text"] == "New"


# --- the query --------------------------------------------------------------------------


@pytest.fixture
def team(db):
    return make_team()


@pytest.fixture
def chat(team):
    return make_chat(team)


def claim_of(user, chat: Chat, **changes) -> Claim:
    mark = hashlib.sha256(user.password.encode()).hexdigest()
    given = {
        "session_key": signed_in(user).session.session_key,
        "user_id": user.pk,
        "password_mark": mark,
        "team_id": chat.team_id,
        "chat_id": chat.pk,
    }
    return Claim(**(given | changes))


def test_all_pages_are_looked_up_in_one_query(chat, django_assert_num_queries):
    claims = [
        claim_of(chat.user, chat),
        claim_of(owner_of(chat.team), chat),
        claim_of(chat.user, chat, chat_id=uuid4()),
    ]

    with django_assert_num_queries(1):
        views = look(claims)

    assert [view is not None for view in views] == [True, True, False]


@pytest.mark.parametrize(
    "changes", [{"session_key": ""}, {"session_key": "x" * 32}, {"password_mark": ""}, {"user_id": uuid4()}]
)
def test_a_claim_that_is_not_so_is_shown_nothing(chat, changes):
    assert look([claim_of(chat.user, chat, **changes)]) == [None]


def test_a_chat_is_its_members_own_until_it_is_shared(chat):
    other = make_member(chat.team, "auditor")
    assert look([claim_of(other, chat)]) == [None]

    Chat.objects.update(shared_at=app_now())

    assert look([claim_of(other, chat)]) != [None]


def test_another_team_of_the_same_person_opens_nothing(chat):
    other = make_team()
    other.memberships.create(user=chat.user, role="owner")

    assert look([claim_of(chat.user, chat, team_id=other.pk)]) == [None]


def test_a_turn_goes_on_until_its_end_and_names_the_answers_being_given(chat):
    message = make_turn(chat, state=Run.State.RUNNING, partial="Half")
    stage = message.run.stages.get(state="running")

    (view,) = look([claim_of(chat.user, chat)])
    (turn,) = view.turns
    assert (turn.run_id, turn.message_id, turn.goes_on) == (message.run_id, message.pk, True)
    assert turn.stages == ((stage.pk, stage.partial_id),)

    Run.objects.update(state="succeeded", finished_at=app_now(), changes=Run.next_change())
    (after,) = look([claim_of(chat.user, chat)])
    assert (after.turns[0].goes_on, after.turns[0].stages) == (False, ())
    assert after.turns[0].version != turn.version


def test_a_stopped_turn_is_followed_until_its_bill_is_known(chat, clock):
    message = make_turn(chat, state=Run.State.STOPPED, partial="Half")
    call = make_call(message.run.stages.get(), state="unknown", generation_id="gen-1", model="openai/gpt-5-mini")
    (view,) = look([claim_of(chat.user, chat)])
    assert view.turns[0].goes_on

    type(call).objects.filter(pk=call.pk).update(state="failed")
    (billed,) = look([claim_of(chat.user, chat)])
    assert not billed.turns[0].goes_on
    assert billed.turns[0].version != view.turns[0].version


def test_a_bill_that_nobody_learns_is_not_waited_for_for_ever(chat, clock):
    message = make_turn(chat, state=Run.State.STOPPED, partial="Half")
    make_call(message.run.stages.get(), state="unknown", generation_id="gen-1", model="openai/gpt-5-mini")
    clock(seconds=40)

    (view,) = look([claim_of(chat.user, chat)])
    assert [turn.goes_on for turn in view.turns] == [False]


def test_turns_that_a_page_has_seen_the_end_of_are_not_told_again(chat):
    make_turn(chat)
    (first,) = look([claim_of(chat.user, chat)])
    assert len(first.turns) == 1

    (later,) = look([claim_of(chat.user, chat, since=first.at + 60_000)])
    assert later.turns == ()


def test_what_was_saved_is_opened_and_what_cannot_be_is_left_out(chat):
    whole, broken = (make_turn(chat, state=Run.State.RUNNING, partial="Half").run.stages.get() for _ in range(2))
    StageRun.objects.filter(pk=broken.pk).update(partial_id=UUID(int=1))

    assert read_partials([whole.pk, broken.pk]) == {whole.pk: {"text": "Half", "reasoning": ""}}


def test_while_nobody_can_look_who_may_see_it_no_page_is_shown_anything(monkeypatch):
    def faulty(claims):
        raise RuntimeError

    monkeypatch.setattr(following, "look", faulty)
    monkeypatch.setattr(following, "UNSURE", -1)
    hub = following.Hub()
    page = following.Follower(Claim("", uuid4(), "", uuid4(), uuid4()), hub)
    hub.followers.add(page)

    run_apart(hub._look())

    assert page.refused


class Store:
    """A Valkey client that waits for ever, or breaks."""

    def __init__(self, fault: Exception | None) -> None:
        self.fault, self.closed, self.read = fault, 0, asyncio.Event()

    async def xread(self, *_, **__):
        self.read.set()
        if self.fault:
            raise self.fault
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed += 1
        raise OSError


@pytest.mark.parametrize("fault", [None, ConnectionError(), ValueError()])
def test_the_client_of_valkey_is_closed_however_its_reader_ends(monkeypatch, fault):
    monkeypatch.setattr(following, "look", lambda claims: [None] * len(claims))
    claim = Claim("", uuid4(), "", uuid4(), uuid4())

    async def leave() -> None:
        """The last page is closed, another one opens at once, and the process ends under it."""
        hub, stores = following.Hub(), [Store(fault), Store(fault)]
        monkeypatch.setattr(following, "_store", iter(stores).__next__)
        async with hub.following(claim):
            await stores[0].read.wait()
            first = hub._tasks
        async with hub.following(claim):
            await stores[1].read.wait()
            await asyncio.gather(*first, return_exceptions=True)
            assert stores[0].closed == 1
            ends.append(stores[1])

    ends: list[Store] = []
    run_apart(leave())
    assert [store.closed for store in ends] == [1]
