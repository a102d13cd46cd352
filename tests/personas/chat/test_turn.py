"""A turn, worked through by a worker against the stand-in: answers, tools, questions, stops and losses."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest

from accounts.models import Membership, Plan
from audit.clock import app_now
from audit.models import Content
from integrations.actions import enable_for, set_scopes
from integrations.models import Approval, Call, Pace
from integrations.scopes import read_scopes
from personas import actions, choosing, ledger, tasks
from personas.chat import left_behind, sending, turn
from personas.execution import work
from personas.models import Message, Persona, PersonaVersion, Run, StageRun
from tests.integrations.desk import Desk
from tests.personas.builders import make_persona
from tests.personas.chat.builders import make_chat, make_turn
from vault.content import open_content

pytestmark = pytest.mark.django_db
FIRST, SECOND = "openai/gpt-5.4", "anthropic/claude-sonnet-4.6"
TOOLS = ["create_chat_completion", "create_message", "get_current_key", "get_models_count", "list_providers"]
CHAT = "/chat/completions"
ALWAYS_LONG = {"match": {"path": CHAT}, "answer": {"kind": "slow", "delay": 0.2}}


def fault(model: str, status: int = 429, **more) -> dict:
    return {"match": {"model": model, "path": CHAT}, "answer": {"kind": "status", "status": status} | more}


@pytest.fixture
def desk(sandbox, settings) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    yield Desk(sandbox, balance=50)
    sandbox.rules()


@pytest.fixture
def persona(desk) -> Persona:
    persona = make_persona(desk.team, chain=[FIRST, SECOND])
    enable_for(connection=desk.connection, persona_id=persona.pk, tools=TOOLS, by=desk.owner)
    return persona


def say(persona: Persona, text: str, **more) -> Message:
    """Begin a chat and return the answer that is queued."""
    message = sending.start_chat(
        team=persona.team, persona=persona, by=persona.created_by, text=text, idempotency_key=uuid4().hex, **more
    )
    return message.replies.select_related("run", "chat").get()


def work_on(answer: Message) -> str:
    work(run_id=answer.run_id, owner=uuid4().hex)
    answer.run.refresh_from_db()
    return answer.run.state


def steps(answer: Message) -> list[tuple[str, str]]:
    return list(answer.run.stages.values_list("kind", "state"))


def said(answer: Message, place: int = -1) -> dict:
    """What one step of a turn put out."""
    ids = list(answer.run.stages.filter(output_content_id__isnull=False).values_list("output_content_id", flat=True))
    return json.loads(open_content(content=Content.objects.get(pk=ids[place])))


def calls(answer: Message) -> list[tuple[str, str]]:
    return list(Call.objects.filter(run_id=answer.run_id).order_by("id").values_list("tool", "state"))


def change(persona: Persona, **fields) -> None:
    PersonaVersion.objects.filter(pk=persona.version_id).update(**fields)


# --- answers ----------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["chat", "messages"])
def test_a_model_answers_in_either_format(desk, persona, format):
    change(persona, format=format)
    answer = say(persona, "Reply with exactly: tide")

    assert work_on(answer) == "succeeded"
    assert said(answer)["text"] == "tide"
    assert steps(answer) == [("answer", "done")]
    assert calls(answer) == [("create_message" if format == "messages" else "create_chat_completion", "done")]


def test_what_was_said_before_is_known_later(desk, persona):
    first = say(persona, "Reply with exactly: tide")
    work_on(first)
    message = sending.send(
        chat=first.chat, parent=first, by=first.chat.user, text="Reply with exactly: ebb", idempotency_key="second"
    )
    second = message.replies.select_related("run").get()
    assert work_on(second) == "succeeded"

    request = Call.objects.get(run_id=second.run_id)
    sent = json.loads(open_content(content=Content.objects.get(pk=request.request_content_id)))
    assert [(line["role"], line["content"]) for line in sent["messages"]][1:] == [
        ("user", "Reply with exactly: tide"),
        ("assistant", "tide"),
        ("user", "Reply with exactly: ebb"),
    ]


def test_another_model_answers_when_the_first_is_busy(sandbox, desk, persona):
    sandbox.rules(fault(FIRST))
    answer = say(persona, "Reply with exactly: tide")
    assert work_on(answer) == "succeeded"
    assert answer.run.stages.get().used_fallback


def test_a_chosen_model_has_no_fallback(sandbox, desk, persona):
    sandbox.rules(fault(SECOND, retry_after=40))
    answer = say(persona, "Reply with exactly: tide", models=[SECOND])
    assert work_on(answer) == "failed"
    assert "may be asked again in 40 s" in answer.run.failure
    assert set(Call.objects.filter(run_id=answer.run_id).values_list("model", flat=True)) == {SECOND}


def test_a_chat_says_that_all_are_busy_and_does_not_wait_for_hours(sandbox, desk, persona):
    sandbox.rules(fault(FIRST, retry_after=600), fault(SECOND, retry_after=600))
    answer = say(persona, "Reply with exactly: tide")
    assert work_on(answer) == "failed"
    assert answer.run.parked_until is None


def test_without_platform_credits_an_answer_says_what_to_do(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    poor = Desk(sandbox, plan=Plan.objects.create(key="small", name="Small", monthly_credits=2))
    persona = make_persona(poor.team, chain=[FIRST])
    enable_for(connection=poor.connection, persona_id=persona.pk, tools=TOOLS, by=poor.owner)
    answer = say(persona, "Reply with exactly: tide")

    assert work_on(answer) == "failed"
    assert "platform credits" in answer.run.failure
    assert calls(answer) == []


def test_a_moment_of_too_many_calls_is_waited_for(desk, persona, settings):
    settings.CALLS_A_MINUTE = settings.CALLS_A_MINUTE | {"member": 120}  # one each half second
    answer = say(persona, "Reply with exactly: tide")
    Pace.objects.update_or_create(
        team=desk.team, subject=f"member:{desk.owner.pk}", defaults={"due_at": app_now() + timedelta(seconds=60)}
    )

    assert work_on(answer) == "succeeded"


def test_a_longer_wait_for_too_many_calls_is_said(desk, persona, settings):
    settings.CALLS_A_MINUTE = settings.CALLS_A_MINUTE | {"member": 6}
    answer = say(persona, "Reply with exactly: tide")
    Pace.objects.update_or_create(
        team=desk.team, subject=f"member:{desk.owner.pk}", defaults={"due_at": app_now() + timedelta(seconds=60)}
    )

    assert work_on(answer) == "failed"
    assert "Try again in" in answer.run.failure


# --- tools ------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("format", ["chat", "messages"])
def test_a_tool_is_called_and_its_result_answered(desk, persona, format):
    change(persona, format=format)
    answer = say(persona, "Please get_models_count {}")

    assert work_on(answer) == "succeeded"
    assert steps(answer) == [("answer", "done"), ("tool", "done"), ("answer", "done")]
    assert [tool for tool, _ in calls(answer)][1] == "get_models_count"
    assert said(answer, 1)["outcome"] == "done"


@pytest.mark.django_db(transaction=True)
def test_two_tools_at_once_are_both_answered(desk, persona):
    answer = say(persona, "Please get_models_count {} and get_current_key {}")
    assert work_on(answer) == "succeeded"
    assert steps(answer) == [("answer", "done"), ("tool", "done"), ("tool", "done"), ("answer", "done")]
    assert {tool for tool, _ in calls(answer)} >= {"get_models_count", "get_current_key"}


@pytest.mark.django_db(transaction=True)
def test_a_tool_that_asks_first_waits_for_a_person_and_goes_on(desk, persona):
    rules = {"tools": dict.fromkeys(TOOLS, "allowed") | {"get_current_key": "ask"}}
    set_scopes(
        connection=desk.connection, holder=persona.pk, name=persona.name, scopes=read_scopes(rules), by=desk.owner
    )
    answer = say(persona, "Please get_current_key {}")

    assert work_on(answer) == "parked"
    approval = Approval.objects.get(run_id=answer.run_id)
    assert (approval.tool, approval.state) == ("get_current_key", "waiting")

    actions.decide_approval(approval=approval, verdict="once", by=desk.owner)
    assert work_on(answer) == "succeeded"
    assert said(answer, 1)["outcome"] == "done"


@pytest.mark.django_db(transaction=True)
def test_an_answer_that_was_allowed_and_then_erased_is_not_asked_for(desk, persona):
    rules = {"tools": {"create_chat_completion": "ask"}}
    set_scopes(
        connection=desk.connection, holder=persona.pk, name=persona.name, scopes=read_scopes(rules), by=desk.owner
    )
    answer = say(persona, "Reply with exactly: tide")
    work_on(answer)
    approval = Approval.objects.get(run_id=answer.run_id)
    actions.decide_approval(approval=approval, verdict="once", by=desk.owner)
    Content.objects.filter(pk=approval.arguments_content_id).update(ciphertext=None)

    assert work_on(answer) == "failed"
    assert "not kept any more" in answer.run.failure
    assert calls(answer) == []


@pytest.mark.django_db(transaction=True)
def test_a_refused_tool_is_told_to_the_model_which_then_answers(desk, persona):
    rules = {"tools": dict.fromkeys(TOOLS, "allowed") | {"get_current_key": "ask"}}
    set_scopes(
        connection=desk.connection, holder=persona.pk, name=persona.name, scopes=read_scopes(rules), by=desk.owner
    )
    answer = say(persona, "Please get_current_key {}")
    work_on(answer)

    actions.decide_approval(approval=Approval.objects.get(run_id=answer.run_id), verdict="refused", by=desk.owner)
    assert work_on(answer) == "succeeded"
    assert said(answer, 1)["outcome"] == "not_approved"
    assert "get_current_key" not in {tool for tool, _ in calls(answer)}


def test_the_last_step_of_a_turn_is_one_without_tools(desk, persona):
    change(persona, most_steps=1)
    answer = say(persona, "Please get_models_count {}")
    assert work_on(answer) == "succeeded"
    assert steps(answer) == [("answer", "done")]


# --- stopped, lost, forbidden ------------------------------------------------------------


def test_a_turn_that_was_stopped_before_it_began_asks_nobody(desk, persona):
    answer = say(persona, "Reply with exactly: tide")
    Run.objects.filter(pk=answer.run_id).update(stop_wanted_at=app_now())
    assert work_on(answer) == "stopped"
    assert calls(answer) == []


def test_a_turn_whose_worker_died_in_the_middle_is_never_sent_again(desk, persona):
    answer = say(persona, "Reply with exactly: tide")
    Run.objects.filter(pk=answer.run_id).update(state="running", fence=1, attempt=1, lease_until="2020-01-01T00:00Z")
    answer.run.stages.update(state=StageRun.State.RUNNING)

    assert work_on(answer) == "failed"
    assert answer.run.failure == turn.INTERRUPTED
    assert calls(answer) == []


def lose_the_worker(answer: Message, monkeypatch, *, after: str) -> None:
    """Work on a turn until this came, and leave it as a killed worker does."""

    def killed(*_, **__):
        raise SystemExit

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(*{"the answer": (ledger.Ledger, "asked_of"), "the choice": (choosing, "chosen")}[after], killed)
        work(run_id=answer.run_id, owner="lost")
    Run.objects.filter(pk=answer.run_id).update(lease_until="2020-01-01T00:00Z")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("format", ["chat", "messages"])
def test_an_answer_that_came_whole_before_its_worker_died_is_taken_from_the_log(desk, persona, monkeypatch, format):
    change(persona, format=format)
    answer = say(persona, "Please get_models_count {}")
    lose_the_worker(answer, monkeypatch, after="the answer")

    assert work_on(answer) == "succeeded"
    assert steps(answer) == [("answer", "done"), ("tool", "done"), ("answer", "done")]
    assert [tool for tool, _ in calls(answer)][1:-1] == ["get_models_count"]
    whole = say(persona, "Please get_models_count {}")
    work_on(whole)
    taken, usual = said(answer, 0), said(whole, 0)
    for each in (taken, usual):  # the model names each call anew
        each["replay"] = str(each["replay"]).replace(each["tool_calls"][0]["id"], "")
        each["tool_calls"][0]["id"] = ""
    assert taken == usual
    assert answer.run.attempts.get(stage__position=0).next_step == left_behind.WHY


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("CRASH-6")
def test_an_answer_that_came_whole_before_its_last_worker_died_is_taken_over_before_giving_up(
    desk, persona, monkeypatch
):
    known, unknown = (say(persona, "Reply with exactly: tide") for _ in range(2))
    lose_the_worker(known, monkeypatch, after="the answer")
    unknown.run.stages.update(state=StageRun.State.RUNNING)
    lost = {"state": "running", "attempt": Run.MAX_ATTEMPTS, "lease_until": "2020-01-01T00:00Z"}
    Run.objects.filter(pk__in=[known.run_id, unknown.run_id]).update(**lost)
    broken = say(persona, "Reply with exactly: tide")
    lose_the_worker(broken, monkeypatch, after="the answer")
    Run.objects.filter(pk=broken.run_id).update(**lost)
    whole = left_behind.answer_of

    def answer_of(run, stage, format):
        return whole(run, stage, format) if run.pk != broken.run_id else 1 / 0

    monkeypatch.setattr(left_behind, "answer_of", answer_of)
    tasks.sweep()

    assert work_on(known) == "succeeded"
    assert (said(known)["text"], calls(known)) == ("tide", [("create_chat_completion", "done")])
    for each in (unknown, broken):
        each.run.refresh_from_db()
        assert (each.run.state, each.run.gave_up) == ("failed", True)
    assert unknown.run.failure == turn.INTERRUPTED


def test_a_choice_of_a_model_is_never_taken_for_the_answer(desk, persona, monkeypatch):
    change(persona, routing="choose")
    answer = say(persona, "Reply with exactly: tide")
    lose_the_worker(answer, monkeypatch, after="the choice")

    assert work_on(answer) == "failed"
    assert answer.run.failure == turn.INTERRUPTED
    assert calls(answer) == [("create_chat_completion", "done")]


@pytest.mark.requirement("LLM-2")
@pytest.mark.parametrize("routing", ["order", "choose"])
def test_an_answer_does_not_outlast_its_turn_for_long(desk, persona, monkeypatch, routing):
    monkeypatch.setattr(turn, "LEAST_ANSWER", 1.0)
    desk.sandbox.rules({"match": {"path": CHAT}, "answer": {"kind": "silence", "delay": 20}})
    change(persona, most_seconds=10, routing=routing)
    answer = say(persona, "Reply with exactly: tide")
    begun = app_now() - timedelta(seconds=20)
    Run.objects.filter(pk=answer.run_id).update(queued_at=begun, started_at=begun)

    assert work_on(answer) == "failed"

    assert "It took longer than 10 seconds." in answer.run.failure
    assert calls(answer) == [("create_chat_completion", "unknown")]
    assert (app_now() - begun).total_seconds() < 32


@pytest.mark.parametrize(("last", "state"), [("tool", "failed"), ("answer", "succeeded")])
def test_a_turn_that_is_given_up_succeeded_only_if_an_answer_stands_at_its_end(desk, last, state):
    message = make_turn(make_chat(desk.team), tools=[{"name": "get_models_count"}])
    if last == "tool":
        message.run.stages.last().delete()
    Run.objects.update(state="running", finished_at=None, attempt=3, fence=3, lease_until="2020-01-01T00:00Z")

    tasks.sweep()

    message.run.refresh_from_db()
    assert message.run.state == state
    assert ("without beginning the answer" in message.run.failure) == (state == "failed")
    assert {kept for _, kept in steps(message)} == {"done"}


def test_a_member_who_left_is_not_answered(desk, persona):
    answer = say(persona, "Reply with exactly: tide")
    Membership.objects.filter(team=desk.team).delete()
    assert work_on(answer) == "failed"
    assert "no longer a member" in answer.run.failure
    assert calls(answer) == []


def test_a_persona_that_was_archived_meanwhile_does_not_answer(desk, persona):
    answer = say(persona, "Reply with exactly: tide")
    Persona.objects.update(archived_at=app_now())
    assert work_on(answer) == "failed"
    assert "was archived" in answer.run.failure


def test_a_turn_keeps_the_version_it_began_with(desk, persona):
    answer = say(persona, "Reply with exactly: tide")
    work_on(answer)
    assert answer.run.stages.get().persona_version_id == persona.version_id
