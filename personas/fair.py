"""
Which run of a flow goes next: teams take turns, and none has more at work than it may.

A run is given a place in line when it is queued: behind all of its team's, and not before the first of anybody's. So
of two teams that wait, each has every second turn, however long the line of one of them is. What was begun and is due
again keeps its place. Answers in chats and tools from the console stand in no line: somebody sits before them.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce

from personas.leases import TAKEN, Lease, claim
from personas.models import Run

# Two statements in one message: the second one sees what was claimed before it had the lock, and a worker that is
# stopped meanwhile holds it for nobody. The clock is asked in a subquery, so that an index finds what is due.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('personas.fair'));"
FREE = f"""
    flow_id IS NOT NULL AND attempt < {Run.MAX_ATTEMPTS}
    AND team_id NOT IN (TABLE busy_teams) AND flow_id NOT IN (TABLE busy_flows)
    AND (SELECT ahead.finished_at IS NULL FROM personas_run AS ahead WHERE ahead.id = run.waits_for_id) IS NOT TRUE
"""  # noqa: S608 - constants only
CLAIM_NEXT = f"""{LOCK}
WITH going AS MATERIALIZED (
    SELECT team_id, flow_id FROM personas_run
     WHERE state = 'running' AND lease_until >= (SELECT app_now()) AND flow_id IS NOT NULL
), busy_teams AS (
    SELECT going.team_id FROM going LEFT JOIN personas_teamflows AS rules USING (team_id)
     GROUP BY going.team_id, rules.most_at_once HAVING count(*) >= coalesce(rules.most_at_once, %(most)s)
), busy_flows AS (
    SELECT flow_id FROM going JOIN personas_flow ON personas_flow.id = flow_id
     GROUP BY flow_id, most_at_once HAVING count(*) >= most_at_once
), again AS (
    SELECT run.id, place FROM personas_run AS run
     WHERE ((state = 'parked' AND parked_until <= (SELECT app_now()))
            OR (state = 'running' AND lease_until < (SELECT app_now()))) AND {FREE}
     ORDER BY place, run.id LIMIT 1 FOR UPDATE OF run SKIP LOCKED
), fresh AS (
    SELECT run.id, place FROM personas_run AS run WHERE state = 'queued' AND {FREE}
     ORDER BY place, run.id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE personas_run SET {TAKEN}
 WHERE id = (SELECT id FROM (TABLE again UNION ALL TABLE fresh) AS found ORDER BY place, id LIMIT 1)
RETURNING id, fence
"""  # noqa: S608 - constants only
PLACES = """
SELECT of.team, greatest(
    (SELECT min(place) FROM personas_run WHERE state = 'queued' AND flow_id IS NOT NULL),
    (SELECT max(place) + 1 FROM personas_run WHERE state = 'queued' AND flow_id IS NOT NULL AND team_id = of.team), 0)
  FROM unnest(%s::uuid[]) AS of (team)
"""


def take(*, run_id: UUID, owner: str) -> Lease | None:
    """
    Take what a hint is about, or None when nothing is to be had.

    The run that it names if nobody waits in line with it; otherwise whichever run of a flow is next.
    """
    stands_in_line = not Run.objects.filter(pk=run_id, flow=None).exists()
    return claim_next(owner=owner) if stands_in_line else claim(run_id=run_id, owner=owner)


def claim_next(*, owner: str) -> Lease | None:
    """Take the run of a flow whose turn it is, or return None when there is none that may go."""
    with connection.cursor() as cursor:
        cursor.execute(CLAIM_NEXT, {"owner": owner, "most": settings.RUNS_AT_ONCE})
        cursor.nextset()
        row = cursor.fetchone()
    return Lease(*row) if row else None


def places(team_ids: Iterable[UUID]) -> list[int]:
    """Places in line for runs of these teams, in their order. Two that ask at once may be given the same ones."""
    wanted: Sequence[UUID] = list(team_ids)
    with connection.cursor() as cursor:
        cursor.execute(PLACES, [list(set(wanted))])
        following = {team: count(first) for team, first in cursor.fetchall()}
    return [next(following[team]) for team in wanted]


def why_waiting(run: Run) -> str:
    """What a queued run of a flow waits for besides a worker, as a sentence; empty when that is all."""
    of_flow = run.flow.most_at_once if run.flow else None
    of_team, in_team, in_flow = Run.objects.values_list(
        "team__flow_rules__most_at_once", _going(team=OuterRef("team")), _going(flow=OuterRef("flow"))
    ).get(pk=run.pk)
    bounds = [("team", in_team, of_team or settings.RUNS_AT_ONCE), ("flow", in_flow, of_flow)]
    return next((_full(most, whose) for whose, going, most in bounds if most and going >= most), "")


def _going(**whose: OuterRef) -> Coalesce:
    """How many runs of the same team or flow are at work."""
    runs = Run.objects.filter(state=Run.State.RUNNING, flow__isnull=False, **whose).order_by()
    return Coalesce(Subquery(runs.values(*whose).annotate(going=Count("pk")).values("going")), 0)


def _full(most: int, whose: str) -> str:
    runs = "1 run of this {} is" if most == 1 else f"{most} runs of this {{}} are"
    return f"{runs.format(whose)} at work, which is as many as may be at once."
