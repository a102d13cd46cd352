"""
Sums of calls by day, kept right by adding days up anew from their calls.

A trigger notes the day of each call that ends, is settled or is put right, in the transaction that does it. So
whatever wrote it, however late, and whoever died on the way: the next look adds that day up from its calls, and
doing so twice changes nothing.
"""

from datetime import date
from uuid import UUID

from django.db import connection as database
from django.db import transaction

LOCK = 7_300_551  # of the database: one adds up at a time
AT_ONCE = 20_000  # notes of one transaction

# In the team's zone: a report's days are its own.
TAKE = """
WITH taken AS (
    DELETE FROM integrations_spendchange WHERE id IN (
        SELECT id FROM integrations_spendchange ORDER BY id LIMIT %s)
    RETURNING team_id, started_at
)
SELECT DISTINCT taken.team_id, (taken.started_at AT TIME ZONE team.zone)::date
  FROM taken JOIN accounts_team team ON team.id = taken.team_id
"""
FORGET = "DELETE FROM integrations_spendday WHERE team_id = %s AND day = %s"
ADD_UP = """
WITH team AS (SELECT id, zone FROM accounts_team WHERE id = %(team)s)
INSERT INTO integrations_spendday (team_id, day, connection_id, persona_id, persona_name, flow_id, actor_id, actor_name,
                                   tool, asked, model, provider, calls, failed, unknown, cost_usd, credits, tokens_in,
                                   tokens_out, longest)
SELECT call.team_id, %(day)s, connection_id, persona_id, max(persona_name), flow_id, actor_id, max(actor_name), tool,
       model, coalesce(nullif(model_served, ''), model) AS answered, provider, count(*),
       count(*) FILTER (WHERE state = 'failed'), count(*) FILTER (WHERE state = 'unknown'), coalesce(sum(cost_usd), 0),
       coalesce(sum(credits), 0), coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0),
       coalesce(max(coalesce(tokens_in, 0) + coalesce(tokens_out, 0)), 0)
  FROM integrations_call call JOIN team ON team.id = call.team_id
 WHERE call.team_id = %(team)s AND state <> 'sent'
   AND started_at >= %(day)s::timestamp AT TIME ZONE team.zone
   AND started_at < (%(day)s::date + 1)::timestamp AT TIME ZONE team.zone
 GROUP BY call.team_id, connection_id, persona_id, flow_id, actor_id, tool, model, answered, provider
"""


def roll_up() -> int:
    """Add up every day of which a call has changed, and return how many. Nothing while another one does."""
    done = 0
    while days := _roll_up_some():
        done += len(days)
    return done


@transaction.atomic
def _roll_up_some() -> list[tuple[UUID, date]]:
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        if not cursor.fetchone()[0]:
            return []
        cursor.execute(TAKE, [AT_ONCE])
        days = cursor.fetchall()
        for team, day in days:
            cursor.execute(FORGET, [team, day])
            cursor.execute(ADD_UP, {"team": team, "day": day})
    return days
