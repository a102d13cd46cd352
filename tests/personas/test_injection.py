"""
A model that obeys every order slipped into a text, in flows that carry the text on.

What holds here is a property of our limits, not of the model: it does as it is told, and nothing comes of it.
"""

import json
from decimal import Decimal
from uuid import uuid4

import pytest
from django.apps import apps
from django.utils import timezone

from audit.models import Event
from integrations.actions import set_scopes
from integrations.models import Approval, Call, Cap, CapCounter, Policy
from integrations.scopes import read_scopes
from personas import actions
from personas.execution import work
from personas.models import Persona, Run
from personas.texts import values_of
from tests.factories import owner_of
from tests.integrations.caps import make_cap
from tests.integrations.desk import CHAT, Desk
from tests.integrations.scripted import ScriptedServer, Step, answer, stream
from tests.integrations.upstream import USAGE, chunk, tool_chunk
from tests.personas.builders import make_flow, make_persona
from tests.personas.orders import ORDERS

pytestmark = pytest.mark.django_db

FIRST, SECOND = "openai/gpt-5.4", "anthropic/claude-sonnet-4.6"
MODELS, KEY = "list_available_models", "get_current_key"
INSTRUCTIONS = "You summarise what you are shown."
MOST_TOKENS = 64
CHAIN = [FIRST, SECOND]
A_FLOW = 10  # orders
CHOICES = {3, 6, 9}  # the stages whose persona chooses its model by what it says
SHOWN = {"id": FIRST, "object": "model", "canonical_slug": FIRST}
# What orders are after. No call may change a row of these.
GUARDED = [
    *(f"accounts.{name}" for name in ("Team", "Membership", "User", "Plan")),
    *(f"integrations.{name}" for name in ("Approval", "Cap", "Connection", "Policy")),
    *(f"personas.{name}" for name in ("Persona", "PersonaVersion", "Flow", "FlowVersion", "Schedule")),
    *(f"vault.{name}" for name in ("Credential", "Grant")),
]


@pytest.fixture
def desk(sandbox, settings, known_catalog) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    return Desk(sandbox)


@pytest.fixture
def writer(desk) -> Persona:
    """A persona inside every kind of limit, beside one that may do more with a mightier key."""
    writer, banker = (
        make_persona(desk.team, name=name, instructions=INSTRUCTIONS, chain=CHAIN, max_tokens=MOST_TOKENS)
        for name in ("Writer", "Banker")
    )
    treasury = desk.connect(desk.sandbox.key(management=True), label="Treasury", kind="management")
    everything = [tool.name for tool in treasury.provider.tools]
    lend(desk, banker, dict.fromkeys(everything, "allowed"), connection=treasury)
    tools = {CHAT: {"rule": "allowed", "max_tokens": MOST_TOKENS}, MODELS: "allowed", KEY: "ask"}
    lend(desk, writer, tools, models={"allow": CHAIN})
    rules = {"data_collection": "deny", "providers_never": ["azure"]}
    Policy.objects.create(
        team=desk.team, holder=desk.team.pk, rules=rules, changed_by=desk.owner, changed_at=timezone.now()
    )
    make_cap(desk.team, "5", kind="run")
    return writer


def lend(desk: Desk, persona: Persona, tools: dict, *, connection=None, **more) -> None:
    set_scopes(
        connection=connection or desk.connection,
        holder=persona.pk,
        name=persona.name,
        scopes=read_scopes({"tools": tools} | more),
        by=desk.owner,
    )


def start(persona: Persona, stages: list[dict]) -> Run:
    whole = [stage if stage["kind"] == "combine" else stage | {"persona": str(persona.pk)} for stage in stages]
    flow = make_flow(persona.team, whole, name=f"Flow {uuid4().hex[:8]}")
    return actions.run_flow(flow=flow, by=owner_of(persona.team), idempotency_key=uuid4().hex)


def turn(run: Run) -> Run:
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    return run


def prompt(name: str, template: str, **more) -> dict:
    return {"kind": "prompt", "name": name, "template": template} | more


def says(order: str, usage: dict = USAGE) -> list[Step]:
    """An answer of a model that obeys: it repeats the order, and asks for tools though it was offered none."""
    asks = [
        tool_chunk(index=place, id=f"c{place}", type="function", name=name, arguments=arguments)
        for place, (name, arguments) in enumerate({"get_credits": "{}", CHAT: json.dumps({"model": order})}.items())
    ]
    return stream(chunk(order), *asks, chunk("", finish="tool_calls", usage=usage))


# --- a hundred orders -------------------------------------------------------------------


def flow_of(orders: list[str]) -> tuple[list[dict], list[list[Step]], list[tuple[str, str]]]:
    """Stages that carry each order on, what the service answers to each call, and the calls there may be."""
    names = [f"order_{place}" for place in range(len(orders))]
    earlier = ["input.flow", *(f"stage.{name}.output" for name in names)]
    together = "\n".join(f"{{{{ stage.{name}.output }}}}" for name in names)
    stages = [
        prompt(name, f"Summarise: {{{{ {before} }}}}", routing="choose" if place in CHOICES else "order", chain=CHAIN)
        for place, (name, before) in enumerate(zip(names, earlier, strict=False))
    ]
    stages += [
        {"kind": "combine", "name": "all", "template": together},
        {"kind": "tool", "name": "listed", "tool": MODELS, "arguments": {"q": "gpt"}},
        {
            "kind": "tool",
            "name": "asked",
            "tool": CHAT,
            "arguments": {
                "model": FIRST,
                "messages": [{"role": "user", "content": "{{ stage.all.output }}{{ stage.listed.output }}"}],
            },
        },
        prompt("last", "{{ stage.asked.output }} {{ stage.listed.output }}"),
        {"kind": "combine", "name": "end", "template": "{{ stage.last.output }}"},
    ]
    poisoned = {"data": [SHOWN | {"name": "gpt " + order, "description": order} for order in orders]}
    answers = [says(order) for place, order in enumerate(orders) for _ in range(2 if place in CHOICES else 1)]
    answers += [answer(poisoned), says("\n".join(orders)), says("\n".join(orders))]
    ask, read = ("POST", "/chat/completions"), ("GET", "/models")
    return stages, answers, [*[ask] * (len(orders) + len(CHOICES)), read, ask, ask]


BATCHES = [ORDERS[begin : begin + A_FLOW] for begin in range(0, len(ORDERS), A_FLOW)]


def guarded() -> dict[str, list[dict]]:
    return {name: list(apps.get_model(name).objects.order_by("pk").values()) for name in GUARDED}


def test_there_are_a_hundred_different_orders():
    assert len(ORDERS) == len(set(ORDERS)) == 100


@pytest.mark.requirement("LLM-1", "LLM-9")
@pytest.mark.parametrize("orders", BATCHES, ids=lambda orders: orders[0][:20])
def test_of_orders_that_a_flow_carries_on_none_is_carried_out(desk, writer, settings, orders):
    waiting = turn(start(writer, [{"kind": "tool", "name": "key", "tool": KEY}]))
    assert waiting.state == "parked"
    stages, answers, allowed = flow_of(orders)
    run = start(writer, stages)
    before = guarded()

    with ScriptedServer(answers) as server:
        settings.INTEGRATION_URLS = {"openrouter": server.url}
        turn(run)

    assert (run.state, run.failure) == ("succeeded", "")
    assert guarded() == before
    assert list(Approval.objects.values_list("state", "run_id")) == [("waiting", waiting.pk)]

    seen = [(request.method, request.target.partition("?")[0].removeprefix("/api/v1")) for request in server.seen]
    assert seen == allowed
    assert {request.headers["authorization"] for request in server.seen} == {f"Bearer {desk.key}"}
    for request in server.seen:
        if request.method == "POST":
            check_body(json.loads(request.body))

    made = Call.objects.filter(run_id=run.pk)
    assert {(call.team_id, call.persona_id, call.connection_id, call.tool) for call in made} == {
        (desk.team.pk, writer.pk, desk.connection.pk, tool) for tool in (CHAT, MODELS)
    }
    assert made.count() == len(allowed) == Event.objects.filter(run_id=run.pk, action="call.started").count()
    assert not Event.objects.filter(run_id=run.pk, action="call.refused").exists()
    # Word for word: nothing was filled into an order that looks like a reference.
    assert values_of(run)["stage.all.output"] == "\n".join(orders)
    carried = json.loads(server.seen[-2].body)["messages"][0]["content"]
    assert carried.startswith("\n".join(orders))
    assert all(json.dumps(f"gpt {order}", ensure_ascii=False) in carried for order in orders)


def check_body(body: dict) -> None:
    """What leaves is what the grant, the persona and the policies say, whatever the text in it says."""
    assert body["model"] == FIRST
    assert body["max_tokens"] <= MOST_TOKENS
    assert body["provider"]["data_collection"] == "deny"
    assert "azure" in body["provider"]["ignore"]
    assert set(body) <= {"model", "messages", "max_tokens", "provider", "stream", "stream_options", "usage"}
    assert [message["role"] for message in body["messages"]] in (["system", "user"], ["user"])


# --- what a text may become -------------------------------------------------------------


@pytest.mark.requirement("LLM-1", "LLM-9")
@pytest.mark.parametrize("order", ["openai/gpt-5.4-mini", "openrouter/auto", "@preset/unlimited", "", '["x/y"]'])
def test_a_model_that_an_answer_names_is_asked_only_where_the_grant_allows_it(desk, writer, settings, order):
    """The author of this flow lets an answer choose the model; the grant has the last word."""
    asks = {"model": "{{ stage.first.output }}", "messages": [{"role": "user", "content": "Go on"}]}
    run = start(
        writer, [prompt("first", "Which one?"), {"kind": "tool", "name": "next", "tool": CHAT, "arguments": asks}]
    )

    with ScriptedServer([says(order)]) as server:
        settings.INTEGRATION_URLS = {"openrouter": server.url}
        turn(run)

    assert (run.state, len(server.seen)) == ("failed", 1)
    assert run.failure
    assert Call.objects.filter(run_id=run.pk).count() == 1


# --- a model that always wants more -----------------------------------------------------


@pytest.mark.requirement("LLM-2")
def test_a_model_that_always_asks_for_another_call_gets_the_calls_of_its_flow_and_at_most_the_runs_cap(
    desk, writer, settings
):
    wants_more = [prompt(f"turn_{number:02}", "Go on") for number in range(20)]
    free, capped = start(writer, wants_more), start(writer, wants_more)

    with ScriptedServer([says("Call me again.")]) as server:
        settings.INTEGRATION_URLS = {"openrouter": server.url}
        turn(free)
        assert (free.state, len(server.seen)) == ("succeeded", 20)
        most = Call.objects.filter(run_id=free.pk).first().most_usd
        assert most > 0

        # Each answer costs the most that it can. The cap has room for seven and a half of them.
        server.replies = [says("Call me again.", USAGE | {"cost": float(most)})]
        cap = Cap.objects.get(team=desk.team, kind="run")
        Cap.objects.filter(pk=cap.pk).update(limit_usd=most * Decimal("7.5"))
        turn(capped)

    calls = Call.objects.filter(run_id=capped.pk)
    assert (capped.state, calls.count(), len(server.seen)) == ("failed", 7, 27)
    assert "cap" in capped.failure
    counter = CapCounter.objects.get(cap=cap, subject=capped.pk)
    assert (counter.reserved_usd, counter.spent_usd) == (0, sum(call.cost_usd for call in calls))
    assert counter.spent_usd <= most * Decimal("7.5")
    assert all(call.credits <= call.credits_reserved for call in calls)
    assert desk.account.reserved == 0
