"""What the days of a team add up to is what its calls say, whatever changed a call, and when."""

import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.db import connection as database

from accounts.models import Team
from audit.clock import app_now
from audit.ids import uuid7
from integrations import rollups
from integrations.models import Call, SpendChange, SpendDay
from tests.factories import make_team, owner_of
from tests.route_samples import a_connection

pytestmark = pytest.mark.django_db

ZONE = "Asia/Kathmandu"  # 5:45 ahead: no hour of UTC is an hour there
FIGURES = ("calls", "failed", "unknown", "cost_usd", "credits", "tokens_in", "tokens_out", "longest")
TOLD_APART = ("day", "connection_id", "persona_id", "flow_id", "actor_id", "tool", "asked", "model", "provider")


def connection_of(team: Team):
    return team.connections.values_list("pk", flat=True).first() or a_connection(team)


def make_call(team: Team, *, at: datetime | None = None, **more) -> Call:
    at = at or app_now()
    facts = {"team": team, "connection_id": connection_of(team), "tool": "create_chat_completion", "state": "done"}
    facts |= {"actor_kind": "user", "actor_id": str(owner_of(team).pk), "actor_name": "x", "request_sha256": "0" * 64}
    facts |= {"cost_usd": Decimal("0.001"), "credits": 3, "tokens_in": 10, "tokens_out": 5, "started_at": at}
    facts |= {"id": uuid7()} | more
    finished = None if facts["state"] == "sent" else at + timedelta(seconds=1)
    return Call.objects.create(**facts, finished_at=finished)


def added_up_by_hand(team: Team) -> dict:
    """The same sums, reckoned here from every call, without the database's help."""
    found: dict = defaultdict(Counter)
    zone = ZoneInfo(Team.objects.get(pk=team.pk).zone)
    for call in Call.objects.filter(team=team).exclude(state="sent"):
        day = call.started_at.astimezone(zone).date()
        key = (day, call.connection_id, call.persona_id, call.flow_id, call.actor_id, call.tool)
        sums = found[(*key, call.model, call.model_served or call.model, call.provider)]
        figures = [1, call.state == "failed", call.state == "unknown", call.cost_usd, call.credits]
        for name, figure in zip(FIGURES[:-1], [*figures, call.tokens_in, call.tokens_out], strict=True):
            sums[name] += figure or 0
        sums["longest"] = max(sums["longest"], (call.tokens_in or 0) + (call.tokens_out or 0))
    return {key: dict(sums) for key, sums in found.items()}


def rolled_up(team: Team) -> dict:
    rollups.roll_up()
    rows = SpendDay.objects.filter(team=team).values(*TOLD_APART, *FIGURES)
    return {tuple(row[name] for name in TOLD_APART): {name: row[name] for name in FIGURES} for row in rows}


@pytest.mark.parametrize("seed", range(8))
def test_days_are_the_sum_of_their_calls_whatever_happened_to_these(seed):
    chance, team = random.Random(seed), make_team(zone=ZONE)
    personas, flows = [None, uuid7(), uuid7()], [None, uuid7()]
    now, calls = app_now(), []
    for _ in range(60):
        deed = chance.random()
        if deed < 0.6 or not calls:
            calls.append(
                make_call(
                    team,
                    at=now - timedelta(minutes=chance.randrange(6 * 1440)),
                    state=chance.choice(["sent", "done", "failed", "unknown"]),
                    cost_usd=chance.choice(
                        [None, Decimal("0.000000000001"), Decimal(chance.randrange(10**9)).scaleb(-9)]
                    ),
                    credits=chance.choice([None, 0, 7]),
                    persona_id=chance.choice(personas),
                    flow_id=chance.choice(flows),
                    model=chance.choice(["", "a/one", "b/two"]),
                    model_served=chance.choice(["", "b/two"]),
                    provider=chance.choice(["", "Azure"]),
                    actor_id=chance.choice(["1", "2"]),
                )
            )
        elif deed < 0.85:
            changed = {"state": "done", "cost_usd": Decimal("0.25"), "credits": 9, "finished_at": now}
            Call.objects.filter(pk=chance.choice(calls).pk).update(**changed)
        else:
            rollups.roll_up()
    assert rolled_up(team) == added_up_by_hand(team)
    assert not SpendChange.objects.exists()
    assert rolled_up(team) == added_up_by_hand(team)


def test_a_call_under_way_counts_when_it_ends():
    team = make_team()
    call = make_call(team, state="sent", cost_usd=None)
    assert rolled_up(team) == {}
    Call.objects.filter(pk=call.pk).update(state="done", finished_at=app_now(), cost_usd=Decimal("0.5"))
    assert [row["cost_usd"] for row in rolled_up(team).values()] == [Decimal("0.5")]


def test_days_begin_anew_in_another_zone():
    team = make_team(zone="UTC")
    for hour in range(0, 48, 5):
        make_call(team, at=datetime(2026, 11, 2, tzinfo=UTC) + timedelta(hours=hour))
    before = rolled_up(team)
    Team.objects.filter(pk=team.pk).update(zone="Pacific/Auckland")
    after = rolled_up(team)
    assert after == added_up_by_hand(team)
    assert {key[0].day for key in before} == {2, 3}
    assert {key[0].day for key in after} == {2, 3, 4}


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Pacific/Apia"])
def test_days_on_which_clocks_change_hold_all_their_hours(zone):
    team = make_team(zone=zone)
    for first in (
        datetime(2026, 3, 6, tzinfo=UTC),
        datetime(2026, 3, 27, tzinfo=UTC),
        datetime(2026, 10, 24, tzinfo=UTC),
    ):
        for hour in range(72):
            make_call(team, at=first + timedelta(hours=hour, minutes=30))
    assert rolled_up(team) == added_up_by_hand(team)


def test_another_teams_calls_are_not_in_it():
    ours, theirs = make_team(), make_team()
    make_call(theirs)
    make_call(ours)
    assert sum(row["calls"] for row in rolled_up(ours).values()) == 1


@pytest.mark.django_db(transaction=True)
def test_nothing_is_lost_or_counted_twice_when_adding_up_ends_half_way(monkeypatch):
    team = make_team()
    make_call(team)
    rolled_up(team)
    make_call(team)
    monkeypatch.setattr(rollups, "ADD_UP", "SELECT 1 / 0")
    with pytest.raises(Exception, match="division by zero"):
        rollups.roll_up()
    assert SpendChange.objects.count() == 1
    assert sum(SpendDay.objects.filter(team=team).values_list("calls", flat=True)) == 1
    monkeypatch.undo()
    assert rolled_up(team) == added_up_by_hand(team)


@pytest.mark.django_db(transaction=True)
def test_only_one_adds_up_at_a_time(other_connection):
    make_call(make_team())
    with other_connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [rollups.LOCK])
    assert rollups.roll_up() == 0
    assert SpendChange.objects.exists()
    with other_connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock(%s)", [rollups.LOCK])
    assert rollups.roll_up() == 1


@pytest.fixture
def other_connection():
    other = database.copy()
    yield other
    other.close()
