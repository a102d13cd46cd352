"""What a rule about retention would do is told before it is set, route by route."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import Team
from audit.clock import app_now
from integrations import catalog, rollups
from integrations.models import Call
from integrations.policy import GROUPS, Rules
from integrations.policy_actions import kept_policies
from personas.charts import ribbons
from personas.policy_effect import PolicyHolder, policies_of
from personas.replay import Keeps, Outcome, found
from personas.retention_impact import Impact, impact_of, weighted_median
from tests.factories import make_team
from tests.integrations.catalog_fixture import read_catalog
from tests.personas.builders import make_flow, make_persona
from tests.route_samples import a_connection

pytestmark = pytest.mark.django_db
KEPT, FREE = "anthropic/claude-sonnet-4.6", "openai/gpt-oss-20b:free"
ZDR = Rules(retention=dict.fromkeys(GROUPS, "zdr"))


@pytest.fixture(autouse=True)
def known(sandbox):
    yield read_catalog(sandbox, wanted=[KEPT, FREE])
    catalog.forget()


@pytest.fixture
def team() -> Team:
    return make_team()


def make_calls(team: Team, model: str, count: int, **more: Any) -> None:
    at = app_now() - timedelta(days=1)
    facts = {"team": team, "connection_id": a_connection(team), "tool": "create_chat_completion", "state": "done"}
    facts |= {"actor_kind": "user", "actor_id": "1", "actor_name": "x", "request_sha256": "0" * 64, "model": model}
    facts |= {"cost_usd": Decimal("0.01"), "tokens_in": 1000, "tokens_out": 100, "started_at": at, "finished_at": at}
    for _ in range(count):
        Call.objects.create(**facts | more)
    rollups.roll_up()


def impact(team: Team, rules: Rules = ZDR, of: Any = None) -> Impact:
    holder = PolicyHolder.of(of or team)
    today = app_now().date()
    policies = policies_of(team, holder, kept_policies(team=team))
    return impact_of(team, holder, rules, policies, (today - timedelta(days=29), today))


def endpoints(known, model: str) -> tuple[set[str], set[str]]:
    """The names of the providers that keep nothing of a model, and of those that may keep."""
    of = known.find(model).endpoints
    names = {each.provider: known.providers[each.provider].name for each in of}
    nothing = {names[each.provider] for each in of if each.is_zdr}
    return nothing, set(names.values()) - nothing


def test_calls_are_told_apart_by_what_is_kept_and_where_they_would_go(known, team):
    nothing, some = endpoints(known, KEPT)
    reader = make_persona(team, name="Reader", chain=[KEPT])
    rider = make_persona(team, name="Rider", chain=[FREE])
    make_calls(team, KEPT, 5, persona_id=reader.pk, provider=min(nothing))
    make_calls(team, KEPT, 3, persona_id=reader.pk, provider=min(some))
    make_calls(team, FREE, 2, persona_id=rider.pk, provider="Nobody we know")

    told = impact(team)

    assert told.calls == {
        (Keeps.NOTHING, Outcome.SAME): 5,
        (Keeps.SOMETHING, Outcome.OTHER): 3,
        (Keeps.UNKNOWN, Outcome.NONE): 2,
    }
    assert [(row.name, row.outcome) for row in told.rows] == [("Rider", Outcome.NONE), ("Reader", Outcome.OTHER)]
    assert told.usd_now == Decimal("0.10")
    assert 0 < told.models_left < told.models


def test_without_a_rule_every_call_goes_where_it_went(known, team):
    _, some = endpoints(known, KEPT)
    make_persona(team, name="Idle", chain=[FREE])
    make_calls(team, KEPT, 3, provider=min(some))
    make_calls(team, FREE, 2)
    told = impact(team, Rules())
    assert told.calls_of(Outcome.SAME) == 5
    assert told.usd_after == told.usd_now == Decimal("0.05")
    assert [row.outcome for row in told.rows] == [Outcome.SAME]


def test_what_moves_is_priced_by_the_difference_of_both_endpoints(known, team):
    nothing, some = endpoints(known, KEPT)
    make_calls(team, KEPT, 4, provider=min(some))
    moved = impact(team).replayed[0]
    old, new = moved.now.endpoint.prices, moved.after.endpoint.prices
    differs = (new.tokens_in - old.tokens_in) * 4000 + (new.tokens_out - old.tokens_out) * 400
    assert moved.usd == max(0, Decimal("0.04") + differs)
    assert known.providers[moved.after.endpoint.provider].name in nothing


def test_the_next_model_of_a_chain_is_another_route(team):
    half = make_persona(team, name="Half", chain=[FREE, KEPT])
    make_calls(team, FREE, 2, persona_id=half.pk)
    told = impact(team)
    row = told.rows[0]
    assert (row.outcome, row.after.model, row.lost) == (Outcome.OTHER, KEPT, (FREE,))
    assert told.calls_of(Outcome.OTHER) == 2


def test_a_chain_that_stops_comes_with_the_one_model_that_mends_it(known, team):
    make_persona(team, name="Rider", chain=[FREE])
    row = impact(team).rows[0]
    assert (row.outcome, row.after) == (Outcome.NONE, None)
    assert row.repair.partition("/")[0] == "openai"
    assert known.find(row.repair).zdr_endpoints


def test_flows_are_told_apart_from_their_personas(team):
    reader = make_persona(team, name="Reader", chain=[KEPT])
    stage = {"kind": "prompt", "name": "sum", "persona": str(reader.pk), "template": "x", "chain": [FREE]}
    flow = make_flow(team, [stage], name="Digest")
    make_calls(team, FREE, 3, persona_id=reader.pk, flow_id=flow.pk)
    rows = {row.name: row for row in impact(team).rows}
    assert (rows["Digest"].outcome, rows["Digest"].calls[Outcome.NONE]) == (Outcome.NONE, 3)
    assert (rows["Reader"].outcome != Outcome.NONE, rows["Reader"].all_calls) == (True, 0)


def test_a_rule_of_one_persona_moves_its_calls_alone(known, team):
    _, some = endpoints(known, KEPT)
    one, other = (make_persona(team, name=name, chain=[KEPT]) for name in ("One", "Other"))
    for each in (one, other):
        make_calls(team, KEPT, 2, persona_id=each.pk, provider=min(some))
    told = impact(team, of=one)
    assert [row.name for row in told.rows] == ["One"]
    assert told.calls_of(Outcome.OTHER) == sum(told.calls.values()) == 2


def test_a_call_too_long_for_what_is_left_has_no_route(team, known):
    longest = max(each.context_length or 0 for each in known.find(KEPT).zdr_endpoints)
    make_calls(team, KEPT, 1, tokens_in=longest + 1)
    assert impact(team).calls_of(Outcome.NONE) == 1


def test_failed_calls_and_other_teams_are_not_replayed(team):
    make_calls(team, KEPT, 2, state="failed")
    make_calls(make_team(), KEPT, 2)
    assert impact(team).replayed == []


def test_what_a_router_chose_is_what_is_replayed(team, known):
    make_calls(team, "openrouter/auto", 2, model_served=KEPT, provider=min(endpoints(known, KEPT)[0]))
    told = impact(team)
    assert found(told.replayed[0].taken, known).id == KEPT
    assert told.calls == {(Keeps.NOTHING, Outcome.SAME): 2}


@pytest.mark.parametrize(
    ("values", "median"),
    [([], None), ([(4.0, 1)], 4.0), ([(1.0, 1), (9.0, 8)], 9.0), ([(9.0, 1), (1.0, 1)], 1.0)],
)
def test_the_median_counts_calls(values, median):
    assert weighted_median(values) == median


def test_ribbons_fill_both_sides_and_stay_inside():
    left, right, paths = ribbons([[5, 0, 0], [0, 3, 1], [0, 0, 1]])
    assert (left[0].top, right[0].top) == (0, 0)
    assert (left[-1].top + left[-1].height, right[-1].top + right[-1].height) == (240, 240)
    assert [(each.left, each.right) for each in paths] == [(0, 0), (1, 1), (1, 2), (2, 2)]
    assert ribbons([[0, 0]])[2] == []
