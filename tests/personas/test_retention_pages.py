"""The page where a rule about retention is tried, applied, and taken back."""

import csv
from datetime import timedelta
from io import StringIO
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import Team
from accounts.permissions import Role
from audit.models import Event
from integrations import catalog
from integrations.models import Policy
from integrations.policy import GROUPS
from integrations.policy.rules import read_rules
from integrations.policy_actions import set_policy
from personas.charts import ribbons
from personas.replay import Outcome
from personas.retention_shown import Verdict, verdict
from tests.factories import make_member, make_team, owner_of
from tests.integrations.catalog_fixture import read_catalog
from tests.personas.builders import make_flow, make_persona
from tests.personas.test_retention_impact import FREE, KEPT, make_calls

pytestmark = pytest.mark.django_db
EVERY = dict.fromkeys(GROUPS, "zdr")


@pytest.fixture(autouse=True)
def known(sandbox):
    yield read_catalog(sandbox, wanted=[KEPT, FREE])
    catalog.forget()


@pytest.fixture
def team() -> Team:
    return make_team()


@pytest.fixture
def client(team) -> Client:
    client = Client()
    client.force_login(owner_of(team))
    return client


def page(client: Client, team: Team, name: str = "retention", **asked: Any):
    return client.get(f"{reverse(name, args=[team.slug])}?{urlencode(asked, doseq=True)}")


def sent(answer, action: str = "apply") -> dict[str, str]:
    """What the form of a page would send: to apply what is tried, or to undo the last change."""
    context = answer.context
    fields = context["carried"] if action == "apply" else context["undo"]
    return dict(fields) | {"seen": context["seen"], "tried": context["query"]}


def rules_of(team: Team) -> dict[str, Any]:
    return Policy.objects.get(team=team, holder=team.pk).rules


# --- trying -----------------------------------------------------------------------------


def test_an_empty_address_tries_the_strictest_rule_on_the_team(client, team):
    make_persona(team, name="Reader", chain=[KEPT])
    make_persona(team, name="Rider", chain=[FREE])
    shown = page(client, team)
    assert shown.status_code == 200
    assert shown.context["rows"][0].of.name == "Rider"
    words = " ".join(shown.content.decode().split())
    assert "1 would stop working" in words and "No call asked a model in the last 30 days" in words
    assert dict(shown.context["carried"])["retention_other"] == "zdr"


def test_a_persona_that_would_stop_is_told_with_what_mends_it(client, team):
    rider = make_persona(team, name="Rider", chain=[FREE])
    shown = page(client, team, tier="zdr", group=["openai"])
    [row] = shown.context["rows"]
    assert row.of.repair == "openai/gpt-oss-20b"
    assert (
        f"{reverse('persona_edit', args=[team.slug, rider.slug])}?fallback=openai/gpt-oss-20b" in shown.content.decode()
    )


def test_groups_that_are_not_ticked_keep_what_is_in_force(client, team):
    strict = read_rules({"retention": {"anthropic": "zdr"}, "max_price_in": "9"})
    set_policy(team=team, holder=team.pk, name=team.name, rules=strict, by=owner_of(team))
    carried = dict(page(client, team, tier="zdr", group=["openai"]).context["carried"])
    assert (carried["retention_anthropic"], carried["retention_openai"], carried["max_price_in"]) == ("zdr", "zdr", "9")
    loosened = dict(page(client, team, tier="any", group=["anthropic"]).context["carried"])
    assert (loosened["retention_anthropic"], loosened["retention_openai"]) == ("", "")


def test_the_figure_says_of_each_call_what_is_kept_and_where_it_would_go(client, team):
    rider = make_persona(team, name="Rider", chain=[FREE])
    make_calls(team, FREE, 4, persona_id=rider.pk, provider="Nobody we know")
    shift = page(client, team).context["shift"]
    assert shift.finding == "Of 4 calls, 0 stay on the same route, 0 move to another route and 4 have no route."
    assert shift.table == [("Not known", [0, 0, 4])]


def test_a_rule_may_be_tried_on_one_persona_or_flow(client, team):
    make_persona(team, name="Reader", chain=[KEPT])
    rider = make_persona(team, name="Rider", chain=[FREE])
    flow = make_flow(team)
    for scope, names in ((f"persona:{rider.slug}", {"Rider"}), (f"flow:{flow.slug}", set())):
        shown = page(client, team, tier="zdr", group=list(GROUPS), scope=scope)
        assert shown.status_code == 200
        assert {row.of.name for row in shown.context["rows"] if row.of.kind == "persona"} == names


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"tier": "zdr"}, "Tick at least one group"),
        ({"group": "openai"}, "This field is required"),
        ({"tier": "most", "group": "openai"}, "Select a valid choice"),
        ({"tier": "zdr", "group": "everything"}, "Select a valid choice"),
        ({"tier": "zdr", "group": "openai", "scope": "persona:nobody"}, "not here any more"),
        ({"tier": "zdr", "group": "openai", "scope": "team:x"}, "not here any more"),
    ],
)
def test_a_rule_that_cannot_be_read_is_said_and_changes_nothing(client, team, asked, words):
    make_persona(team, chain=[KEPT])
    shown = page(client, team, **asked)
    assert shown.status_code == 422
    assert words in shown.content.decode()
    assert page(client, team, "retention_export", **asked).status_code == 422


def test_another_teams_persona_cannot_be_named(client, team):
    stranger = make_persona(make_team(), name="Elsewhere", chain=[KEPT])
    shown = page(client, team, tier="zdr", group=["openai"], scope=f"persona:{stranger.slug}")
    assert shown.status_code == 422 and "Elsewhere" not in shown.content.decode()


def test_less_than_the_floor_is_refused_by_name(client, team):
    floor = read_rules({"retention": EVERY})
    set_policy(team=team, holder=team.pk, name=team.name, rules=floor, by=owner_of(team))
    persona = make_persona(team, chain=[KEPT])
    shown = page(client, team, tier="safety", group=["openai"], scope=f"persona:{persona.slug}")
    assert shown.status_code == 422 and "Retention of OpenAI models" in shown.content.decode()


def test_what_is_in_force_is_shown_as_no_change(client, team):
    set_policy(team=team, holder=team.pk, name=team.name, rules=read_rules({"retention": EVERY}), by=owner_of(team))
    words = " ".join(page(client, team).content.decode().split())
    assert "This is the rule in force for the team" in words and "Apply to the team" not in words


# --- applying and taking back -----------------------------------------------------------


def test_a_rule_is_applied_and_taken_back_and_both_are_in_the_log(client, team):
    make_persona(team, name="Rider", chain=[FREE])
    tried = page(client, team, tier="zdr", group=list(GROUPS))
    done = client.post(tried.context["apply"], sent(tried))
    assert (
        done.status_code == 302
        and done["Location"] == f"{reverse('retention', args=[team.slug])}?{tried.context['query']}"
    )
    assert rules_of(team) == {"retention": EVERY}

    after = client.get(done["Location"])
    assert not after.context["changes"] and after.context["undo_words"] == []
    assert client.post(after.context["apply"], sent(after, "undo")).status_code == 302
    assert rules_of(team) == {}
    again = page(client, team)
    client.post(again.context["apply"], sent(again, "undo"))
    assert rules_of(team) == {"retention": EVERY}

    first = Event.objects.filter(action="integrations.policy.changed").order_by("at").first()
    assert set(first.details["models within reach"]) < set(first.details["models within reach before"])


def test_undoing_what_somebody_changed_meanwhile_undoes_nothing(client, team):
    by = owner_of(team)
    set_policy(team=team, holder=team.pk, name=team.name, rules=read_rules({"max_price_in": "9"}), by=by)
    seen = page(client, team)
    set_policy(team=team, holder=team.pk, name=team.name, rules=read_rules({"max_price_in": "5"}), by=by)
    refused = client.post(seen.context["apply"], sent(seen, "undo"))
    assert refused.status_code == 409 and rules_of(team) == {"max_price_in": "5"}


def test_where_to_return_is_never_an_address_of_somebody_else(client, team):
    tried = page(client, team)
    done = client.post(tried.context["apply"], sent(tried) | {"tried": "//evil.example/?x=\r\nSet-Cookie: a=b"})
    assert done["Location"].startswith(f"{reverse('retention', args=[team.slug])}?")
    assert "\n" not in done["Location"] and "//evil" not in done["Location"]


def test_a_member_who_may_look_gets_no_form_to_apply(team):
    member = make_member(team, role=Role.AUDITOR)
    client = Client()
    client.force_login(member)
    shown = page(client, team)
    assert shown.status_code == 200 and "You may try rules, not set them." in shown.content.decode()


# --- a file -----------------------------------------------------------------------------


def test_the_file_holds_every_row_of_the_table(client, team):
    nothing = make_persona(team, name="=Reader", chain=[KEPT])
    make_calls(team, KEPT, 2, persona_id=nothing.pk, provider="Nobody we know")
    make_persona(team, name="Rider", chain=[FREE])
    answer = page(client, team, "retention_export")
    rows = list(csv.DictReader(StringIO(b"".join(answer.streaming_content).decode())))
    assert {row["name"] for row in rows} == {"'=Reader", "Rider"}
    rider = next(row for row in rows if row["name"] == "Rider")
    assert (rider["outcome"], rider["repair"], rider["calls"]) == ("none", "openai/gpt-oss-20b", "0")
    assert "retention-" in answer["Content-Disposition"]


def test_labels_of_thin_bands_do_not_lie_on_each_other():
    _, right, _ = ribbons([[1_000_000, 1, 1], [0, 0, 0], [0, 0, 0]])
    lines = [band.middle for band in right]
    assert all(later - sooner >= 18 for sooner, later in pairwise(lines))
    assert lines[0] > 0 and lines[-1] <= 240


def test_days_are_those_of_the_teams_zone(client, team):
    shown = page(client, team).context["impact"]
    assert shown.last - shown.first == timedelta(days=29)


@pytest.mark.parametrize(
    ("counts", "calm", "stops"),
    [
        ((8, 3, 1), "8 of 12 personas keep their route, 3 move to another", "1 would stop working"),
        ((1, 1, 0), "1 of 2 personas keeps its route and 1 moves to another", ""),
        ((3, 0, 0), "All 3 personas keep their route", ""),
        ((0, 3, 0), "All 3 personas move to another route", ""),
        ((0, 0, 2), "0 of 2 personas keep their route", "2 would stop working"),
    ],
)
def test_the_finding_is_a_sentence(counts, calm, stops):
    impact = SimpleNamespace(rows_of=lambda kind, outcome: dict(zip(Outcome, counts, strict=True))[outcome])
    assert verdict(impact, "persona") == Verdict(calm, stops)
