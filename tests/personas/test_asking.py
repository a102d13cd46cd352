"""A run that must ask first: parked without a worker, woken by a decision, and nothing is asked or called twice."""

import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.db import connection as database
from django.db import transaction

from accounts.models import Membership, User
from accounts.permissions import Role
from audit.clock import AppNow, app_now
from audit.models import Content, Event
from integrations import approvals
from integrations import tasks as integration_tasks
from integrations.actions import connect
from integrations.approvals import NeedsApproval, Question
from integrations.deciding import AlreadyDecided, NotYours
from integrations.models import Approval, Connection
from integrations.openrouter.tools import OPENROUTER
from personas import actions, asking, attempts, dispatch
from personas.ending import give_up_on
from personas.execution import work
from personas.leases import LeaseLost, claim
from personas.models import Run, StageRun
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow, make_persona

pytestmark = pytest.mark.django_db
MODEL = "openai/gpt-5-mini"


class Door:
    """The call path as far as it asks first: it lets a call through once, and only as it was asked."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.made: list[dict] = []
        self.die_before = self.die_after = False

    def ask(self, run, stage, tool, arguments, chain, asked=None, **_):
        question = self.question(run, stage, tool, arguments, chain)
        if asked is None:
            raise NeedsApproval(question)
        sha256 = approvals.check(asked.approval_id, question)
        self._die(self.die_before)
        with transaction.atomic():
            approvals.consume(
                approval_id=asked.approval_id,
                team_id=run.team_id,
                sha256=sha256,
                call_id=uuid4(),
                call_started_at=app_now(),
            )
        self.made.append(arguments)
        self._die(self.die_after)
        return SimpleNamespace(answer=SimpleNamespace(text="Sold.")), 0

    def _die(self, now: bool) -> None:
        if now:
            raise KeyboardInterrupt

    def question(self, run, stage, tool, arguments, chain) -> Question:
        return Question(
            team_id=run.team_id,
            connection_id=self.connection.pk,
            tool=tool,
            chain=tuple(filter(None, chain)),
            user_id=run.user_id,
            persona_id=stage.persona_id,
            persona_name=stage.persona.name,
            flow_id=run.flow_id,
            run_id=run.pk,
            stage_id=stage.pk,
            unattended=run.by_schedule,
            arguments=arguments,
            most_credits=4,
            most_usd=Decimal("0.02"),
        )


@pytest.fixture
def run() -> Run:
    persona = make_persona(make_team(), name="Broker")
    stage = {"kind": "prompt", "name": "sell", "persona": str(persona.pk), "template": "Sell the boat"}
    last = {"kind": "combine", "name": "all", "template": "{{ stage.sell.output }}"}
    flow = make_flow(persona.team, [stage, last])
    return actions.run_flow(flow=flow, by=owner_of(persona.team), idempotency_key=uuid4().hex)


@pytest.fixture
def door(run, monkeypatch) -> Door:
    key = "sk-or-v1-" + "0a" * 32
    door = Door(
        connect(team=run.team, integration=OPENROUTER, label="Main", kind="api_key", posted=key, by=owner_of(run.team))
    )
    monkeypatch.setattr(attempts, "ask", door.ask)
    return door


def turn(run: Run) -> list[str]:
    """Let a worker look at the run; return what became of it and of its stages."""
    work(run_id=run.pk, owner=uuid4().hex)
    run.refresh_from_db()
    return [run.state, *run.stages.values_list("state", flat=True)]


def decide(run: Run, verdict: str = "once", by: User | None = None) -> None:
    run.refresh_from_db()
    actions.decide_approval(approval=run.approval, verdict=verdict, by=by or owner_of(run.team))


def events(run: Run) -> list[str]:
    log = Event.objects.filter(team_id=run.team_id, run_id=run.pk).order_by("at", "id")
    return list(log.values_list("action", flat=True))


# --- waiting ----------------------------------------------------------------------------


def test_a_run_that_must_ask_waits_without_a_worker_until_the_question_expires(run, door):
    assert turn(run) == ["parked", "waiting", "waiting"]
    assert run.parked_until == run.approval.expires_at
    assert run.lease_until is None
    assert run.approval.expires_at - run.approval.asked_at == timedelta(hours=72)
    assert not Run.objects.claimable().filter(pk=run.pk).exists()
    assert turn(run) == ["parked", "waiting", "waiting"]  # a stray hint changes nothing
    assert events(run) == ["personas.run.queued", "approval.asked"]


def test_how_long_a_question_waits_is_a_setting(run, door, settings):
    settings.APPROVAL_HOURS = 2
    turn(run)
    assert run.approval.expires_at - run.approval.asked_at == timedelta(hours=2)


def test_a_run_that_is_taken_up_too_early_waits_on_with_the_same_question(run, door):
    turn(run)
    asked = run.approval
    Run.objects.filter(pk=run.pk).update(parked_until=AppNow())
    assert turn(run) == ["parked", "waiting", "waiting"]
    assert (run.approval, run.parked_until) == (asked, asked.expires_at)
    assert Approval.objects.count() == 1


# --- allowed ----------------------------------------------------------------------------


def test_an_allowed_call_is_made_as_it_was_asked_and_the_run_goes_on(run, door):
    turn(run)
    decide(run)
    assert turn(run) == ["succeeded", "done", "done"]
    assert [call["messages"][-1]["content"] for call in door.made] == ["Sell the boat"]
    assert events(run) == ["personas.run.queued", "approval.asked", "approval.allowed", "personas.run.succeeded"]
    run.approval.refresh_from_db()
    assert run.approval.state == "used"


@pytest.mark.requirement("LLM-8")
def test_what_was_allowed_is_called_though_the_persona_was_rewritten_meanwhile(run, door):
    turn(run)
    persona = run.stages.first().persona
    before = approvals.frozen_arguments(run.approval)
    actions.save_persona(
        persona=persona,
        name=persona.name,
        purpose="",
        by=run.user,
        instructions="Give it away.",
        chain=["openai/gpt-5-pro"],
        temperature=None,
        max_tokens=9000,
    )
    decide(run)
    assert turn(run) == ["succeeded", "done", "done"]
    assert door.made == [before]


def test_a_decision_before_the_hint_is_lost_is_found_by_the_sweeper(run, door, clock):
    turn(run)
    decide(run)  # and no message reaches a worker
    assert dispatch.sweep() == []
    clock(seconds=11)
    assert dispatch.sweep() == [run.pk]
    assert turn(run) == ["succeeded", "done", "done"]


# --- refused, too late, withdrawn -------------------------------------------------------


def test_a_refused_stage_fails_and_says_who_refused(run, door):
    turn(run)
    decide(run, "refused")
    assert turn(run) == ["failed", "failed", "skipped"]
    assert run.failure == f"{owner_of(run.team).email} refused this call. Change it, or run it again to ask anew."
    assert door.made == []


def test_a_question_nobody_answers_fails_its_stage_when_it_expires(run, door, clock):
    turn(run)
    clock(hours=73)
    assert dispatch.sweep() == [run.pk]
    assert turn(run) == ["failed", "failed", "skipped"]
    assert "expired" in run.failure
    assert events(run)[-2:] == ["approval.expired", "personas.run.failed"]


def test_a_call_that_was_allowed_and_came_too_late_is_not_made(run, door, clock):
    turn(run)
    decide(run)
    clock(hours=73)
    integration_tasks.sweep()
    assert turn(run) == ["failed", "failed", "skipped"]
    assert door.made == []


def test_stopping_a_run_takes_its_question_back(run, door):
    turn(run)
    actions.stop_run(run=run, by=run.user)
    assert turn(run) == ["stopped", "skipped", "skipped"]
    with pytest.raises(AlreadyDecided, match="withdrawn"):
        decide(run)
    assert "approval.withdrawn" in events(run)


def test_a_run_that_was_stopped_while_it_asked_ends_at_once(run, door):
    lease = claim(run_id=run.pk, owner="test")
    actions.stop_run(run=run, by=run.user)
    stage = run.stages.first()
    asking.park(run, stage, lease, door.question(run, stage, "create_chat_completion", {"model": MODEL}, [MODEL]))
    assert turn(run) == ["stopped", "skipped", "skipped"]
    assert Approval.objects.get().state == "withdrawn"


def test_a_run_whose_person_lost_their_role_fails_and_takes_its_question_back(run, door):
    turn(run)
    other = make_member(run.team, Role.ADMIN)
    decide(run, by=other)
    Membership.objects.filter(user=run.user).update(role=Role.AUDITOR)
    assert turn(run) == ["failed", "failed", "skipped"]
    assert Approval.objects.get().state == "withdrawn"
    assert door.made == []


def test_arguments_that_were_erased_fail_the_stage(run, door):
    turn(run)
    Content.objects.filter(pk=run.approval.arguments_content_id).update(ciphertext=None)
    decide(run)
    assert turn(run) == ["failed", "failed", "skipped"]
    assert "Run it again" in run.failure


# --- who decides ------------------------------------------------------------------------


@pytest.mark.requirement("LLM-8")
def test_who_may_not_decide_wakes_no_run(run, door):
    turn(run)
    with pytest.raises(NotYours):
        decide(run, by=make_member(run.team, Role.MEMBER))
    assert turn(run) == ["parked", "waiting", "waiting"]


@pytest.mark.django_db(transaction=True)
def test_a_decision_and_a_stop_at_once_leave_one_end(run, door):
    turn(run)
    owner, start = owner_of(run.team), threading.Barrier(2)
    told = []

    def tab(deed) -> None:
        start.wait()
        try:
            deed()
        except AlreadyDecided as error:
            told.append(str(error))
        finally:
            database.close()

    deeds = [
        lambda: actions.decide_approval(approval=run.approval, verdict="once", by=owner),
        lambda: actions.stop_run(run=run, by=owner),
    ]
    threads = [threading.Thread(target=tab, args=[deed]) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert turn(run) == ["stopped", "skipped", "skipped"]
    assert Approval.objects.get().state == "withdrawn"
    assert door.made == []


# --- workers that die -------------------------------------------------------------------


def die(run: Run) -> None:
    """Let a worker take the run and end in the middle, then let its lease run out."""
    with pytest.raises(KeyboardInterrupt):
        work(run_id=run.pk, owner="doomed")
    Run.objects.filter(pk=run.pk).update(lease_until=AppNow() - timedelta(seconds=1))


def test_a_worker_that_dies_before_it_asked_has_asked_nothing(run, door, monkeypatch):
    def gone(*_args, **_more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(asking.approvals, "ask", gone)
        die(run)
    assert not Approval.objects.exists()
    assert turn(run) == ["parked", "waiting", "waiting"]
    assert Approval.objects.count() == 1


@pytest.mark.requirement("LLM-8")
def test_a_worker_that_dies_before_the_call_leaves_the_approval_to_the_next(run, door):
    turn(run)
    decide(run)
    door.die_before = True
    die(run)
    door.die_before = False
    assert turn(run) == ["succeeded", "done", "done"]
    assert len(door.made) == 1


@pytest.mark.requirement("LLM-8")
def test_a_worker_that_dies_in_the_call_does_not_make_it_twice_but_asks_again(run, door):
    turn(run)
    first = run.approval
    decide(run)
    door.die_after = True
    die(run)
    door.die_after = False
    assert turn(run) == ["parked", "waiting", "waiting"]
    assert len(door.made) == 1
    assert run.approval != first
    decide(run)
    assert turn(run) == ["succeeded", "done", "done"]
    assert len(door.made) == 2


def test_a_run_that_is_given_up_takes_its_question_back(run, door):
    turn(run)
    decide(run)
    door.die_before = True
    die(run)
    run.refresh_from_db()
    give_up_on(run=run)
    assert Approval.objects.get().state == "withdrawn"


def test_who_lost_the_run_asks_nothing(run, door):
    lease = claim(run_id=run.pk, owner="slow")
    Run.objects.filter(pk=run.pk).update(fence=lease.fence + 1)
    stage = run.stages.first()
    with pytest.raises(LeaseLost):
        asking.park(run, stage, lease, door.question(run, stage, "create_chat_completion", {}, []))
    assert not Approval.objects.exists()


def test_another_stages_answer_allows_nothing(run, door):
    turn(run)
    decide(run)
    second = run.stages.last()
    assert asking.answer(run, second) is None
    StageRun.objects.filter(pk=second.pk).update(persona=run.stages.first().persona)
    second.refresh_from_db()
    question = door.question(run, second, "create_chat_completion", approvals.frozen_arguments(run.approval), [MODEL])
    with pytest.raises(approvals.NotApproved):
        approvals.check(run.approval, replace(question))
