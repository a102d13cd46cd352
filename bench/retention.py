"""
What a rule about retention would change for a team with a million calls in 30 days: server time of the page.

    .venv/bin/python -m bench retention

A thousand personas share the calls, over the 371 models of `bench catalog`. One pass over the calls themselves, as a
replay of each would need at least, is measured in the same run.
"""

import time
from datetime import timedelta
from typing import Any

from bench._pages import VISITS, measure, served, tell, visitor
from bench.catalog import MODELS, catalog_of
from bench.spend import NOTE

CALLS, DAYS, PERSONAS = 1_000_000, 29, 1_000
AIM = 3_000  # ms, 95 of 100 visits
MAKE = """
INSERT INTO integrations_call (id, team_id, connection_id, tool, state, outcome, actor_kind, actor_id, actor_name,
    persona_id, persona_name, attempt, model, model_served, provider, generation_id, request_sha256,
    credits_reserved, credits, cost_usd, tokens_in, tokens_out, message, started_at, finished_at)
SELECT gen_random_uuid(), %(team)s, %(connection)s, 'create_chat_completion', 'done', '', 'user', 'member', 'Member',
    (%(personas)s::uuid[])[1 + persona], 'Persona', 1, (%(models)s::text[])[1 + (persona + n %% 2) %% %(of)s], '',
    (%(providers)s::text[])[1 + n / 7 %% 3], '', '', 3, 3, (n %% 997) * 0.000001, n %% 4001, n %% 797, '',
    begun, begun + interval '2 seconds'
  FROM generate_series(0, %(calls)s - 1) n,
       LATERAL (SELECT n %% %(people)s AS persona, %(last)s - n * %(step)s::interval AS begun) each_call
"""
EACH_CALL = """
SELECT persona_id, model, provider, tokens_in, tokens_out, cost_usd FROM integrations_call WHERE team_id = %s
"""


def run() -> dict:
    """Measure, print it beside the aim, and return the figures."""
    from integrations.models import SpendDay
    from integrations.rollups import roll_up
    from tests.factories import make_team

    team = make_team()
    with catalog_of(MODELS), served():
        _make_calls(team)
        roll_up()
        sums, each_call_s = SpendDay.objects.count(), _read_each_call(team)
        print(f"{CALLS:,} calls became {sums:,} sums; reading each call: {each_call_s * 1000:,.0f} ms")
        visit = visitor(team, "retention")
        found = {"team, ZDR": measure(visit), "team, no rule": measure(visit, "?tier=any&group=openai")}
    for name, figures in found.items():
        tell(name, figures, AIM)
    return {
        "name": "retention",
        "calls": CALLS,
        "personas": PERSONAS,
        "visits": VISITS,
        "sums": sums,
        "each_call_ms": round(each_call_s * 1000),
        **found,
    }


def _make_calls(team: Any) -> None:
    from django.db import connection as database

    from audit.clock import app_now
    from audit.schema import month_partition
    from integrations.models import CatalogModel
    from tests.integrations.questions import make_connection
    from tests.personas.builders import make_persona

    last = app_now()
    models = list(CatalogModel.objects.order_by("pk").values_list("model_id", flat=True))
    personas = [make_persona(team, name=f"Persona {n}", chain=[models[n % len(models)]]).pk for n in range(PERSONAS)]
    asked = {
        "team": team.pk,
        "connection": make_connection(team).pk,
        "personas": personas,
        "people": PERSONAS,
        "models": models,
        "of": len(models),
        "providers": ["Anthropic", "Amazon Bedrock", "OpenAI"],
        "calls": CALLS,
        "last": last,
        "step": timedelta(days=DAYS) / CALLS,
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


def _read_each_call(team: Any) -> float:
    from django.db import connection as database

    began = time.perf_counter()
    with database.cursor() as cursor:
        cursor.execute(EACH_CALL, [team.pk])
        cursor.fetchall()
    return time.perf_counter() - began
