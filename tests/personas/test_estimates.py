"""What a run will take, said before it starts, and held against what it took."""

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.urls import reverse

from integrations import catalog, catalog_reading
from integrations.actions import enable_for
from integrations.models import Call
from integrations.registry import get_tool
from personas import actions, estimates
from personas.execution import work
from personas.models import FlowVersion, Run
from personas.starting import start_run
from tests.integrations.desk import MODEL, QUESTION, Desk
from tests.personas.builders import make_flow, make_persona

pytestmark = pytest.mark.django_db(transaction=True)

CHAT = get_tool("openrouter", "create_chat_completion")


@pytest.fixture
def desk(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    catalog_reading.refresh(integration="openrouter", again_after=timedelta(0))
    catalog.forget()
    yield Desk(sandbox)
    catalog.forget()


def persona_of(desk: Desk, **what):
    persona = make_persona(desk.team, **({"chain": [MODEL], "max_tokens": 100} | what))
    enable_for(connection=desk.connection, persona_id=persona.pk, tools=[tool.name for tool in TOOLS], by=desk.owner)
    return persona


TOOLS = [CHAT, get_tool("openrouter", "list_providers")]


def prompt(persona, name: str = "one", text: str = "Say hello") -> dict:
    return {"kind": "prompt", "name": name, "persona": str(persona.pk), "template": text}


def read(persona, name: str = "list") -> dict:
    return {"kind": "tool", "name": name, "persona": str(persona.pk), "tool": "list_providers", "arguments": {}}


def estimate(desk: Desk, *stages: dict) -> estimates.Estimate:
    return estimates.of_flow(team=desk.team, version=make_flow(desk.team, list(stages)).version)


def test_a_flow_of_reads_takes_exactly_one_platform_credit_each_and_no_dollars(desk):
    persona = persona_of(desk)
    found = estimate(desk, read(persona), read(persona, "again"))
    assert (found.most_credits, found.most_usd) == (2, 0)


def test_a_run_never_takes_more_than_was_said(desk):
    persona = persona_of(desk)
    flow = make_flow(desk.team, [prompt(persona), prompt(persona, "two", "Again: {{ stage.one.output }}")])
    run = actions.run_flow(flow=flow, by=desk.owner, idempotency_key=uuid4().hex)
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    calls = Call.objects.filter(run_id=run.pk)
    assert (run.state, len(calls)) == (Run.State.SUCCEEDED, 2), run.failure
    assert sum(call.credits for call in calls) <= run.estimate["most_credits"]
    assert sum(call.cost_usd for call in calls) <= Decimal(run.estimate["most_usd"])
    assert run.estimate["likely_credits"] is None


def test_history_is_looked_for_among_the_newest_calls_of_a_team_alone(desk, monkeypatch):
    persona = persona_of(desk)
    desk.call(persona_id=persona.pk, persona_name=persona.name)
    desk.call("list_providers", {})
    assert estimate(desk, prompt(persona)).likely_credits is not None
    monkeypatch.setattr(estimates, "NEWEST", 1)
    assert estimate(desk, prompt(persona)).likely_credits is None


def test_what_was_taken_lately_is_likely(desk):
    persona = persona_of(desk)
    done = [desk.call(persona_id=persona.pk, persona_name=persona.name).call for _ in range(3)]
    found = estimate(desk, prompt(persona))
    assert found.likely_credits == sorted(call.credits for call in done)[1]
    assert found.likely_usd == sorted(call.cost_usd for call in done)[1]


def test_a_longer_answer_that_is_handed_on_raises_the_most(desk):
    short, long = persona_of(desk, name="Short"), persona_of(desk, name="Long", max_tokens=4000)
    two = "Again: {{ stage.one.output }}"
    assert estimate(desk, prompt(short), prompt(short, "two", two)).most_credits < (
        estimate(desk, prompt(long), prompt(short, "two", two)).most_credits
    )


def test_what_a_tool_lists_counts_with_the_models_whole_context(desk):
    persona = persona_of(desk)
    context = catalog.current().find(MODEL).context_length
    found = estimate(desk, read(persona), prompt(persona, text="Sum up {{ stage.list.output }}"))
    assert found.most_credits == 1 + 2 + -(-(context + 100) // 1000)


def test_without_a_known_context_there_is_no_bound_and_it_says_why(desk):
    persona = persona_of(desk, chain=["nobody/knows"])
    found = estimate(desk, read(persona), prompt(persona, text="Sum up {{ stage.list.output }}"))
    assert found.most_credits is None
    assert "stage" in found.unbounded.lower()


def test_an_unknown_price_is_not_nothing(desk):
    found = estimate(desk, prompt(persona_of(desk, chain=["nobody/knows"])))
    assert found.most_usd is None and found.most_credits


def test_the_dearest_model_of_a_chain_bounds_it(desk):
    dear = max(catalog.current().models.values(), key=lambda model: model.prices.tokens_out or 0).id
    alone = estimate(desk, prompt(persona_of(desk, name="One")))
    both = estimate(desk, prompt(persona_of(desk, name="Two", chain=[MODEL, dear])))
    assert both.most_usd > alone.most_usd


def test_one_call_holds_what_was_estimated_for_it(desk):
    persona = persona_of(desk)
    found = estimates.of_tool(team=desk.team, persona_id=persona.pk, tool=CHAT, arguments=QUESTION)
    call = desk.call(persona_id=persona.pk, persona_name=persona.name).call
    assert (found.most_credits, found.most_usd) == (call.credits_reserved, call.most_usd)


def test_the_console_says_what_a_call_takes_before_it_is_made(desk, client):
    persona = persona_of(desk)
    client.force_login(desk.owner)
    url = reverse("console_tool", args=[desk.team.slug, persona.slug, "openrouter", CHAT.name])
    empty = client.get(url).content.decode()
    assert "Fill in what is required" in empty
    filled = {"model": MODEL, "prompt": "Hello", "max_completion_tokens": "100", "estimate": "yes", "once": "x"}
    page = client.post(url, filled)
    assert page.status_code == 200
    assert "At most" in page.content.decode() and "platform credits" in page.content.decode()
    assert not Run.objects.exists()


def test_the_flow_says_what_a_run_takes(desk, client):
    flow = make_flow(desk.team, [prompt(persona_of(desk))])
    client.force_login(desk.owner)
    page = client.get(reverse("flow_detail", args=[desk.team.slug, flow.slug])).content.decode()
    assert "At most" in page


# --- lists, bounds, inputs --------------------------------------------------------------


def each(persona, over: str, template: str = "Say {{ item }}", **more) -> dict:
    do = {"kind": "prompt", "persona": str(persona.pk), "template": template}
    return {"kind": "each", "name": "all", "over": over, "do": do} | more


def test_a_list_counts_as_often_as_it_may_have_items(desk):
    persona = persona_of(desk)
    one = estimate(desk, prompt(persona, text="Say "))
    named = estimate(desk, each(persona, "a\nb\nc", most=50))
    assert named.most_credits == 3 * one.most_credits
    assert named.most_usd == pytest.approx(3 * one.most_usd, rel=Decimal("0.1"))
    first = prompt(persona)
    open_end = estimate(desk, first, each(persona, "{{ stage.one.output }}", most=50))
    assert open_end.most_credits >= 51 * one.most_credits
    assert estimate(desk, each(persona, "\n")).most_credits == 0


def test_what_a_list_gives_is_counted_where_it_is_handed_on(desk):
    persona = persona_of(desk)
    after = prompt(persona, "after", "Sum up {{ stage.all.output }}")
    few, many = (estimate(desk, each(persona, "a\n" * times), after) for times in (2, 40))
    alone = [estimate(desk, each(persona, "a\n" * times)) for times in (2, 40)]
    assert many.most_credits - alone[1].most_credits > few.most_credits - alone[0].most_credits


def test_a_stage_with_a_limit_in_dollars_costs_at_most_that(desk):
    persona, limit = persona_of(desk), Decimal("0.0001")
    assert estimate(desk, prompt(persona) | {"most_usd": str(limit)}).most_usd == limit
    assert estimate(desk, each(persona, "a\nb", most_usd=str(limit))).most_usd == limit
    assert estimate(desk, prompt(persona_of(desk, name="New", chain=["no/body"])) | {"most_usd": "1"}).most_usd == 1


def test_putting_an_answer_right_is_counted(desk):
    persona = persona_of(desk)
    formed = prompt(persona) | {"output_schema": {"type": "object", "properties": {}}}
    once, twice = estimate(desk, formed), estimate(desk, formed | {"retries": 1})
    assert twice.most_usd > 2 * once.most_usd
    assert estimate(desk, prompt(persona) | {"retries": 5}).most_usd == estimate(desk, prompt(persona)).most_usd


def test_a_run_counts_its_inputs_as_they_were_given(desk):
    persona = persona_of(desk)
    flow = make_flow(desk.team, [prompt(persona)])
    text = [prompt(persona, text="Sum up {{ input.text }}")]
    FlowVersion.objects.filter(pk=flow.version_id).update(stages=text, inputs=[{"name": "text"}])
    flow.version.refresh_from_db()
    usual = estimates.of_flow(team=desk.team, version=flow.version)
    short, long = (start_run(flow=flow, user=desk.owner, inputs={"text": "x" * size}) for size in (10, 90_000))
    assert short.estimate["most_credits"] <= usual.most_credits < long.estimate["most_credits"]


def test_a_stage_that_a_person_approves_takes_nothing(desk):
    found = estimate(desk, {"kind": "approve", "name": "check", "text": "Well?"})
    assert (found.most_credits, found.most_usd, found.likely_credits) == (0, 0, 0)


@pytest.mark.parametrize("stage", [{"kind": "tool", "tool": "no_such_tool"}, {"kind": "prompt", "template": "Hello"}])
def test_what_cannot_be_measured_starts_all_the_same_and_holds_up_no_other_run(desk, stage):
    persona = persona_of(desk, instructions="\x01" * 200_000)  # six bytes each on the wire, so over 1 MiB
    flow = make_flow(desk.team, [stage | {"name": "one", "persona": str(persona.pk)}])
    run = actions.run_flow(flow=flow, by=desk.owner, idempotency_key=uuid4().hex)
    assert run.estimate["most_credits"] is None
