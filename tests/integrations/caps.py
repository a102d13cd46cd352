"""Caps to test with, and what their books say."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from django.db import connection

from accounts.models import Team
from audit.clock import app_now
from integrations import caps
from integrations.caps import Demand
from integrations.models import Cap, CapCounter
from tests.factories import owner_of

# Counters whose lines do not add up to them: what is held is what calls without an end reserved.
WRONG = """
SELECT counter.id FROM integrations_capcounter counter
  LEFT JOIN integrations_capentry line ON line.counter_id = counter.id
  LEFT JOIN integrations_capentry ended
    ON ended.counter_id = line.counter_id AND ended.call_id = line.call_id AND ended.kind IN ('settle', 'release')
 GROUP BY counter.id
HAVING (counter.reserved_usd, counter.spent_usd) IS DISTINCT FROM (
    coalesce(sum(line.usd) FILTER (WHERE line.kind = 'reserve' AND ended.id IS NULL), 0),
    coalesce(sum(line.usd) FILTER (WHERE line.kind = 'settle'), 0)
)
"""


def make_cap(team: Team, limit: str | Decimal = "1", *, kind: str = "team", period: str = "month", **more: Any) -> Cap:
    """A live cap, of the team and a month unless told otherwise."""
    period = "ever" if kind == "run" else period
    now = app_now()
    return Cap.objects.create(
        team=team, kind=kind, period=period, limit_usd=Decimal(limit), created_by=owner_of(team), created_at=now, **more
    )


def demands_of(team: Team, **who: UUID | None) -> tuple[Demand, ...]:
    """The caps that count for a call by user, persona, flow and run."""
    caller = {"user": None, "persona": None, "flow": None, "run": None}
    caller |= {name.removesuffix("_id"): value for name, value in who.items()}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {caps.DEMANDS}", caller | {"team": team.pk})
        return caps.read_demands(cursor.fetchone()[0])


def hold(team: Team, usd: str | Decimal | None, *, call: UUID | None = None, **more: Any) -> UUID:
    """Hold dollars for a call, under all its caps, and return the call's id."""
    call, at = call or uuid4(), more.pop("at", None) or app_now()
    expected = more.pop("expected_usd", None)
    demands = more.pop("demands", None)
    demands = demands_of(team, **more) if demands is None else demands
    usd = None if usd is None else Decimal(usd)
    caps.hold(team_id=team.pk, demands=demands, usd=usd, expected_usd=expected, call_id=call, at=at)
    return call


def settle(team: Team, call: UUID, usd: str | Decimal | None, at: datetime | None = None) -> Decimal:
    usd = None if usd is None else Decimal(usd)
    return caps.settle(team_id=team.pk, call_id=call, usd=usd, at=at or app_now())


def release(team: Team, call: UUID) -> None:
    caps.release(team_id=team.pk, call_id=call, at=app_now())


def counters(team: Team) -> list[tuple[Decimal, Decimal]]:
    """What each counter has held and spent, the oldest first."""
    return list(CapCounter.objects.filter(team=team).order_by("id").values_list("reserved_usd", "spent_usd"))


def wrong_counters() -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(WRONG)
        return [row[0] for row in cursor.fetchall()]
