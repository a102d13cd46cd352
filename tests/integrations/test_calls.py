"""One way to call a tool: what is checked, written down, held, sent and settled, on a real service."""

import hashlib
import json
import threading
from dataclasses import replace
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, transaction

from accounts.credits import OutOfCredits
from accounts.models import CreditEntry, Membership, Plan, User
from accounts.permissions import Role
from audit.models import Event
from integrations import actions, calls, errors
from integrations.calls import NotAllowed, close_in_doubt
from integrations.models import Call, Connection
from integrations.openrouter.client import OpenRouter
from integrations.registry import InvalidArguments, UnknownTool
from tests.factories import make_member, make_stranger
from tests.integrations.desk import CHAT, MODEL, QUESTION, WORDS, Desk, events_of, picodollars, said

pytestmark = pytest.mark.django_db

MESSAGE = {"model": MODEL, "max_tokens": 40, "messages": [{"role": "user", "content": WORDS}]}
CHARGE = {"amount": "5.00", "sender": f"0x{'ab' * 20}", "chain_id": 8453}
READS = {
    "get_credits": {},
    "get_current_key": {},
    "get_models_count": {},
    "list_available_models": {"limit": 3},
    "list_embedding_models": {},
    "list_model_endpoints": {"model": MODEL},
    "list_providers": {},
    "list_user_models": {},
    "list_zdr_endpoints": {},
}


@pytest.fixture
def desk(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    yield Desk(sandbox)
    sandbox.rules()


def check_books(desk: Desk, call: Call, *, state: str, outcome: str) -> None:
    """A call that left has one started and one finished event, one line of the service, and balanced books."""
    started, finished = events_of(call)
    (line,) = desk.lines_of(call)
    assert (started.action, finished.action) == ("call.started", "call.finished")
    assert (call.state, call.outcome, finished.outcome) == (state, outcome, outcome)
    assert line["body_sha256"] == call.request_sha256 == started.request_sha256 == finished.request_sha256
    assert (line["generation_id"] or "") == call.generation_id == finished.generation_id
    assert picodollars(line["cost"]) == picodollars(call.cost_usd) == picodollars(finished.cost_usd)
    assert (started.credits, finished.credits) == (call.credits_reserved, call.credits)
    assert desk.account.reserved == (call.credits_reserved if call.credits is None else 0)


def check_nothing_happened(desk: Desk, *, lines: int, outcome: str) -> Event:
    """Nothing left and nothing is held; the log says who was refused what, and why."""
    assert len(desk.sandbox.journal()) == lines
    assert not Call.objects.filter(team=desk.team, state=Call.State.SENT).exists()
    assert not CreditEntry.objects.filter(team=desk.team, kind="reserve").exclude(call_id__in=Call.objects.values("id"))
    assert desk.account.reserved == 0
    refused = Event.objects.get(team_id=desk.team.pk, action="call.refused")
    assert refused.outcome == outcome
    assert refused.details["message"]
    return refused


# --- every tool -------------------------------------------------------------------------


@pytest.mark.requirement("AUD-6")
@pytest.mark.parametrize(("tool", "arguments"), [(CHAT, QUESTION), ("create_message", MESSAGE)])
def test_a_model_call_is_in_row_log_ledger_and_the_services_journal_alike(desk, tool, arguments):
    done = desk.call(tool, arguments)

    check_books(desk, done.call, state="done", outcome="done")
    asked, answered = (said(event) for event in events_of(done.call))
    assert hashlib.sha256(asked.encode()).hexdigest() == done.call.request_sha256
    assert WORDS in asked
    assert json.loads(answered) == done.result
    assert done.result["data"]["text"] == done.answer.text != ""
    assert done.call.cost_usd > 0
    assert done.call.credits == 2 + 1 == desk.account.spent - 1  # the test of the key took one
    assert done.call == Call.objects.get(pk=done.call.pk)


@pytest.mark.requirement("AUD-6")
@pytest.mark.parametrize("tool", READS)
def test_a_read_is_in_row_log_ledger_and_the_services_journal_alike(sandbox, desk, tool):
    if tool == "get_credits":
        desk = Desk(sandbox, management=True)

    done = desk.call(tool, READS[tool])

    check_books(desk, done.call, state="done", outcome="done")
    asked, answered = (json.loads(said(event)) for event in events_of(done.call))
    assert (asked["method"], asked["path"]) == ("GET", desk.lines_of(done.call)[0]["path"].removeprefix("/api/v1"))
    assert answered["data"] == done.result["data"] != {}
    assert (done.call.credits, done.call.cost_usd, done.call.generation_id) == (1, None, "")


def test_the_record_of_a_generation_is_read_once_it_is_there(desk):
    generation_id = desk.call().answer.generation_id

    with pytest.raises(errors.NotReady):
        desk.call("get_generation", {"id": generation_id})
    early = desk.last_call()
    pause(0.4)
    done = desk.call("get_generation", {"id": generation_id})

    check_books(desk, early, state="failed", outcome="not_ready")
    check_books(desk, done.call, state="done", outcome="done")
    assert done.result["data"]["id"] == generation_id


def test_a_withdrawn_tool_is_called_once_and_says_where_to_go_instead(desk):
    with pytest.raises(errors.Gone):
        desk.call("create_coinbase_charge", CHARGE)

    call = desk.last_call()
    check_books(desk, call, state="failed", outcome="gone")
    assert (call.status, call.credits) == (410, 0)
    assert "https://openrouter.ai/settings/credits" in call.message
    assert desk.lines_of(call)[0]["key_sha256"] is None


def test_a_stream_is_handed_on_while_it_comes(desk):
    heard: list[str] = []

    done = desk.call(on_text=heard.append)

    assert "".join(heard) == done.answer.text
    assert len(heard) > 3


def test_the_events_of_a_call_name_who_where_and_what(desk):
    persona_id, run_id = desk.grant(CHAT), uuid4()

    done = desk.call(persona_id=persona_id, persona_name="Writer", run_id=run_id)

    for event in events_of(done.call):
        assert (event.actor_kind, event.actor_id, event.actor_name) == ("user", str(desk.owner.pk), desk.owner.email)
        assert (event.persona_id, event.persona_name, event.run_id) == (persona_id, "Writer", run_id)
        assert (event.tool, event.target) == (CHAT, f"connection:{desk.connection.pk}")
        assert event.team_id == desk.team.pk
    assert [event.model for event in events_of(done.call)] == [MODEL, done.answer.model]


# --- refusals ---------------------------------------------------------------------------


def refuse(desk: Desk, kind: type[Exception], *args, **how) -> tuple[str, Event]:
    """Call and be refused; return the message and the event."""
    lines = len(desk.sandbox.journal())
    with pytest.raises(kind) as refusal:
        desk.call(*args, **how)
    assert type(refusal.value) is kind
    return str(refusal.value), check_nothing_happened(desk, lines=lines, outcome=calls.OUTCOMES[kind])


def test_wrong_arguments_are_refused_by_name(desk):
    message, _ = refuse(desk, InvalidArguments, CHAT, {"model": MODEL, "messages": [], "temprature": 1})
    assert "messages" in message and "temprature" in message


def test_a_prompt_of_two_megabytes_is_refused_with_the_limit(desk):
    said_too_much = QUESTION | {"messages": [{"role": "user", "content": "x" * 2_000_000}]}
    message, refused = refuse(desk, InvalidArguments, CHAT, said_too_much)
    assert "over the limit of 1 MiB" in message
    assert len(refused.canon) < 2000


def test_an_unknown_tool_is_refused(desk):
    refuse(desk, UnknownTool, "delete_everything", {})


def test_who_is_no_member_is_refused(desk):
    message, refused = refuse(desk, NotAllowed, user=make_stranger())
    assert "no longer a member" in message
    assert refused.actor_kind == "user"


def test_whose_account_was_closed_is_refused(desk):
    User.objects.filter(pk=desk.owner.pk).update(is_active=False)
    message, _ = refuse(desk, NotAllowed)
    assert "account" in message and "closed" in message


def test_a_role_that_may_not_run_tools_is_refused(desk):
    message, _ = refuse(desk, NotAllowed, user=make_member(desk.team, Role.AUDITOR))
    assert "role auditor may not run tools" in message


def test_a_persona_without_a_grant_is_refused(desk):
    message, refused = refuse(desk, NotAllowed, persona_id=uuid4(), persona_name="Writer")
    assert message == "Writer has no grant for Main. Enable it on the persona's page."
    assert refused.persona_name == "Writer"


def test_a_tool_that_is_off_for_the_persona_is_refused(desk):
    persona_id = desk.grant("list_providers")
    message, _ = refuse(desk, NotAllowed, persona_id=persona_id, persona_name="Writer")
    assert message == "Create chat completion is off for Writer. Allow it on the persona's page."


@pytest.mark.parametrize("known", ["fresh", "stale"])
def test_a_revoked_connection_is_refused_also_when_the_caller_has_not_noticed(desk, known):
    stale = Connection.objects.get(pk=desk.connection.pk)
    actions.revoke(connection=desk.connection, by=desk.owner)
    desk.connection.refresh_from_db()

    message, _ = refuse(desk, NotAllowed, connection=stale if known == "stale" else desk.connection)

    assert message == "The connection Main was revoked. Choose another one."


@pytest.mark.requirement("TEN-2")
def test_another_teams_connection_is_refused(sandbox, desk):
    theirs = Desk(sandbox)
    lines = len(sandbox.journal())

    with pytest.raises(NotAllowed):
        desk.call(connection=theirs.connection)
    with pytest.raises(NotAllowed):
        theirs.call(team=desk.team, user=desk.owner)

    assert len(sandbox.journal()) == lines
    assert Call.objects.filter(tool=CHAT).count() == 0
    assert Event.objects.filter(team_id=theirs.team.pk, action="call.refused").count() == 0


def test_a_call_that_the_plan_does_not_cover_is_refused(sandbox, desk):
    small = Desk(sandbox, plan=Plan.objects.create(key="small", name="Small", monthly_credits=3))

    message, _ = refuse(small, OutOfCredits)  # the test of the key took one

    assert "may take 3 platform credits and 2 are left" in message


@pytest.mark.requirement("TEN-10")
def test_without_its_own_key_no_call_is_made_with_one_of_the_environment(desk, monkeypatch):
    for name in ("OPENROUTER_API_KEY", "OPENROUTER_KEY", "OPENAI_API_KEY", "API_KEY"):
        monkeypatch.setenv(name, desk.sandbox.key())
    actions.revoke(connection=desk.connection, by=desk.owner)

    refuse(desk, NotAllowed)


# --- what the provider does -------------------------------------------------------------

FAILED, UNKNOWN = Call.State.FAILED, Call.State.UNKNOWN
FAULTS = {
    "429": ({"kind": "status", "status": 429}, errors.RateLimited, FAILED),
    "429 with a time": ({"kind": "status", "status": 429, "retry_after": 7}, errors.RateLimited, FAILED),
    "402": ({"kind": "status", "status": 402}, errors.OutOfBalance, FAILED),
    "403": ({"kind": "status", "status": 403}, errors.LimitReached, FAILED),
    "500": ({"kind": "status", "status": 500}, errors.Overloaded, FAILED),
    "502": ({"kind": "status", "status": 502}, errors.Overloaded, FAILED),
    "503": ({"kind": "status", "status": 503}, errors.Overloaded, FAILED),
    "529": ({"kind": "status", "status": 529}, errors.Overloaded, FAILED),
    "error in 200": ({"kind": "error_in_200"}, errors.Overloaded, FAILED),
    "empty": ({"kind": "empty"}, errors.EmptyAnswer, FAILED),
    "mid-stream": ({"kind": "mid_stream_error"}, errors.Overloaded, UNKNOWN),
    "silence": ({"kind": "silence"}, errors.TimedOut, UNKNOWN),
    "cut": ({"kind": "cut"}, errors.Unreachable, UNKNOWN),
    "cut at once": ({"kind": "cut", "at": "head"}, errors.Unreachable, UNKNOWN),
    "garbage": ({"kind": "garbage"}, errors.BadAnswer, UNKNOWN),
}


@pytest.mark.requirement("AUD-6", "BUD-5")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_is_written_down_by_its_kind_and_holds_what_may_be_billed(desk, fault):
    rule, kind, state = FAULTS[fault]
    desk.sandbox.rules({"match": {"path": "/chat/completions"}, "answer": rule})

    with pytest.raises(kind) as failed:
        desk.call(connection=desk.hurried() if fault == "silence" else None)

    call = desk.last_call()
    assert (call.state, call.outcome) == (state, kind.outcome)
    assert call.credits == (None if state == UNKNOWN else 0)
    assert desk.account.reserved == (call.credits_reserved if state == UNKNOWN else 0)
    assert desk.account.spent == 1  # the test of the key
    _, finished = events_of(call)
    assert (finished.action, finished.outcome, finished.details["state"]) == ("call.finished", kind.outcome, state)
    assert json.loads(said(finished))["error"]["outcome"] == kind.outcome
    assert len(desk.lines_of(call)) == 1
    assert failed.value.message in call.message
    assert call.message.removeprefix(failed.value.message).strip().endswith(".")  # what to do about it
    assert ("may have been billed" in call.message) == (state == UNKNOWN)


def test_a_rate_limit_says_when_to_come_back(desk):
    desk.sandbox.rules({"match": {"path": "/chat/completions"}, "answer": FAULTS["429 with a time"][0]})

    with pytest.raises(errors.RateLimited):
        desk.call()

    call = desk.last_call()
    assert 6 < (call.retry_at - call.finished_at).total_seconds() < 8


def test_a_service_that_is_down_gets_nothing_and_holds_nothing(desk, settings):
    settings.INTEGRATION_URLS = {"openrouter": "http://127.0.0.1:1/api/v1"}

    with pytest.raises(errors.Unreachable) as failed:
        desk.call()

    call = desk.last_call()
    assert failed.value.sent is False
    assert (call.state, call.outcome, call.credits, desk.account.reserved) == ("failed", "unreachable", 0, 0)
    assert len(events_of(call)) == 2
    assert "Nothing was sent" in call.message


@pytest.mark.parametrize(
    ("wish", "tool", "arguments", "kind"),
    [
        ({"expired": True}, CHAT, QUESTION, errors.KeyRefused),
        ({"disabled": True}, CHAT, QUESTION, errors.KeyRefused),
        ({"management": True}, CHAT, QUESTION, errors.LimitReached),
        ({}, "get_credits", {}, errors.ManagementKeyNeeded),
        ({"balance": -1}, CHAT, QUESTION, errors.OutOfBalance),
    ],
    ids=["expired", "disabled", "management only", "not management", "empty account"],
)
def test_a_key_that_cannot_do_it_fails_the_call_and_takes_nothing(sandbox, desk, wish, tool, arguments, kind):
    desk = Desk(sandbox, **wish)

    with pytest.raises(kind):
        desk.call(tool, arguments)

    check_books(desk, desk.last_call(), state="failed", outcome=kind.outcome)
    assert desk.last_call().credits == 0


def test_a_wrong_key_fails_its_test_and_every_call(desk):
    wrong = desk.connect(f"sk-or-v1-{'0' * 64}", label="Wrong")
    assert wrong.state == Connection.State.REFUSED

    with pytest.raises(errors.KeyRefused):
        desk.call(connection=wrong)

    check_books(desk, desk.last_call(), state="failed", outcome="key_refused")
    assert "Connect" in desk.last_call().message


@pytest.mark.requirement("RED-4")
def test_a_key_echoed_by_the_service_is_in_no_row_and_no_sealed_text(desk):
    echo = {"kind": "status", "status": 400, "message": f"bad {desk.key}", "metadata": {"raw": f"key {desk.key}"}}
    desk.sandbox.rules({"match": {"path": "/chat/completions"}, "answer": echo})

    with pytest.raises(errors.InvalidRequest) as failed:
        desk.call()

    call = desk.last_call()
    kept = [repr(vars(call)), *(repr(vars(event)) + said(event) for event in events_of(call)), str(failed.value)]
    assert "[key removed]" in call.message
    assert [text for text in kept if desk.key[12:21] in text] == []


# --- between the stages -----------------------------------------------------------------


def while_asking(deed) -> type[OpenRouter]:
    """A client that does a deed when the request is built: after the rights were checked, before it leaves."""

    class Meanwhile(OpenRouter):
        @staticmethod
        def chat_completions(body):
            deed()
            return OpenRouter.chat_completions(body)

    return Meanwhile


@pytest.mark.requirement("AUTHZ-6")
@pytest.mark.parametrize("what", ["connection", "grant", "tool"])
def test_what_is_revoked_after_the_check_is_still_not_sent(desk, what):
    persona_id = desk.grant(CHAT)
    deeds = {
        "connection": lambda: actions.revoke(connection=desk.connection, by=desk.owner),
        "grant": lambda: actions.disable_for(connection=desk.connection, persona_id=persona_id, by=desk.owner),
        "tool": lambda: actions.enable_for(
            connection=desk.connection, persona_id=persona_id, tools=["list_providers"], by=desk.owner
        ),
    }

    with pytest.raises(NotAllowed, match="nothing was sent"):
        desk.call(connection=desk.through(while_asking(deeds[what])), persona_id=persona_id, persona_name="Writer")

    call = desk.last_call()
    assert (call.state, call.outcome, call.credits) == ("failed", "not_allowed", 0)
    assert [event.action for event in events_of(call)] == ["call.started", "call.finished"]
    assert desk.lines_of(call) == []
    assert desk.account.reserved == 0


@pytest.mark.requirement("AUTHZ-6")
def test_a_role_lost_between_two_calls_refuses_the_second(desk):
    member = make_member(desk.team, Role.MEMBER)
    desk.call("list_providers", {}, user=member)

    Membership.objects.filter(team=desk.team, user=member).update(role=Role.AUDITOR)

    refuse(desk, NotAllowed, "list_providers", {}, user=member)


class Broken(OpenRouter):
    """A client with a fault of our own in it."""

    def send(self, request, **how):
        super().send(request, **how)
        raise ZeroDivisionError


class Interrupted(OpenRouter):
    """A client whose process is told to stop while it waits."""

    def send(self, request, **how):
        raise KeyboardInterrupt


class Unreadable(OpenRouter):
    """A client whose answers our own tool trips over."""

    def send(self, request, **how):
        return replace(super().send(request, **how), tool_calls=None)


def test_an_answer_that_we_cannot_read_is_paid_for_and_kept(desk):
    with pytest.raises(TypeError):
        desk.call(connection=desk.through(Unreadable))

    call = desk.last_call()
    check_books(desk, call, state="failed", outcome="bad_answer")
    assert (call.credits, call.status) == (3, 200)
    assert call.cost_usd > 0
    assert json.loads(said(events_of(call)[-1]))["data"]["partial_text"]


class Wordy(OpenRouter):
    """A client whose service answers with more than our columns hold."""

    def send(self, request, **how):
        return replace(super().send(request, **how), provider="p" * 201, model="m" * 201)


def test_names_longer_than_their_columns_are_cut(desk):
    call = desk.call(connection=desk.through(Wordy)).call
    check_books(desk, call, state="done", outcome="done")
    assert (call.provider, call.model_served) == ("p" * 80, "m" * 200)


@pytest.mark.requirement("BUD-5")
@pytest.mark.parametrize(("client", "kind"), [(Broken, ZeroDivisionError), (Interrupted, KeyboardInterrupt)])
def test_a_call_that_we_broke_off_ourselves_is_unknown_and_held(desk, client, kind):
    with pytest.raises(kind):
        desk.call(connection=desk.through(client))

    call = desk.last_call()
    assert (call.state, call.outcome, call.credits) == ("unknown", "unknown", None)
    assert desk.account.reserved == call.credits_reserved > 0
    assert [event.action for event in events_of(call)] == ["call.started", "call.finished"]


@pytest.mark.requirement("BUD-5")
def test_a_reader_who_leaves_ends_the_stream_and_the_call_is_unknown_with_its_generation(desk):
    class Left(Exception):
        pass

    def leave(text: str) -> None:
        raise Left

    with pytest.raises(Left):
        desk.call(on_text=leave)

    call = desk.last_call()
    assert call.state == "unknown"
    assert call.generation_id == desk.lines_of(call)[0]["generation_id"] != ""


@pytest.mark.requirement("AUD-6")
def test_an_ending_is_written_once(desk):
    call = desk.call().call
    before = (len(events_of(call)), desk.account.spent)

    close_in_doubt(call=call)

    call.refresh_from_db()
    assert (len(events_of(call)), desk.account.spent, call.state) == (*before, "done")


@pytest.mark.requirement("AUD-6")
def test_a_late_answer_settles_a_call_that_was_given_up(desk):
    """A sweeper gives a call up while its worker, thought dead, still waits for the answer."""
    heard: list[str] = []

    def give_up(text: str) -> None:
        if not heard:
            close_in_doubt(call=desk.last_call())
            assert (desk.last_call().state, desk.account.reserved) == ("unknown", desk.last_call().credits_reserved)
        heard.append(text)

    done = desk.call(on_text=give_up)

    call = desk.last_call()
    assert [event.action for event in events_of(call)] == ["call.started", "call.finished", "call.settled"]
    assert (call.state, call.credits, desk.account.reserved) == ("done", 3, 0)
    assert events_of(call)[-1].cost_usd == picodollars(call.cost_usd) == picodollars(done.answer.cost_usd)
    assert json.loads(said(events_of(call)[-1])) == done.result


NO_EVENT = """
CREATE FUNCTION refuse_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.action = %s THEN RAISE EXCEPTION 'the log is full'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_event BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION refuse_event();
"""


def full_log(action: str) -> None:
    """Make the database refuse events of this kind, as a full disk would."""
    with connection.cursor() as cursor:
        cursor.execute(NO_EVENT.replace("%s", f"'{action}'"))


@pytest.mark.requirement("AUD-6", "AUD-7")
def test_without_a_record_there_is_no_call(desk):
    full_log("call.started")
    lines, count = len(desk.sandbox.journal()), Call.objects.count()

    with pytest.raises(DatabaseError, match="the log is full"):
        desk.call()

    assert len(desk.sandbox.journal()) == lines
    assert Call.objects.count() == count
    assert desk.account.reserved == 0


def test_an_end_that_cannot_be_written_leaves_the_call_sent_and_held(desk):
    full_log("call.finished")

    with pytest.raises(DatabaseError, match="the log is full"):
        desk.call()

    call = desk.last_call()
    assert (call.state, desk.account.reserved) == ("sent", call.credits_reserved)
    assert call.generation_id == desk.lines_of(call)[0]["generation_id"] != ""
    assert [event.action for event in events_of(call)] == ["call.started"]


def test_a_call_inside_somebody_elses_transaction_is_a_fault_of_ours(transactional_db, sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    desk = Desk(sandbox)
    lines = len(sandbox.journal())

    with pytest.raises(RuntimeError), transaction.atomic():
        desk.call()

    assert len(sandbox.journal()) == lines


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)
