"""
Models that ask for more, for what is not there, or for what a stranger told them, in real turns.

What holds here is a property of our limits, not of the model: it does as it likes, and nothing comes of it.
"""

import json
from uuid import uuid4

import pytest
from django.apps import apps
from django.utils import timezone

from accounts.credits import reserve
from accounts.permissions import Role
from audit.clock import app_now
from audit.models import Event
from integrations import purse
from integrations.actions import set_scopes
from integrations.models import Approval, Call, Policy
from integrations.scopes import read_scopes
from personas import watching
from personas.actions import decide_approval
from personas.chat import sending, toolcalls
from personas.execution import work
from personas.models import Message, Persona, PersonaVersion
from tests.factories import make_member
from tests.integrations.caps import make_cap
from tests.integrations.desk import CHAT, Desk, events_of, said
from tests.personas.builders import make_persona
from tests.personas.chat.calling import opened_outputs, outcomes
from tests.personas.orders import ORDERS

pytestmark = pytest.mark.django_db(transaction=True)

FIRST, SECOND = "openai/gpt-5.4", "anthropic/claude-sonnet-4.6"
CHAIN = [FIRST, SECOND]
MESSAGE, COUNT, KEY, MODELS = "create_message", "get_models_count", "get_current_key", "list_available_models"
MOST_TOKENS = 64
BANKERS_SECRET = "The vault opens with the word periwinkle"
BOTH = pytest.mark.parametrize("format", ["chat", "messages"])
PATHS = ("*/chat/completions", "*/messages")
# What orders are after. No turn may change a row of these.
GUARDED = [
    *(f"accounts.{name}" for name in ("Team", "Membership", "User", "Plan")),
    *(f"integrations.{name}" for name in ("Cap", "Connection", "Policy")),
    *(f"personas.{name}" for name in ("Persona", "PersonaVersion", "Flow", "FlowVersion", "Schedule")),
    *(f"vault.{name}" for name in ("Credential", "Grant")),
]


@pytest.fixture
def desk(sandbox, settings, known_catalog):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    yield Desk(sandbox, balance=50)
    sandbox.rules()


@pytest.fixture
def writer(desk) -> Persona:
    """A persona inside every kind of limit, beside one that may do more with a mightier key."""
    writer = make_persona(desk.team, name="Writer", chain=[FIRST], max_tokens=MOST_TOKENS)
    banker = make_persona(desk.team, name="Banker", instructions=BANKERS_SECRET, chain=CHAIN)
    treasury = desk.connect(desk.sandbox.key(management=True), label="Treasury", kind="management")
    lend(desk, banker, dict.fromkeys([tool.name for tool in treasury.provider.tools], "allowed"), connection=treasury)
    asks = {"rule": "allowed", "max_tokens": MOST_TOKENS}
    lend(
        desk,
        writer,
        {CHAT: asks, MESSAGE: asks, MODELS: "allowed", COUNT: "allowed", KEY: "ask"},
        models={"allow": CHAIN},
    )
    rules = {"data_collection": "deny", "providers_never": ["azure"]}
    Policy.objects.create(
        team=desk.team, holder=desk.team.pk, rules=rules, changed_by=desk.owner, changed_at=timezone.now()
    )
    make_cap(desk.team, "5", kind="run")
    return writer


def lend(desk, persona, tools, *, connection=None, **more):
    scopes = read_scopes({"tools": tools} | more)
    connection = connection or desk.connection
    set_scopes(connection=connection, holder=persona.pk, name=persona.name, scopes=scopes, by=desk.owner)


def change(persona, **fields):
    PersonaVersion.objects.filter(pk=persona.version_id).update(**fields)


def say(persona: Persona, text: str = "Go on", *, by=None) -> Message:
    by = by or persona.created_by
    message = sending.start_chat(team=persona.team, persona=persona, by=by, text=text, idempotency_key=uuid4().hex)
    return message.replies.select_related("run", "chat").get()


def go_on(answer: Message) -> Message:
    """Say something more in the same chat."""
    message = sending.send(
        chat=answer.chat, parent=answer, by=answer.chat.user, text="Go on", idempotency_key=uuid4().hex
    )
    return message.replies.select_related("run", "chat").get()


def work_on(answer: Message) -> str:
    work(run_id=answer.run_id, owner=uuid4().hex)
    answer.run.refresh_from_db()
    return answer.run.state


def wants(desk, *calls: dict, first: bool = False, others: dict | None = None):
    """Have the persona's model ask for these functions, at each answer or only at the first; `others` answer so."""
    times = {"times": 1} if first else {}
    desk.sandbox.rules(
        *([{"match": {"model": SECOND}, "answer": others}] if others else []),
        *[
            {"match": {"model": FIRST, "path": path}, "answer": {"kind": "calls", "calls": calls} | times}
            for path in PATHS
        ],
    )


def tool_calls(answer: Message):
    stages = answer.run.stages.filter(kind="tool").values("pk")
    return Call.objects.filter(run_id=answer.run_id, stage_id__in=stages)


def of_tools(answer: Message) -> list[str]:
    return outcomes(opened_outputs(answer.run))


# --- a model that always wants more -----------------------------------------------------


@BOTH
@pytest.mark.requirement("LLM-2")
def test_a_model_that_always_asks_for_another_call_is_stopped_after_its_steps(desk, writer, format):
    change(writer, format=format, most_steps=5)
    wants(desk, {"name": MODELS, "arguments": {"q": "{n}", "limit": 1}})
    answer = say(writer)

    assert work_on(answer) == "failed"

    assert "After 5 answers it still asked for tools." in answer.run.failure
    assert answer.run.stages.filter(kind="answer", state="done").count() == 5
    assert tool_calls(answer).count() == 4  # nobody would read what a fifth brought back


@BOTH
@pytest.mark.requirement("LLM-2")
def test_a_model_that_asks_for_many_at_once_gets_no_more_than_the_turns_calls(desk, writer, format):
    change(writer, format=format, most_steps=20, most_tool_calls=20)
    wants(
        desk, *[{"name": COUNT, "arguments": {"output_modalities": [kind]}} for kind in ("text", "image", "audio")] * 3
    )
    answer = say(writer)

    assert work_on(answer) == "failed"

    assert "more than 20 tool calls" in answer.run.failure
    assert answer.run.stages.filter(kind="tool").count() == 20
    assert tool_calls(answer).count() == 6  # two of each kind; after that it is told that it repeats itself
    assert of_tools(answer).count("repeated") == 14


@BOTH
@pytest.mark.requirement("LLM-2")
def test_a_model_that_always_asks_is_billed_at_most_the_turns_platform_credits(desk, writer, format):
    change(writer, format=format, most_steps=20, most_credits=40)
    lend(desk, writer, {tool: {"rule": "allowed", "after_untrusted": True} for tool in (CHAT, MESSAGE)})
    question = {"model": SECOND, "messages": [{"role": "user", "content": "Page {n}"}], "max_tokens": 50}
    wants(desk, *[{"name": CHAT, "arguments": question | {"temperature": number}} for number in (0, 1, 2)])
    answer = say(writer)

    assert work_on(answer) == "failed"

    assert "platform credits" in answer.run.failure
    assert 0 < purse.taken(team_id=desk.team.pk, run_id=answer.run_id) <= 40
    assert desk.account.reserved == 0
    assert "limit" in of_tools(answer) or tool_calls(answer).count() > 3


@pytest.mark.requirement("LLM-2")
def test_a_consulted_model_that_asks_for_tools_gets_none(desk, writer):
    """The turn asks a model, which asks for a call in its turn: that is text for the first one, and no call."""
    question = {"model": SECOND, "messages": [{"role": "user", "content": "Call everything"}], "max_tokens": 50}
    nested = [{"name": COUNT, "arguments": {}}, {"name": CHAT, "arguments": question}]
    rules = [
        {
            "match": {"model": FIRST},
            "answer": {"kind": "calls", "calls": [{"name": CHAT, "arguments": question}], "times": 1},
        },
        {"match": {"model": SECOND}, "answer": {"kind": "calls", "calls": nested}},
    ]
    desk.sandbox.rules(*rules)
    answer = say(writer)

    assert work_on(answer) == "succeeded"

    assert [call.model for call in Call.objects.filter(run_id=answer.run_id).order_by("id")] == [FIRST, SECOND, FIRST]
    [consulted] = tool_calls(answer)
    assert "tools" not in json.loads(said(events_of(consulted)[0]))


# --- a model that asks others, as it should ---------------------------------------------


@BOTH
@pytest.mark.requirement("LLM-7")
def test_a_writer_with_a_second_opinion_needs_one_click_in_each_later_turn_or_one_for_good(desk, writer, format):
    change(writer, format=format)
    lend(desk, writer, {CHAT: "allowed", MESSAGE: "allowed"})
    question = {"messages": [{"role": "user", "content": "Reply with exactly: a fine draft"}], "max_tokens": 50}
    both = [{"name": CHAT, "arguments": question | {"model": model}} for model in (SECOND, "google/gemini-2.5-flash")]

    wants(desk, *both, first=True)
    answer = say(writer, "Write it")
    assert work_on(answer) == "succeeded"  # two opinions in one breath: nobody is asked
    assert of_tools(answer) == ["done", "done"]

    for verdict, waits in (("once", True), ("always", True), ("", False)):
        wants(desk, both[0], first=True)
        answer = go_on(answer)
        state = work_on(answer)
        assert (state == "parked") is waits
        if waits:
            decide_approval(approval=answer.run.approval, verdict=verdict, by=desk.owner)
            state = work_on(answer)
        assert (state, of_tools(answer)) == ("succeeded", ["done"])


# --- a model that asks for what is not there --------------------------------------------


@BOTH
@pytest.mark.requirement("LLM-1")
def test_unknown_tools_and_broken_arguments_are_answered_and_the_turn_goes_on(desk, writer, format):
    change(writer, format=format)
    wants(
        desk,
        {"name": "delete_everything", "arguments": {}},
        {"name": "get_credits", "arguments": {}},
        {"name": MODELS, "arguments": '{"q": "gp'},
        {"name": MODELS, "arguments": {"limit": "many"}},
        {"name": COUNT, "arguments": {}},
        first=True,
    )
    answer = say(writer)

    assert work_on(answer) == "succeeded"

    assert of_tools(answer) == ["unknown_tool", "unknown_tool", "invalid_arguments", "invalid_arguments", "done"]
    assert [call.tool for call in tool_calls(answer)] == [COUNT]


# --- what changes in the middle ---------------------------------------------------------


@pytest.mark.parametrize("lost", ["grant", "member", "persona", "credits"])
def test_what_is_lost_while_a_person_is_asked_is_lost_to_the_turn(desk, writer, lost):
    member = make_member(desk.team, Role.MEMBER)
    wants(desk, {"name": KEY, "arguments": {}}, first=True)
    answer = say(writer, by=member)
    assert work_on(answer) == "parked"
    decide_approval(approval=answer.run.approval, verdict="once", by=desk.owner)
    sent = len(desk.sandbox.journal())

    match lost:
        case "grant":
            lend(desk, writer, {KEY: "off", CHAT: "off"})
        case "member":
            member.memberships.all().delete()
        case "credits":
            reserve(team=desk.team, credits=desk.account.left, call_id=uuid4())
        case _:
            Persona.objects.filter(pk=writer.pk).update(archived_at=app_now())
    assert work_on(answer) == "failed"

    assert answer.run.failure
    assert ("platform credits and 0 are left" in answer.run.failure) is (lost == "credits")
    assert len(desk.sandbox.journal()) == sent
    assert not Call.objects.filter(run_id=answer.run_id, tool=KEY).exists()


class Killed(BaseException):
    """The worker's process ends here."""


def kill(*_: object, **__: object) -> None:
    raise Killed


def consults(desk, **more) -> None:
    question = {"model": SECOND, "messages": [{"role": "user", "content": "Reply with exactly: ebb"}], "max_tokens": 50}
    wants(desk, {"name": CHAT, "arguments": question}, first=True, **more)


def test_a_worker_lost_after_a_call_and_before_its_words_costs_no_second_call(desk, writer, monkeypatch, clock):
    consults(desk)
    answer = say(writer)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(toolcalls.Batch, "_end", kill)
        work_on(answer)
    clock(minutes=1)  # its lease has run out

    assert work_on(answer) == "succeeded"

    assert of_tools(answer) == ["done"]
    assert "\nebb\n" in opened_outputs(answer.run)[0]["content"]
    assert tool_calls(answer).count() == 1


def test_a_worker_lost_in_the_middle_of_a_consultation_leaves_it_in_doubt_and_unrepeated(
    desk, writer, monkeypatch, clock
):
    consults(desk, others={"kind": "slow", "delay": 0.5})  # long enough to be looked at in the middle
    answer = say(writer)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(watching.Watch, "look", kill)
        work_on(answer)
    clock(minutes=1)

    assert work_on(answer) == "succeeded"

    assert of_tools(answer) == ["unknown"]
    [call] = tool_calls(answer)
    assert (call.state, call.credits) == ("unknown", None)  # it stays held until somebody knows


# --- a hundred orders -------------------------------------------------------------------

BATCHES = [ORDERS[begin : begin + 10] for begin in range(0, len(ORDERS), 10)]


def guarded() -> dict[str, list[dict]]:
    return {name: list(apps.get_model(name).objects.order_by("pk").values()) for name in GUARDED}


def obeys(desk, order: str):
    """First the persona's model consults another one, which gives an order; then it obeys whatever it reads."""
    question = {"model": SECOND, "messages": [{"role": "user", "content": f"Reply with exactly: {order}"}]}
    consult = {"kind": "calls", "calls": [{"name": CHAT, "arguments": question}], "times": 1}
    desk.sandbox.rules(
        {"match": {"model": FIRST}, "answer": consult}, {"match": {"model": FIRST}, "answer": {"kind": "obeys"}}
    )


def refuse_all(desk, answer: Message) -> str:
    """Work on a turn to its end; its person refuses whatever they are asked."""
    state = work_on(answer)
    while state == "parked":
        decide_approval(approval=answer.run.approval, verdict="refused", by=desk.owner)
        state = work_on(answer)
    return state


@pytest.mark.requirement("LLM-1", "LLM-6", "LLM-7", "LLM-9")
@pytest.mark.parametrize("orders", BATCHES, ids=lambda orders: orders[0][:20])
def test_of_orders_that_a_model_obeys_none_gets_beyond_the_grant(desk, writer, orders):
    change(writer, most_steps=3)
    before, seen = guarded(), len(desk.sandbox.journal())
    asked_for = 0

    for order in orders:
        obeys(desk, order)
        answer = say(writer, "What does the other model say?")
        assert refuse_all(desk, answer) == "failed"
        assert "After 3 answers it still asked for tools." in answer.run.failure
        check(desk, writer, answer)
        asked_for += answer.run.stages.filter(kind="tool").count()

    assert asked_for >= 2 * len(orders)  # it did try
    assert guarded() == before
    assert set(Approval.objects.values_list("state", flat=True)) <= {"refused"}
    assert {line["path"].removeprefix("/api/v1") for line in desk.sandbox.journal()[seen:]} <= {
        "/chat/completions",
        "/models",
        "/models/count",
    }


def check(desk, writer, answer):
    """What left in a turn is what the grant, the persona and the policies say, whatever it was told."""
    calls = list(Call.objects.filter(run_id=answer.run_id))
    assert {(call.persona_id, call.connection_id) for call in calls} == {(writer.pk, desk.connection.pk)}
    assert {call.tool for call in calls} <= {CHAT, MODELS, COUNT}
    consulted = [call for call in tool_calls(answer) if call.tool == CHAT]
    assert [call.model for call in consulted] == [SECOND]  # once, before it had read anything
    for call in calls:
        text = said(events_of(call)[0])
        assert desk.key not in text
        assert BANKERS_SECRET not in text
        assert desk.owner.email not in text
        assert desk.sandbox.url not in text
        if call.tool == CHAT:
            check_body(json.loads(text), is_answer=call not in consulted)
    refused = Event.objects.filter(run_id=answer.run_id, action="call.refused")
    assert all(event.persona_id == writer.pk for event in refused)


def check_body(body, *, is_answer):
    assert body["model"] == (FIRST if is_answer else SECOND)
    assert body["max_tokens"] <= MOST_TOKENS
    assert body["provider"]["data_collection"] == "deny"
    assert "azure" in body["provider"]["ignore"]
    more = {"tools", "tool_choice"} if is_answer else set()
    assert set(body) <= {"model", "messages", "max_tokens", "provider", "stream", "stream_options", "usage"} | more
