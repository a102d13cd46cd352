"""Chains held against the catalog: what is named on the persona and the flow, and when the log hears of it."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.urls import reverse

from audit.clock import app_now
from audit.models import Event
from integrations import catalog as catalogs
from integrations.actions import enable_for
from integrations.facts import Catalog, ModelFacts, Prices
from integrations.models import Policy
from personas import actions, drafting, tasks
from personas.checking import problems_of
from tests.factories import make_team, owner_of
from tests.integrations.desk import Desk
from tests.personas.builders import make_flow, make_persona

TODAY = date(2026, 11, 23)
TEXT = frozenset({"text"})


def model(name, *, abilities=("tools",), **more) -> ModelFacts:
    prices = Prices(Decimal("0.000001"), Decimal("0.000002"))
    given = {"input_modalities": TEXT, "output_modalities": TEXT, "parameters": frozenset(abilities)} | more
    return ModelFacts(name, name, prices, 100_000, 8_000, **given)


def catalog(*models) -> Catalog:
    return Catalog(7, datetime(2026, 11, 23, tzinfo=UTC), {each.id: each for each in models}, {}, {})


LISTED = catalog(
    model("openai/gpt-5.4"),
    model("openai/gpt-5.4-mini"),
    model("a/gone", is_gone=True),
    model("a/ends-soon", expires_on=date(2026, 12, 3)),
    model("a/ends-later", expires_on=date(2027, 6, 1)),
    model("a/deaf", abilities=()),
    model("a/painter", output_modalities=frozenset({"image"})),
)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("openai/gpt-5.4", None),
        ("a/ends-later", None),
        ("@preset/mine", None),
        ("openai/*", None),
        ("openai/gpt-5.4:nitro", None),
        ("a/gone", "a/gone is not listed by the provider any more. Choose another model."),
        ("a/ends-soon", "a/ends-soon is withdrawn by the provider on 3 December 2026. Choose another model before."),
        ("a/deaf", "a/deaf cannot call tools, and 2 are lent. Choose another model, or take the tools away."),
        ("a/painter", "a/painter does not answer with text. Choose another model."),
        ("openai/gpt-54", "openai/gpt-54 is not in the catalog. Did you mean openai/gpt-5.4?"),
        ("zz/qqqqqq", "zz/qqqqqq is not in the catalog. Choose another model."),
        ("mistralai/*", "mistralai/* describes no model of the catalog. Change it, or take it out."),
    ],
)
def test_an_entry_is_named_with_what_is_wrong_and_what_to_do(entry, words):
    assert problems_of([entry], LISTED, today=TODAY, tools=2) == ([words] if words else [])


def test_a_model_that_a_policy_refuses_is_named_with_the_rule():
    found = problems_of(["openai/gpt-5.4"], LISTED, today=TODAY, tools=0, refuses=lambda model: "It is too dear.")
    assert found == ["openai/gpt-5.4 is kept away by a policy. It is too dear."]


def test_nothing_is_said_while_the_catalog_is_unknown():
    assert problems_of(["a/gone"], Catalog(0, None, {}, {}, {}), today=TODAY, tools=0) == []


# --- on rows ----------------------------------------------------------------------------


@pytest.fixture
def listed(monkeypatch):
    """A catalog that a test may change."""
    shown = {"now": LISTED}
    monkeypatch.setattr(catalogs, "current", lambda integration="openrouter": shown["now"])
    return shown


def told(row) -> list[str]:
    rows = Event.objects.filter(target__endswith=str(row.pk), action__endswith=".checked").order_by("at", "id")
    return [event.outcome for event in rows]


@pytest.mark.django_db
def test_a_saved_persona_names_what_is_wrong_and_stops_when_it_is_put_right(listed):
    persona = make_persona(make_team(), chain=["a/gone", "openai/gpt-5.4"])
    assert persona.problems == ["a/gone is not listed by the provider any more. Choose another model."]
    actions.save_persona(
        persona=persona, name="Writer", purpose="", by=owner_of(persona.team), chain=["openai/gpt-5.4"]
    )
    persona.refresh_from_db()
    assert persona.problems == []
    assert told(persona) == ["problems", "fine"]


@pytest.mark.django_db
def test_a_draft_is_told_what_its_models_lack_before_it_is_published(listed, client):
    persona = make_persona(make_team(), chain=["openai/gpt-5.4"])
    owner = owner_of(persona.team)
    drafting.save_draft(of=persona, name="Writer", purpose="", by=owner, chain=["a/gone"])
    client.force_login(owner)
    page = client.get(reverse("persona_version", args=[persona.team.slug, persona.slug, 2])).content.decode()
    assert "a/gone is not listed by the provider any more." in page
    persona.refresh_from_db()
    assert persona.problems == []


@pytest.mark.django_db
def test_a_model_that_goes_overnight_is_named_once_and_told_once(listed, clock):
    persona = make_persona(make_team(), chain=["openai/gpt-5.4"])
    stage = {"kind": "prompt", "name": "one", "persona": str(persona.pk), "template": "x", "model": "openai/gpt-5.4"}
    flow = make_flow(persona.team, [stage])
    listed["now"] = catalog(model("openai/gpt-5.4", is_gone=True))
    for days in (1, 2, 3):
        clock(days=days)
        tasks.check_chains()
    for row in (persona, flow):
        row.refresh_from_db()
        assert told(row) == ["problems"]
    assert flow.problems == ["Stage one: openai/gpt-5.4 is not listed by the provider any more. Choose another model."]


@pytest.mark.django_db
def test_a_chain_is_checked_once_a_day(listed):
    persona = make_persona(make_team(), chain=["openai/gpt-5.4"])
    before = persona.checked_at
    tasks.check_chains()
    persona.refresh_from_db()
    assert persona.checked_at == before


@pytest.mark.django_db
def test_a_policy_that_keeps_a_model_away_is_named_on_the_persona(listed, clock):
    team = make_team()
    persona = make_persona(team, chain=["openai/gpt-5.4"])
    rules = {"max_price_out": "0.5"}
    Policy.objects.create(team=team, holder=team.pk, rules=rules, changed_by=owner_of(team), changed_at=app_now())
    clock(days=1)
    tasks.check_chains()
    persona.refresh_from_db()
    assert "openai/gpt-5.4 is kept away by a policy." in persona.problems[0]


@pytest.mark.django_db
def test_a_persona_that_is_lent_tools_needs_models_that_can_call_them(listed, sandbox, settings, clock):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    desk = Desk(sandbox)
    persona = make_persona(desk.team, chain=["a/deaf"])
    assert persona.problems == []
    tools = ["get_current_key", "create_chat_completion"]
    enable_for(connection=desk.connection, persona_id=persona.pk, tools=tools, by=desk.owner)
    clock(days=1)
    tasks.check_chains()
    persona.refresh_from_db()
    assert "a/deaf cannot call tools, and 1 are lent." in persona.problems[0]


@pytest.mark.django_db
def test_pages_name_the_problems_and_lists_show_a_state(listed, client):
    team = make_team()
    persona = make_persona(team, chain=["a/gone"])
    stage = {"kind": "prompt", "name": "one", "persona": str(persona.pk), "template": "x", "model": "openai/gpt-54"}
    flow = make_flow(team, [stage])
    client.force_login(owner_of(team))

    def page(name, *args):
        return client.get(reverse(name, args=[team.slug, *args])).content.decode()

    assert "a/gone is not listed by the provider any more." in page("persona_detail", persona.slug)
    assert "Did you mean openai/gpt-5.4?" in page("flow_detail", flow.slug)
    assert "Check its models" in page("persona_list")
    assert "Check its models" in page("flow_list")
