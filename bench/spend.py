"""
Spend of a team with five million calls in 90 days: time to add them up, and the pages that show them.

    .venv/bin/python -m bench spend

Adding up at every visit, as without daily sums, is measured in the same run. Needs about 5 GB of disk.
"""

import time
from datetime import timedelta
from typing import Any

from bench._pages import VISITS, measure, served, tell, visitor

CALLS, DAYS = 5_000_000, 90
AIM = 200  # ms, 95 of 100 visits
PAGES = {
    "30 days, persona": ("spend", ""),
    "90 days, model": ("spend", "?range=90d&by=model"),
    "90 days, one model": ("spend", "?range=90d&by=day&model=maker/model-7"),
    "calls of one persona": ("spend_calls", "?range=90d&persona=00000000-0000-0000-0000-000000000007"),
}
# Each of 41 personas is in one flow, used by three of nine members, on three of 29 models with two providers each.
MAKE = """
INSERT INTO integrations_call (id, team_id, connection_id, tool, state, outcome, actor_kind, actor_id, actor_name,
    persona_id, persona_name, flow_id, attempt, model, model_served, provider, generation_id, request_sha256,
    credits_reserved, credits, cost_usd, tokens_in, tokens_out, message, started_at, finished_at)
SELECT gen_random_uuid(), %(team)s, %(connection)s, 'create_chat_completion',
    CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'done' END, '', 'user', member::text, 'Member ' || member,
    lpad(persona::text, 32, '0')::uuid, 'Persona ' || persona, lpad((persona / 2)::text, 32, '1')::uuid, 1,
    'maker/model-' || model, '', 'Provider ' || (model + n / 123 %% 2) %% 13, '', '', 3, 3, (n %% 997) * 0.000001,
    n %% 4001, n %% 797, '', begun, begun + interval '2 seconds'
  FROM generate_series(0, %(calls)s - 1) n,
       LATERAL (SELECT n %% 41 AS persona, %(last)s - n * %(step)s::interval AS begun) each_call,
       LATERAL (SELECT (persona + n / 41 %% 3) %% 29 AS model, (persona + n / 246 %% 3) %% 9 AS member) of_persona
"""
NOTE = """
INSERT INTO integrations_spendchange (team_id, started_at)
SELECT %(team)s, day FROM generate_series(%(last)s - make_interval(days => %(days)s), %(last)s, '1 day') day
"""
WITHOUT = "SELECT persona_id, sum(cost_usd) FROM integrations_call WHERE team_id = %s GROUP BY persona_id"


def run() -> dict:
    """Measure, print it beside the aim, and return the figures."""
    from integrations.models import SpendDay
    from integrations.rollups import roll_up
    from tests.factories import make_team

    team = make_team()
    _make_calls(team)
    began = time.perf_counter()
    days = roll_up()
    added_up_s = time.perf_counter() - began
    without_s = _add_up_now(team)
    print(f"{CALLS:,} calls of {days} days became {SpendDay.objects.count():,} sums in {added_up_s:.1f} s")
    print(f"added up at a visit instead, by persona alone: {without_s * 1000:,.0f} ms")
    with served():
        pages = {name: measure(visitor(team, view), query) for name, (view, query) in PAGES.items()}
    for name, figures in pages.items():
        tell(name, figures, AIM)
    return {
        "name": "spend",
        "calls": CALLS,
        "days": days,
        "added_up_s": round(added_up_s, 1),
        "a_day_s": round(added_up_s / days, 2),
        "without_sums_ms": round(without_s * 1000),
        "visits": VISITS,
        **pages,
    }


def _make_calls(team: Any) -> None:
    from django.db import connection as database

    from audit.clock import app_now
    from audit.schema import month_partition
    from tests.integrations.questions import make_connection

    last = app_now()
    asked = {
        "team": team.pk,
        "connection": make_connection(team).pk,
        "last": last,
        "step": timedelta(days=DAYS) / CALLS,
        "calls": CALLS,
        "days": DAYS,
    }
    with database.cursor() as cursor:
        for month in {(last - timedelta(days=day)).date().replace(day=1) for day in range(DAYS + 1)}:
            cursor.execute(month_partition("integrations_call", month))
        cursor.execute("ALTER TABLE integrations_call DISABLE TRIGGER USER")
        cursor.execute(MAKE, asked)
        cursor.execute("ALTER TABLE integrations_call ENABLE TRIGGER USER")
        cursor.execute(NOTE, asked)
        cursor.execute("ANALYZE integrations_call")


def _add_up_now(team: Any) -> float:
    from django.db import connection as database

    began = time.perf_counter()
    with database.cursor() as cursor:
        cursor.execute(WITHOUT, [team.pk])
        cursor.fetchall()
    return time.perf_counter() - began
