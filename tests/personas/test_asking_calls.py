"""Asking first on a real service: what leaves, what does not, and whose word it was."""

import threading
from uuid import uuid4

import pytest
from django.db import connection as database
from django.test import Client
from django.urls import reverse

from audit.clock import AppNow, app_now
from audit.models import Event
from integrations.approvals import NeedsApproval, NotApproved
from integrations.calls import Caller, call_tool
from integrations.models import Approval, Call
from integrations.openrouter.client import OpenRouter
from integrations.registry import get_tool
from personas import actions, asking, dispatch
from personas.execution import work
from personas.models import Persona, Run
from tests.factories import owner_of
from tests.integrations.desk import CHAT, Desk
from tests.personas.builders import make_flow, make_persona, make_schedule
from vault import actions as vault
from vault.models import Grant

pytestmark = pytest.mark.django_db
FIRST, SECOND = "anthropic/claude-sonnet-4.6", "openai/gpt-5.4-mini"
ASK = {"rule": "ask"}


@pytest.fixture
def desk(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    yield Desk(sandbox)
    sandbox.rules()


@pytest.fixture
def persona(desk) -> Persona:
    persona = make_persona(desk.team, name="Broker", chain=[FIRST, SECOND], max_tokens=60)
    lend(desk, persona, {CHAT: ASK, "get_current_key": ASK})
    return persona


def lend(desk: Desk, persona: Persona, tools: dict, **more) -> Grant:
    scopes = {"tools": tools} | more
    return vault.grant(
        team=desk.team,
        holder=persona.pk,
        connection=desk.connection.pk,
        scopes=scopes,
        by=desk.owner,
        at=app_now(),
    )


def flow_of(persona: Persona):
    stage = {"kind": "prompt", "name": "sell", "persona": str(persona.pk), "template": "Sell the boat"}
    last = {"kind": "combine", "name": "all", "template": "{{ stage.sell.output }}"}
    return make_flow(persona.team, [stage, last])


@pytest.fixture
def run(persona) -> Run:
    return actions.run_flow(flow=flow_of(persona), by=owner_of(persona.team), idempotency_key=uuid4().hex)


def turn(run: Run) -> list[str]:
    """Let a worker look at the run; return what became of it and of its stages."""
    work(run_id=run.pk, owner=uuid4().hex)
    run.refresh_from_db()
    return [run.state, *run.stages.values_list("state", flat=True)]


def decide(run: Run, verdict: str = "once") -> None:
    """Press the button as the owner does."""
    run.refresh_from_db()
    client = Client()
    client.force_login(owner_of(run.team))
    address = reverse("approval_decide", args=[run.team.slug, run.approval_id])
    assert client.post(address, {"verdict": verdict}).status_code == 302


def calls(run: Run) -> list[Call]:
    return list(Call.objects.filter(run_id=run.pk).order_by("started_at"))


def lines(desk: Desk) -> int:
    """How many model calls the service has seen."""
    return sum(line["path"].endswith("/chat/completions") for line in desk.sandbox.journal())


# --- from question to answer ------------------------------------------------------------


@pytest.mark.requirement("LLM-8")
def test_a_flow_that_must_ask_parks_sends_nothing_and_finishes_when_it_is_allowed(desk, run):
    before = lines(desk)
    assert turn(run) == ["parked", "waiting", "waiting"]
    assert (calls(run), lines(desk), desk.account.reserved) == ([], before, 0)
    assert run.approval.chain == [FIRST, SECOND]
    assert run.approval.most_credits > 0

    decide(run)

    assert turn(run) == ["succeeded", "done", "done"]
    (call,) = calls(run)
    approval = Approval.objects.get()
    assert lines(desk) == before + 1
    assert (approval.state, approval.call_id, call.approval_id) == ("used", call.pk, approval.pk)
    assert call.credits <= approval.most_credits
    log = Event.objects.filter(team_id=desk.team.pk, run_id=run.pk).order_by("at", "id")
    assert list(log.values_list("action", flat=True)) == [
        "personas.run.queued",
        "approval.asked",
        "approval.allowed",
        "call.started",
        "call.finished",
        "personas.run.succeeded",
    ]


def test_a_refused_flow_sends_nothing(desk, run):
    before = lines(desk)
    turn(run)
    decide(run, "refused")
    assert turn(run) == ["failed", "failed", "skipped"]
    assert (calls(run), lines(desk)) == ([], before)


def test_a_schedule_asks_as_a_person_does(desk, persona, clock):
    make_schedule(flow_of(persona))
    clock(minutes=1)
    dispatch.dispatch()
    run = Run.objects.get()
    assert turn(run) == ["parked", "waiting", "waiting"]
    assert run.approval.unattended
    decide(run)
    assert turn(run) == ["succeeded", "done", "done"]


def test_a_tool_run_by_hand_asks_too(desk, persona):
    tool = get_tool("openrouter", "get_current_key")
    run = actions.run_tool(persona=persona, tool=tool, arguments={}, by=desk.owner, idempotency_key=uuid4().hex)
    assert turn(run) == ["parked", "waiting"]
    assert run.approval.chain == []
    decide(run)
    assert turn(run) == ["succeeded", "done"]


def test_what_is_allowed_for_ever_is_not_asked_again(desk, persona, run):
    turn(run)
    decide(run, "always")
    assert turn(run) == ["succeeded", "done", "done"]
    again = actions.run_flow(flow=run.flow, by=desk.owner, idempotency_key=uuid4().hex)
    assert turn(again) == ["succeeded", "done", "done"]
    assert Approval.objects.get().state == "used"


# --- what changed meanwhile -------------------------------------------------------------


@pytest.mark.requirement("LLM-8")
def test_an_approval_outlives_no_grant_and_is_not_used_up_by_the_refusal(desk, run):
    before = lines(desk)
    turn(run)
    decide(run)
    grant = Grant.objects.live().get(team=desk.team)
    vault.revoke_grant(grant=grant, by=desk.owner, at=app_now())
    assert turn(run) == ["failed", "failed", "skipped"]
    assert "no grant" in run.failure
    assert (calls(run), lines(desk)) == ([], before)
    assert Approval.objects.get().state == "withdrawn"  # by the end of its run


def test_a_tool_that_was_switched_off_after_it_was_allowed_is_not_called(desk, persona, run):
    turn(run)
    decide(run)
    lend(desk, persona, {CHAT: {"rule": "off"}})
    assert turn(run) == ["failed", "failed", "skipped"]
    assert calls(run) == []


@pytest.mark.requirement("LLM-8")
def test_arguments_that_were_pinned_after_it_was_allowed_are_another_call(desk, persona, run):
    turn(run)
    decide(run)
    lend(desk, persona, {CHAT: ASK | {"pinned": {"temperature": 2.0}}})
    assert turn(run) == ["failed", "failed", "skipped"]
    assert "not the call that was allowed" in run.failure
    assert calls(run) == []


# --- tries ------------------------------------------------------------------------------


def test_a_fallback_that_was_shown_needs_no_second_approval(desk, run):
    desk.sandbox.rules({"match": {"model": FIRST}, "answer": {"kind": "status", "status": 429, "retry_after": 60}})
    turn(run)
    decide(run)
    assert turn(run) == ["succeeded", "done", "done"]
    failed, done = calls(run)
    assert (failed.state, failed.credits, done.state) == ("failed", 0, "done")
    approval = Approval.objects.get()
    assert (approval.call_id, failed.approval_id, done.approval_id) == (done.pk, approval.pk, approval.pk)


class Dying(OpenRouter):
    """A worker that ends when its request is out."""

    def send(self, *_args, **_more):
        raise KeyboardInterrupt


@pytest.mark.requirement("LLM-8")
def test_a_call_that_may_have_been_made_is_asked_about_again(desk, run, monkeypatch):
    turn(run)
    first = run.approval
    decide(run)
    with monkeypatch.context() as patched:
        patched.setattr(OpenRouter, "send", Dying.send)
        with pytest.raises(KeyboardInterrupt):
            work(run_id=run.pk, owner="doomed")
    Run.objects.filter(pk=run.pk).update(lease_until=AppNow())

    assert turn(run) == ["parked", "waiting", "waiting"]
    (lost,) = calls(run)
    first.refresh_from_db()
    assert (lost.state, first.state, run.approval.state) == ("unknown", "used", "waiting")
    decide(run)
    assert turn(run) == ["succeeded", "done", "done"]


@pytest.mark.requirement("LLM-8")
@pytest.mark.django_db(transaction=True)
def test_of_two_workers_with_one_approval_one_call_leaves(desk, run):
    turn(run)
    decide(run)
    stage = run.stages.select_related("persona").first()
    run = Run.objects.select_related("team", "user").get(pk=run.pk)
    asked = asking.answer(run, stage)
    caller = Caller(
        user=run.user,
        actor=desk.caller().actor,
        persona_id=stage.persona_id,
        persona_name=stage.persona.name,
        flow_id=run.flow_id,
        run_id=run.pk,
        stage_id=stage.pk,
    )
    before, start, ends = lines(desk), threading.Barrier(2), []

    def worker() -> None:
        start.wait()
        try:
            call_tool(
                team=run.team,
                connection=asked.connection,
                tool=asked.tool,
                arguments=asked.arguments,
                caller=caller,
                approval_id=asked.approval_id,
                chain=asked.chain,
            )
            ends.append("called")
        except (NotApproved, NeedsApproval):
            ends.append("refused")
        finally:
            database.close()

    threads = [threading.Thread(target=worker) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(ends) == ["called", "refused"]
    assert lines(desk) == before + 1
    assert desk.account.reserved == 0


def test_a_pinned_model_is_what_is_asked_about_and_what_is_called(desk, persona):
    lend(desk, persona, {CHAT: ASK | {"pinned": {"model": "openai/gpt-5.4"}}})
    run = actions.run_flow(flow=flow_of(persona), by=desk.owner, idempotency_key=uuid4().hex)
    assert turn(run)[0] == "parked"
    assert Approval.objects.get(run_id=run.pk).chain == ["openai/gpt-5.4"]
    decide(run)
    assert turn(run)[0] == "succeeded"
    assert [call.model for call in calls(run)] == ["openai/gpt-5.4"]
