"""What was spent in dollars, read for pages: the counters of caps, calls so far, bills unlike the catalog."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

from django.db import connection as database
from django.db.models import F, Q, QuerySet, Sum

from accounts.models import Team
from integrations.caps import period_start
from integrations.models import Call, Cap
from integrations.pricing import TOLERANCE

BILLS_SHOWN = 20
BILLS_SINCE = timedelta(days=30)

# Of a cap that counts for each of its kind, the counter that is fullest.
FULLEST = """
SELECT DISTINCT ON (counter.cap_id) counter.cap_id, counter.subject, counter.reserved_usd, counter.spent_usd,
       count(*) OVER (PARTITION BY counter.cap_id)
  FROM integrations_capcounter counter JOIN integrations_cap cap ON cap.id = counter.cap_id
 WHERE counter.team_id = %(team)s AND cap.ended_at IS NULL
   AND counter.period_start = CASE cap.period WHEN 'ever' THEN date '1970-01-01'
       ELSE date_trunc(cap.period, %(at)s::timestamptz AT TIME ZONE 'UTC')::date END
 ORDER BY counter.cap_id, counter.reserved_usd + counter.spent_usd DESC, counter.id
"""


@dataclass(frozen=True, slots=True)
class Used:
    """What a cap's fullest counter holds and has spent in this period, for whom, and how many counters there are."""

    subject: UUID
    reserved_usd: Decimal
    spent_usd: Decimal
    counters: int


def used_by_cap(*, team: Team, at: datetime) -> Mapping[UUID, Used]:
    """Return how the team's live caps stand; a cap that has counted no call in this period is not there."""
    with database.cursor() as cursor:
        cursor.execute(FULLEST, {"team": team.pk, "at": at})
        return {cap_id: Used(*values) for cap_id, *values in cursor.fetchall()}


def spent_so_far(*, team: Team, kind: str, subject: UUID | None, period: str, at: datetime) -> Decimal | None:
    """
    Return what calls of this period cost, for a cap that has no counter yet.

    None where a cap counts for each of its kind, so that there is no one sum.
    """
    if subject is None and kind != Cap.Kind.TEAM:
        return None
    whose = {"member": Q(actor_id=str(subject)), "persona": Q(persona_id=subject), "flow": Q(flow_id=subject)}
    begins = datetime.combine(period_start(period, at), time(), UTC)
    calls = Call.objects.filter(whose.get(kind, Q()), team=team, started_at__gte=begins)
    return calls.aggregate(sum=Sum("cost_usd", default=Decimal(0)))["sum"]


def unlike_bills(*, team: Team, at: datetime) -> QuerySet[Call]:
    """Return the newest calls of 30 days whose bill is more than 2 % away from what the catalog says."""
    apart = Q(cost_usd__gt=F("price_usd") * (1 + TOLERANCE)) | Q(cost_usd__lt=F("price_usd") * (1 - TOLERANCE))
    calls = Call.objects.filter(apart, team=team, started_at__gt=at - BILLS_SINCE)
    fields = ("team", "tool", "model", "persona_name", "started_at", "cost_usd", "price_usd")
    return calls.only(*fields).order_by("-started_at", "-id")[:BILLS_SHOWN]


# How far a cap that expects can be overdrawn: by so much for every call that is under way.
BEYOND = """
SELECT greatest(0, max(most_usd) - percentile_disc(0.95) WITHIN GROUP (ORDER BY cost_usd))
  FROM (
    SELECT most_usd, cost_usd FROM integrations_call
     WHERE team_id = %(team)s AND started_at > app_now() - interval '30 days' AND state = 'done'
     ORDER BY started_at DESC, id DESC LIMIT 5000
  ) newest
 WHERE most_usd IS NOT NULL AND cost_usd IS NOT NULL
"""


def overshoot_per_call(*, team: Team) -> Decimal | None:
    """
    Return by how much one call may pass a cap that holds the expected cost, in US dollars.

    It is the most that a recent call could have cost, less what 19 of 20 of them did cost. Calls under
    way at the same moment each may. None before there are such calls.
    """
    with database.cursor() as cursor:
        cursor.execute(BEYOND, {"team": team.pk})
        return cursor.fetchone()[0]
