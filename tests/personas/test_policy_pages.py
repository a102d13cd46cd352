"""The pages where a policy is tried against what happened, and then applied."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Team
from accounts.permissions import Role
from audit.clock import app_now
from audit.models import Event
from integrations import catalog
from integrations.models import Call, Policy
from integrations.policy import GROUPS
from integrations.policy.rules import read_rules
from integrations.policy_actions import NO_POLICY, PolicyChanged, PolicyLoosens, fingerprint, readable, set_policy
from tests.factories import make_member, make_team, owner_of
from tests.integrations.catalog_fixture import read_catalog
from tests.personas.builders import make_flow, make_persona
from tests.route_samples import a_connection

pytestmark = pytest.mark.django_db
KEPT, NOT_KEPT = "anthropic/claude-sonnet-4.6", "openai/gpt-oss-20b:free"
ZDR = {f"retention_{group}": "zdr" for group in GROUPS}


@pytest.fixture(autouse=True)
def known(sandbox):
    yield read_catalog(sandbox, wanted=[KEPT, NOT_KEPT])
    catalog.forget()


@pytest.fixture
def team() -> Team:
    return make_team()


@pytest.fixture
def client(team) -> Client:
    client = Client()
    client.force_login(owner_of(team))
    return client


def calls(team: Team, model: str, count: int, *, days_ago: int = 1, **more: Any) -> None:
    connection = a_connection(team)
    at = app_now() - timedelta(days=days_ago)
    for _ in range(count):
        Call.objects.create(
            team=team, connection_id=connection, tool="create_chat_completion", state="done", actor_kind="user",
            actor_id="1", actor_name="x", model=model, request_sha256="0" * 64, started_at=at, finished_at=at, **more,
        )  # fmt: skip


def page(client: Client, team: Team, name: str = "policy_team", *slug: str, **typed: str):
    return client.get(reverse(name, args=[team.slug, *slug]), {"preview": "1"} | typed if typed else {})


def apply(client: Client, team: Team, name: str = "policy_team_apply", *slug: str, **typed: str):
    return client.post(reverse(name, args=[team.slug, *slug]), {"seen": NO_POLICY} | typed)


def kept(team: Team, holder: UUID | None = None) -> dict[str, Any] | None:
    row = Policy.objects.filter(team=team, holder=holder or team.pk).first()
    return row and row.rules


# --- preview -------------------------------------------------------------------------------


def test_without_a_change_the_page_shows_today_and_offers_nothing_to_apply(client, team):
    shown = page(client, team)
    effect = shown.context["effect"]
    assert (shown.status_code, effect.after) == (200, effect.before)
    assert len(effect.after) == effect.of > 30
    assert "Apply to the team" not in shown.content.decode()


def test_a_preview_counts_models_calls_and_chains_and_changes_nothing(client, team):
    free = make_persona(team, name="Free Rider", chain=[NOT_KEPT])
    make_persona(team, name="Careful", chain=[KEPT])
    make_persona(team, name="Half", chain=[NOT_KEPT, KEPT])
    stage = {"kind": "prompt", "name": "sum", "persona": str(free.pk), "template": "x"}
    make_flow(team, [stage], name="Digest")
    calls(team, NOT_KEPT, 3)
    calls(team, NOT_KEPT, 2, days_ago=31)
    calls(team, KEPT, 4)
    calls(make_team(), NOT_KEPT, 5)

    shown = page(client, team, **ZDR)

    effect = shown.context["effect"]
    assert (effect.replayed, effect.refused, effect.allowed) == (7, 3, 0)
    assert {(hit.chain.name, hit.chain.stage, hit.stops) for hit in effect.hits} == {
        ("Free Rider", "", True),
        ("Half", "", False),
        ("Digest", "sum", True),
    }
    assert {hit.model for hit in effect.hits} == {NOT_KEPT}
    assert 0 < len(effect.after) < len(effect.before)
    assert effect.cheapest.id in effect.after
    body = shown.content.decode()
    assert "2 chains would stop" in body and "3 would have been refused" in body
    assert "The team&#x27;s floor asks for zero data retention" in body
    assert kept(team) is None
    assert not Event.objects.filter(action="integrations.policy.changed").exists()


def test_a_rule_that_picks_models_stops_when_none_is_left(client, team):
    make_persona(team, name="Any", chain=[], routing="cheapest")
    make_persona(team, name="Free", chain=["*:free"], routing="cheapest")
    effect = page(client, team, **ZDR).context["effect"]
    assert [(hit.chain.name, hit.stops, hit.model) for hit in effect.hits] == [("Free", True, "")]


def test_a_persona_is_replayed_alone_under_the_floor(client, team):
    persona = make_persona(team, name="Ada", chain=[NOT_KEPT])
    make_persona(team, name="Other", chain=[NOT_KEPT])
    calls(team, NOT_KEPT, 2, persona_id=persona.pk)
    calls(team, NOT_KEPT, 5)
    effect = page(client, team, "persona_policy", persona.slug, **ZDR).context["effect"]
    assert (effect.replayed, effect.refused) == (2, 2)
    assert [hit.chain.name for hit in effect.hits] == ["Ada"]


def test_a_flow_is_replayed_alone(client, team):
    persona = make_persona(team, chain=[NOT_KEPT])
    flow = make_flow(team, [{"kind": "prompt", "name": "sum", "persona": str(persona.pk), "template": "x"}])
    calls(team, NOT_KEPT, 2, flow_id=flow.pk)
    calls(team, NOT_KEPT, 5)
    effect = page(client, team, "flow_policy", flow.slug, **ZDR).context["effect"]
    assert (effect.replayed, effect.refused) == (2, 2)
    assert [(hit.chain.kind, hit.stops) for hit in effect.hits] == [("flow", True)]


def test_each_rule_says_where_it_comes_from(client, team):
    persona = make_persona(team, name="Ada")
    apply(client, team, data_collection="deny")
    shown = page(client, team, "persona_policy", persona.slug, max_price_in="5")
    assert shown.context["said"] == [
        ("Providers that may train on prompts are left out.", "The team's floor"),
        ("A million tokens in may cost $5.00 at most.", "The policy of Ada"),
    ]


def test_htmx_gets_the_effect_alone(client, team):
    shown = client.get(reverse("policy_team", args=[team.slug]), {"preview": "1"} | ZDR, headers={"HX-Request": "true"})
    assert shown.content.decode().lstrip().startswith('<div class="stack" id="effect"')


def test_an_unknown_catalog_is_said_and_lets_nothing_through(client, team):
    from integrations.models import Catalog

    Catalog.objects.all().delete()
    catalog.forget()
    calls(team, KEPT, 3)
    shown = page(client, team, **ZDR)
    assert "catalog of models is not known yet" in shown.content.decode()
    assert shown.context["effect"].refused == 3


@pytest.mark.parametrize(
    "typed",
    [
        {"max_price_in": "-1"},
        {"max_price_in": "NaN"},
        {"max_price_in": "1e400"},
        {"max_price_out": "Infinity"},
        {"max_price_out": "9" * 41},
        {"providers_only": "az*re"},
        {"providers_never": "\n".join(f"provider-{number}" for number in range(1_001))},
        {"regions": "Mars!"},
        {"regions": "fp8"},
        {"retention_openai": "forever"},
        {"data_collection": "sometimes"},
    ],
)
def test_what_is_no_rule_is_refused_at_its_field_by_preview_and_by_apply(client, team, typed):
    shown = page(client, team, **typed)
    assert shown.status_code == 422
    assert set(shown.context["form"].errors) == set(typed)
    assert apply(client, team, **typed).status_code == 422
    assert kept(team) is None


def test_a_thousand_providers_are_previewed_and_applied(client, team):
    many = "\n".join(f"provider-{number}" for number in range(1_000))
    assert page(client, team, providers_never=many).status_code == 200
    assert apply(client, team, providers_never=many).status_code == 302
    assert len(kept(team)["providers_never"]) == 1_000
    assert page(client, team).status_code == 200


# --- apply ---------------------------------------------------------------------------------


def test_what_is_applied_is_kept_and_written_down_with_what_it_means(client, team):
    answer = apply(client, team, **ZDR, max_price_in="2.50", providers_never="groq, openai/flex")
    assert answer.status_code == 302
    assert kept(team) == {
        "retention": dict.fromkeys(GROUPS, "zdr"),
        "providers_never": ["groq", "openai/flex"],
        "max_price_in": "2.50",
    }
    event = Event.objects.get(action="integrations.policy.changed")
    assert event.details["before"] == ["No rule."]
    assert event.details["rules"] == kept(team)
    assert set() < set(event.details["models within reach"]) < set(event.details["models within reach before"])
    assert NOT_KEPT in event.details["models lost"] or len(event.details["models lost"]) > 50


def test_a_persona_may_tighten_and_not_loosen_and_is_told_by_name(client, team):
    persona = make_persona(team)
    apply(client, team, retention_openai="zdr", max_price_in="5")
    refused = apply(client, team, "persona_policy_apply", persona.slug, retention_openai="safety", max_price_in="6")
    assert refused.status_code == 422
    assert "Retention of OpenAI models" in refused.content.decode() and "$6.00" in refused.content.decode()
    assert kept(team, persona.pk) is None
    assert apply(client, team, "persona_policy_apply", persona.slug, max_price_in="4").status_code == 302
    assert kept(team, persona.pk) == {"max_price_in": "4"}


def test_a_policy_that_somebody_else_changed_is_not_overwritten(client, team):
    assert apply(client, team, max_price_in="5").status_code == 302
    assert apply(client, team, max_price_in="9").status_code == 409
    assert kept(team) == {"max_price_in": "5"}
    assert apply(client, team, max_price_in="9", seen=fingerprint(kept(team))).status_code == 302


@pytest.mark.parametrize(("role", "may"), [(Role.ADMIN, True), (Role.BUILDER, False), (Role.MEMBER, False)])
def test_the_floor_is_seen_by_all_and_set_by_few(client, team, role, may):
    client.force_login(make_member(team, role))
    assert page(client, team, max_price_in="5").status_code == 200
    assert ("Apply to the team" in page(client, team, max_price_in="5").content.decode()) is may
    assert (apply(client, team, max_price_in="5").status_code == 302) is may


def test_a_policy_nobody_can_read_is_shown_as_the_tightest(client, team):
    Policy.objects.create(
        team=team, holder=team.pk, rules={"surprise": 1}, changed_by=owner_of(team), changed_at=app_now()
    )
    shown = page(client, team)
    assert shown.status_code == 200
    assert shown.context["effect"].after == frozenset()


def test_the_action_raises_what_the_page_says(team):
    by, persona = owner_of(team), make_persona(team)
    set_policy(team=team, holder=team.pk, name=team.name, rules=read_rules({"providers_only": ["azure"]}), by=by)
    with pytest.raises(PolicyLoosens, match="groq"):
        set_policy(team=team, holder=persona.pk, name="Ada", rules=read_rules({"providers_only": ["groq"]}), by=by)
    with pytest.raises(PolicyChanged):
        set_policy(team=team, holder=persona.pk, name="Ada", rules=read_rules({}), by=by, seen="stale")
    assert readable(kept(team)).providers_only == ("azure",)
