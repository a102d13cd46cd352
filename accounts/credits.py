"""
The platform-credit ledger of a team: reserve before a call, settle or release after it.

Every function runs in the caller's transaction. One conditional UPDATE decides each race, so
parallel calls can never promise more than the plan grants.
"""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from django.db import connection

from accounts.models import CreditAccount, CreditEntry, Team
from audit.ids import uuid7


class OutOfCredits(Exception):
    """The plan's platform credits of this month do not cover the call."""

    def __init__(self, *, needed: int, left: int, resets_on: date):
        self.needed, self.left, self.resets_on = needed, left, resets_on
        super().__init__(
            f"This call may take {needed:,} platform credits and {left:,} are left. "
            f"They reset on {resets_on:%-d %B}; a larger plan helps at once."
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """Platform credits held for one call, and the database's time at which they were."""

    account_id: UUID
    credits: int
    at: datetime


# The line in the ledger belongs to the statement that holds the credits: a call pays for one round trip.
RESERVE = """
WITH held AS (
    UPDATE accounts_creditaccount SET reserved = reserved + %(credits)s
     WHERE team_id = %(team)s AND period = date_trunc('month', app_now() AT TIME ZONE 'UTC')::date
       AND spent + reserved + %(credits)s <= granted
    RETURNING id, app_now() AS at
), entered AS (
    INSERT INTO accounts_creditentry (id, team_id, account_id, at, kind, credits, call_id)
    SELECT %(entry)s, %(team)s, id, at, 'reserve', %(credits)s, %(call)s FROM held
)
SELECT id, at FROM held
"""
MOVE = """
WITH moved AS (
    UPDATE accounts_creditaccount SET reserved = reserved - %(reserved)s, spent = spent + %(spent)s
     WHERE id = %(account)s AND team_id = %(team)s
    RETURNING id
)
INSERT INTO accounts_creditentry (id, team_id, account_id, at, kind, credits, call_id)
SELECT %(entry)s, %(team)s, id, %(at)s, %(kind)s, %(spent)s, %(call)s FROM moved
"""


def reserve(*, team: Team, credits: int, call_id: UUID) -> Reservation:
    """
    Hold platform credits for a call.

    Raises OutOfCredits. A team's first call of a month opens the month's account.
    """
    row = _try_reserve(team, credits, call_id)
    if row is None:
        open_period(team=team)  # by us, or by a parallel call that was first: either way it is open now
        row = _try_reserve(team, credits, call_id)
    if row is None:
        account = current_account(team=team)
        raise OutOfCredits(needed=credits, left=account.left, resets_on=_month_after(account.period))
    return Reservation(account_id=row[0], credits=credits, at=row[1])


def settle(*, team_id: UUID, account_id: UUID, reserved: int, spent: int, call_id: UUID, at: datetime) -> None:
    """Turn a reservation into spending: what the call really took, in the month that reserved it."""
    _move(team_id, account_id, "settle", reserved, spent, call_id, at)


def release(*, team_id: UUID, account_id: UUID, reserved: int, call_id: UUID, at: datetime) -> None:
    """Give a reservation back, with proof that the call took nothing."""
    _move(team_id, account_id, "release", reserved, 0, call_id, at)


def open_period(*, team: Team) -> bool:
    """Open the team's account of this month with its plan's grant. False when it was open."""
    with connection.cursor() as cursor:
        cursor.execute(OPEN, {"id": CreditAccount().pk, "team": team.pk, "granted": team.plan.monthly_credits})
        row = cursor.fetchone()
    if row:
        CreditEntry.objects.create(
            team=team, account_id=row[0], kind="grant", credits=team.plan.monthly_credits, at=row[1]
        )
    return row is not None


def current_account(*, team: Team) -> CreditAccount:
    """Return the team's account of the newest month it has one for."""
    return team.credit_accounts.latest("period")


OPEN = """
INSERT INTO accounts_creditaccount (id, team_id, period, granted, reserved, spent)
VALUES (%(id)s, %(team)s, date_trunc('month', app_now() AT TIME ZONE 'UTC')::date, %(granted)s, 0, 0)
ON CONFLICT (team_id, period) DO NOTHING
RETURNING id, app_now()
"""


def _try_reserve(team: Team, credits: int, call_id: UUID) -> tuple[UUID, datetime] | None:
    with connection.cursor() as cursor:
        cursor.execute(RESERVE, {"team": team.pk, "credits": credits, "call": call_id, "entry": uuid7()})
        return cursor.fetchone()


def _move(team_id: UUID, account_id: UUID, kind: str, reserved: int, spent: int, call_id: UUID, at: datetime) -> None:
    row = {"team": team_id, "account": account_id, "kind": kind, "reserved": reserved, "spent": spent}
    with connection.cursor() as cursor:
        cursor.execute(MOVE, row | {"call": call_id, "at": at, "entry": uuid7()})


def _month_after(period: date) -> date:
    return date(period.year + period.month // 12, period.month % 12 + 1, 1)
