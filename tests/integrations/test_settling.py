"""A call that was lost on the way: held, asked about, and settled with what the provider's record says."""

import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.urls import reverse

from audit.models import Event
from integrations import actions, catalog, catalog_reading, errors, settling, tasks
from integrations.bookkeeping import Caller
from integrations.calls import call_tool
from integrations.dollars import in_dollars
from integrations.models import Call
from integrations.settling import settle_unknown, take_due
from integrations.standing import NotAllowed
from tests.integrations.caps import counters, make_cap, wrong_counters
from tests.integrations.desk import CHAT, QUESTION, Desk, events_of, picodollars

pytestmark = pytest.mark.django_db


class Left(Exception):
    """The reader of a stream went away."""


@pytest.fixture
def desk(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    yield Desk(sandbox)
    sandbox.rules()
    catalog.forget()


@pytest.fixture
def lost(desk) -> Call:
    return lose(desk)


def lose(desk: Desk) -> Call:
    """A call that was billed and whose answer nobody read to its end."""

    def leave(text: str) -> None:
        raise Left

    with pytest.raises(Left):
        desk.call(on_text=leave)
    threading.Event().wait(0.4)  # until the sandbox has its record
    return desk.last_call()


def settle(call: Call) -> Call:
    tasks.settle(call_id=str(call.pk))
    call.refresh_from_db()
    return call


def questions_of(desk: Desk) -> list[Call]:
    return list(Call.objects.filter(team=desk.team, tool="get_generation").order_by("id"))


def test_a_lost_call_is_settled_with_the_cost_and_tokens_of_its_record(desk, lost):
    held = lost.credits_reserved
    assert (lost.state, desk.account.reserved) == ("unknown", held)

    settle(lost)

    (line,) = desk.lines_of(lost)
    assert (lost.state, lost.outcome) == ("failed", "unreachable")
    assert picodollars(lost.cost_usd) == picodollars(line["cost"]) > 0
    assert lost.credits == 2 + 1
    assert lost.tokens_out > 0
    assert (desk.account.reserved, desk.account.spent) == (0, 1 + lost.credits)
    assert [event.action for event in events_of(lost)] == ["call.started", "call.finished", "call.settled"]
    settled = events_of(lost)[-1]
    assert (settled.cost_usd, settled.credits) == (picodollars(lost.cost_usd), lost.credits)
    assert settled.actor_id == str(desk.owner.pk)


def test_the_question_is_a_call_of_the_installation_with_its_own_events_and_takes_nothing(desk, lost):
    settle(lost)

    (question,) = questions_of(desk)
    assert (question.state, question.credits, question.actor_kind, question.actor_id) == (
        "done",
        0,
        "system",
        "sweeper",
    )
    assert [event.action for event in events_of(question)] == ["call.started", "call.finished"]
    assert len(desk.lines_of(question)) == 1


@pytest.mark.requirement("BUD-7")
def test_dollars_of_a_lost_call_stay_held_in_sight_until_its_record_settles_them(desk, client):
    catalog_reading.refresh(integration="openrouter", wanted=[QUESTION["model"]], again_after=timedelta(0))
    catalog.forget()
    make_cap(desk.team, "5")
    call = lose(desk)
    assert counters(desk.team) == [(call.most_usd, 0)]
    client.force_login(desk.owner)
    page = client.get(reverse("limit_list", args=[desk.team.slug])).content.decode()
    assert in_dollars(call.most_usd) in page

    assert take_due() == [call.pk]
    call = settle(call)

    assert counters(desk.team) == [(0, call.cost_usd)]
    assert call.cost_usd > 0
    assert wrong_counters() == []


@pytest.mark.requirement("BUD-7")
def test_dollars_of_a_call_that_no_record_explains_stay_held_for_good(desk, clock):
    catalog_reading.refresh(integration="openrouter", wanted=[QUESTION["model"]], again_after=timedelta(0))
    catalog.forget()
    make_cap(desk.team, "5")
    call = lose(desk)
    Call.objects.filter(pk=call.pk).update(generation_id="")
    for days in (1, 40):
        clock(days=days)
        assert take_due() == []
        assert settle(call).state == "unknown"
    assert counters(desk.team) == [(call.most_usd, 0)]


def test_settling_twice_pays_once(desk, lost):
    stale = Call.objects.select_related("team", "connection").get(pk=lost.pk)
    settle(lost)
    spent = desk.account.spent

    settle_unknown(call=stale)
    settle(lost)

    assert desk.account.spent == spent
    assert len(events_of(lost)) == 3


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 404}, {"kind": "status", "status": 503}])
def test_without_a_record_the_call_stays_unknown_and_held(desk, lost, fault):
    desk.sandbox.rules({"match": {"path": "/generation"}, "answer": fault})

    settle(lost)

    assert (lost.state, desk.account.reserved) == ("unknown", lost.credits_reserved)
    assert [question.state for question in questions_of(desk)] == ["failed"]


def test_a_record_that_says_neither_cost_nor_tokens_proves_nothing(desk, lost, monkeypatch):
    empty = SimpleNamespace(answer=SimpleNamespace(data={"data": {"id": lost.generation_id, "total_cost": None}}))
    monkeypatch.setattr(settling, "call_tool", lambda **_asked: empty)

    settle(lost)

    assert (lost.state, lost.credits, desk.account.reserved) == ("unknown", None, lost.credits_reserved)


def test_platform_credits_that_ran_out_do_not_stop_the_question(desk, lost):
    desk.team.credit_accounts.update(granted=desk.account.reserved + desk.account.spent)

    assert settle(lost).state == "failed"


@pytest.mark.parametrize(("fault", "kind"), [("cut", errors.Unreachable), ("garbage", errors.BadAnswer)])
def test_an_answer_that_failed_half_way_is_settled_and_keeps_its_outcome(desk, fault, kind):
    desk.sandbox.rules({"match": {"path": "/chat/completions"}, "answer": {"kind": fault}})
    with pytest.raises(kind):
        desk.call()
    threading.Event().wait(0.4)

    call = settle(desk.last_call())

    assert (call.state, call.outcome, desk.account.reserved) == ("failed", kind.outcome, 0)
    assert picodollars(call.cost_usd) == picodollars(desk.lines_of(call)[0]["cost"])


def test_each_lost_call_is_taken_each_five_seconds_at_first_then_each_minute_and_for_a_day(desk, lost, clock):
    assert take_due() == [lost.pk]
    clock(seconds=4)
    assert take_due() == []
    clock(seconds=6)
    assert take_due() == [lost.pk]
    clock(seconds=25)
    assert take_due() == [lost.pk]
    clock(seconds=84)
    assert take_due() == []
    clock(seconds=86)
    assert take_due() == [lost.pk]
    clock(hours=23)
    assert take_due() == [lost.pk]
    clock(hours=25)
    assert take_due() == []


def test_a_call_that_names_no_generation_is_left_to_a_person(desk):
    desk.sandbox.rules({"match": {"path": "/chat/completions"}, "answer": {"kind": "cut", "at": "head"}})
    with pytest.raises(errors.Unreachable):
        desk.call()

    assert (desk.last_call().state, desk.last_call().generation_id) == ("unknown", "")
    assert take_due() == []
    assert settle(desk.last_call()).state == "unknown"


def test_the_record_is_not_asked_for_with_a_revoked_key(desk, lost):
    actions.revoke(connection=desk.connection, by=desk.owner)

    assert take_due() == []
    assert settle(lost).state == "unknown"
    assert desk.account.reserved == lost.credits_reserved


def test_the_sweeper_gives_up_a_call_whose_worker_is_gone(desk, clock):
    call = desk.call().call
    Call.objects.filter(pk=call.pk).update(state="sent", finished_at=None, credits=None)
    clock(minutes=19)
    tasks.sweep()
    call.refresh_from_db()
    assert call.state == "sent"

    clock(minutes=21)
    tasks.sweep()

    call.refresh_from_db()
    assert (call.state, call.outcome, call.credits) == ("unknown", "unknown", None)


def test_a_call_that_cannot_be_closed_does_not_keep_the_others_from_it(desk, clock, monkeypatch, caplog):
    poisoned, sound = desk.call().call, desk.call().call
    Call.objects.filter(pk__in=[poisoned.pk, sound.pk]).update(state="sent", finished_at=None, credits=None)
    closed = tasks.close_in_doubt

    def close(*, call):
        if call.pk == poisoned.pk:
            raise ZeroDivisionError
        closed(call=call)

    monkeypatch.setattr(tasks, "close_in_doubt", close)
    clock(minutes=21)
    tasks.sweep()
    assert Call.objects.get(pk=sound.pk).state == Call.State.UNKNOWN
    assert Call.objects.get(pk=poisoned.pk).state == Call.State.SENT
    assert f"integrations.call:{poisoned.pk}" in caplog.text


def test_the_installation_may_only_look_things_up(desk):
    asked = {"team": desk.team, "connection": desk.connection, "caller": Caller.system("sweeper")}
    lines = len(desk.sandbox.journal())

    with pytest.raises(NotAllowed, match="for people only"):
        call_tool(tool=CHAT, arguments=QUESTION, **asked)

    assert len(desk.sandbox.journal()) == lines
    assert Event.objects.get(team_id=desk.team.pk, action="call.refused").actor_kind == "system"
