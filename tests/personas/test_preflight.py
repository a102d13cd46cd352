"""Before a run: what would stand in its way is found without a call, and is what the call would say."""

import pytest
from django.urls import reverse

from integrations import catalog
from integrations.actions import enable_for
from personas import approving, drafting, flow_actions, preflight
from personas.models import Flow, FlowVersion, Persona, Run
from personas.repeating import CannotRepeat, run_again_from
from tests.factories import make_team, owner_of
from tests.integrations.catalog_fixture import read_catalog
from tests.personas.builders import make_flow, make_persona
from tests.personas.flowing import MODEL, combine, go, make_desk, make_writer, prompt, start, when
from vault.models import Grant

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(sandbox, settings):
    return make_desk(sandbox, settings)


def look(flow: Flow, **more) -> list[preflight.Finding]:
    return preflight.findings(flow=flow, version=flow.version, by=owner_of(flow.team), **more)


def said(flow: Flow, **more) -> list[tuple[str, bool]]:
    return [(finding.words, finding.stops) for finding in look(flow, **more)]


def limit(persona: Persona, **scopes) -> None:
    grant = Grant.objects.live().get(holder=persona.pk)
    Grant.objects.filter(pk=grant.pk).update(scopes=grant.scopes | scopes)


def tool(persona: Persona, name: str, **more) -> dict:
    return {"kind": "tool", "name": "used", "persona": str(persona.pk), "tool": name} | more


def test_a_flow_that_can_run_has_nothing_in_its_way_and_nothing_is_sent(desk):
    writer = make_writer(desk, tools=("get_credits",))
    each = {"kind": "each", "name": "all", "over": "a\nb", "do": prompt(writer) | {"template": "{{ item }}"}}
    del each["do"]["name"]
    flow = make_flow(desk.team, [prompt(writer), tool(writer, "get_credits"), each, combine("end", "x")])
    before = desk.sandbox.journal()
    assert look(flow) == []
    assert desk.sandbox.journal() == before
    assert not Run.objects.exists()


def test_a_persona_without_a_connection_is_named_with_its_page():
    team = make_team()
    writer = make_persona(team)
    found = look(make_flow(team, [prompt(writer)]))
    assert [(each.stage, each.persona, each.stops) for each in found] == [("ask", writer, True)]
    assert found[0].words == "Writer has no connection to OpenRouter. Enable one on the persona's page."


def test_a_tool_that_is_not_granted_stops_and_one_that_asks_first_waits(desk):
    writer = make_writer(desk)
    flow = make_flow(desk.team, [tool(writer, "get_credits")])
    [(words, stops)] = said(flow)
    assert "Get credits" in words and stops
    enable_for(connection=desk.connection, persona_id=writer.pk, tools=["get_credits"], by=desk.owner)
    limit(writer, tools={"get_credits": {"rule": "ask"}})
    assert said(flow) == [("Get credits asks a person first.", False)]


def test_a_prompt_goes_on_while_one_of_its_models_may_be_asked(desk):
    writer = make_persona(desk.team, chain=["anthropic/claude-haiku-4.5", MODEL])
    enable_for(connection=desk.connection, persona_id=writer.pk, tools=["create_chat_completion"], by=desk.owner)
    limit(writer, models={"allow": ["openai/*"]})
    flow = make_flow(desk.team, [prompt(writer)])
    [(words, stops)] = said(flow)
    assert "claude-haiku-4.5 is not among those allowed" in words and not stops
    limit(writer, models={"allow": ["mistralai/*"]})
    assert [stops for _, stops in said(flow)] == [True, True]


@pytest.fixture
def listed(desk):
    yield read_catalog(desk.sandbox)
    catalog.forget()


def test_a_persona_that_leaves_the_model_to_a_rule_is_looked_at_with_what_the_rule_finds(desk, listed):
    writer = make_persona(desk.team, chain=[], routing="cheapest")
    enable_for(connection=desk.connection, persona_id=writer.pk, tools=["create_chat_completion"], by=desk.owner)
    flow = make_flow(desk.team, [prompt(writer)])
    assert said(flow) == []
    limit(writer, tools={"create_chat_completion": {"rule": "ask"}})
    assert said(flow) == [("Create chat completion asks a person first.", False)]  # once, whatever the model


def test_a_persona_that_is_gone_or_has_no_version_is_found(desk):
    writer, other = make_writer(desk), make_writer(desk, name="Other")
    flow = make_flow(desk.team, [prompt(writer), prompt(other, "again")])
    Persona.objects.filter(pk=writer.pk).update(archived_at=flow.created_at)
    Persona.objects.filter(pk=other.pk).update(draft=other.version_id, version=None)
    assert said(flow) == [
        ("Its persona is archived or gone. Choose another one.", True),
        ("Other has no published version. Publish its draft.", True),
    ]


def test_stages_that_cannot_be_read_are_said(desk):
    flow = make_flow(desk.team)
    FlowVersion.objects.filter(pk=flow.version_id).update(stages=[combine("one", "{{ stage.gone.output }}")])
    flow.version.refresh_from_db()
    [(words, stops)] = said(flow)
    assert "stage.gone.output" in words and stops


def test_the_page_says_what_to_do_for_a_draft_too_and_strangers_find_nothing(desk, client):
    writer = make_persona(desk.team)
    flow = make_flow(desk.team)
    said = {"name": flow.name, "purpose": "", "by": desk.owner}
    flow_actions.save_flow(flow=flow, stage_list=[prompt(writer)], is_draft=True, **said)
    client.force_login(desk.owner)
    page = client.get(reverse("flow_preflight", args=[desk.team.slug, flow.slug, 2])).content.decode()
    assert "Stops it" in page and "Enable one on the persona" in page
    assert (
        "Nothing stands in its way"
        in client.get(
            reverse("flow_preflight", args=[desk.team.slug, flow.slug, 1]), {"as": "schedule"}
        ).content.decode()
    )
    assert client.get(reverse("flow_preflight", args=[desk.team.slug, flow.slug, 3])).status_code == 404
    assert drafting.newest(flow).number == 2


# --- before each run --------------------------------------------------------------------


def states(run: Run) -> list[str]:
    return list(run.stages.values_list("state", flat=True))


@pytest.mark.requirement("SCH-11")
def test_a_run_that_could_not_get_past_a_later_stage_spends_nothing_before_it(desk):
    writer = make_writer(desk)
    run = start(desk.team, [prompt(writer), tool(writer, "get_models_count"), combine("end", "x")])
    before = desk.sandbox.journal()
    assert go(run) == "failed"
    assert states(run) == ["skipped", "failed", "skipped"]
    assert "Get models count" in run.failure and run.failure.endswith("before the run began, so nothing was asked.")
    assert desk.sandbox.journal() == before
    with pytest.raises(CannotRepeat, match="Stage 1, ask, gave nothing in this run"):
        run_again_from(run=run, number=2, by=desk.owner, idempotency_key="")

    both = ["create_chat_completion", "get_models_count"]
    enable_for(connection=desk.connection, persona_id=writer.pk, tools=both, by=desk.owner)
    assert go(run_again_from(run=run, number=1, by=desk.owner, idempotency_key="")) == "succeeded"


def test_a_stage_that_may_never_come_or_whose_failure_is_dealt_with_holds_no_run_up(desk):
    writer = make_writer(desk)
    never = tool(writer, "get_credits") | when("ask", "contains", "never said")
    assert go(start(desk.team, [prompt(writer), never])) == "succeeded"
    caught = combine("caught", "It failed.") | when("used", "failed")
    run = start(desk.team, [prompt(writer), tool(writer, "get_credits"), caught])
    assert go(run) == "succeeded"
    assert states(run) == ["done", "failed", "done"]


def test_a_run_that_has_begun_is_not_looked_through_again(desk):
    writer = make_writer(desk, tools=("get_credits",))
    asks = {"kind": "approve", "name": "look", "text": "Go on?"}
    run = start(desk.team, [prompt(writer), asks, tool(writer, "get_credits")])
    assert go(run) == "parked"
    Grant.objects.live().filter(holder=writer.pk).update(scopes={})
    approving.decide(run=run, number=2, approve=True, note="", by=desk.owner)
    assert go(run) == "failed"
    assert states(run) == ["done", "done", "failed"]
    assert "before the run began" not in run.failure
