"""
The platform-credit ledger of a team: reserve before a call, settle or release after it.

Every function runs in the caller's transaction. One statement decides each race and writes the
ledger's line with it, so parallel calls can never promise more than the plan grants, and the
lines of a month always add up to its account.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeVar
from uuid import UUID

from django.db import connection, transaction

from accounts.models import CreditAccount, CreditEntry, Pack, Team
from accounts.models.plans import MOST_GRANTED
from audit.ids import uuid7
from audit.schema import next_month
from audit.statements import Rows, Statement, run


class OutOfCredits(Exception):
    """The plan's platform credits of this month do not cover the call."""

    def __init__(self, *, needed: int, left: int, resets_on: date):
        self.needed, self.left, self.resets_on = needed, left, resets_on
        super().__init__(
            f"This call may take {needed:,} platform credits and {left:,} are left. "
            f"They reset on {resets_on:%-d %B}; a pack or a larger plan helps at once."
        )


class NoRoom(Exception):
    """The account of this month does not cover the call as it stands, or is not open yet."""


class NotHeld(Exception):
    """The call holds no such reservation: it was settled or released before, or never made. Nothing changed."""

    def __init__(self, *, call_id: UUID, reserved: int):
        super().__init__(f"Call {call_id} does not hold {reserved:,} platform credits in this account.")


class Full(Exception):
    """The month has been granted as many platform credits as one can be."""

    def __init__(self) -> None:
        super().__init__(f"A month holds {MOST_GRANTED:,} platform credits at most. Nothing was added.")


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Reservation:
    """Platform credits held for one call, and the database's time at which they were."""

    account_id: UUID
    credits: int
    at: datetime


def reserve(*, team: Team, credits: int, call_id: UUID) -> Reservation:
    """
    Hold platform credits for a call, once.

    Raises OutOfCredits, never for a call that takes nothing, and IntegrityError for one that has
    reserved before. A team's first call of a month opens the month's account; a plan that grants more by now raises it.
    """
    return with_room(lambda: run(reserving(team=team, credits=credits, call_id=call_id)), team=team, credits=credits)


def reserving(*, team: Team, credits: int, call_id: UUID) -> Statement[Reservation]:
    """Return the statement that reserves. It raises NoRoom, so try it `with_room`."""

    def read(rows: Rows) -> Reservation:
        if not rows:
            raise NoRoom
        account_id, at = rows[0]
        return Reservation(account_id=account_id, credits=credits, at=at)

    return Statement(RESERVE, {"id": uuid7(), "team": team.pk, "credits": credits, "call": call_id}, read)


def with_room(attempt: Callable[[], Result], *, team: Team, credits: int) -> Result:
    """
    Do what reserves so many platform credits; where there is no room, raise the month to its plan and do it again.

    An attempt that raises NoRoom must have changed nothing. Raises OutOfCredits.
    """
    try:
        return attempt()
    except NoRoom:
        open_period(team=team)  # by us, or by a parallel call that was first: either way it is open now
    try:
        return attempt()
    except NoRoom:
        account = current_account(team=team)
        raise OutOfCredits(needed=credits, left=account.left, resets_on=next_month(account.period)) from None


def settle(*, team_id: UUID, account_id: UUID, reserved: int, spent: int, call_id: UUID, at: datetime) -> None:
    """
    Turn a reservation into spending: what the call really took, in the month that reserved it.

    More than was reserved is charged too, since the call did take it. Raises NotHeld.
    """
    run(settling(team_id=team_id, account_id=account_id, reserved=reserved, spent=spent, call_id=call_id, at=at))


def release(*, team_id: UUID, account_id: UUID, reserved: int, call_id: UUID, at: datetime) -> None:
    """Give a reservation back, with proof that the call took nothing. Raises NotHeld."""
    run(releasing(team_id=team_id, account_id=account_id, reserved=reserved, call_id=call_id, at=at))


def settling(
    *, team_id: UUID, account_id: UUID, reserved: int, spent: int, call_id: UUID, at: datetime
) -> Statement[None]:
    """Return the statement that does what `settle` does."""
    return _ending(CreditEntry.Kind.SETTLE, team_id, account_id, reserved, spent, call_id, at)


def releasing(*, team_id: UUID, account_id: UUID, reserved: int, call_id: UUID, at: datetime) -> Statement[None]:
    """Return the statement that does what `release` does."""
    return _ending(CreditEntry.Kind.RELEASE, team_id, account_id, reserved, 0, call_id, at)


@transaction.atomic
def open_period(*, team: Team) -> bool:
    """
    Open the team's account of this month with its plan's grant, or raise it to a larger plan's or to more seats.

    A smaller plan or fewer seats take nothing away: they count from the next month. False when nothing changed.
    """
    with connection.cursor() as cursor:
        cursor.execute(OPEN, {"id": uuid7(), "team": team.pk, "most": MOST_GRANTED})
        row = cursor.fetchone()
        if row:
            # A statement of its own: the row is ours by now, so it sees every earlier grant.
            cursor.execute(GRANT, {"id": uuid7(), "team": team.pk, "account": row[0], "granted": row[1], "at": row[2]})
    return row is not None


@transaction.atomic
def add_pack(*, team: Team, pack: Pack, key: UUID) -> bool:
    """
    Add a pack's platform credits to this month, in a line whose id is `key`.

    False when that line is there already. Raises Full when the month cannot hold more.
    """
    open_period(team=team)
    # Whoever comes second with the same key waits for this row, and then sees the first one's line.
    team.credit_accounts.select_for_update().latest("period")
    if CreditEntry.objects.filter(pk=key).exists():
        return False
    with connection.cursor() as cursor:
        facts = {"id": key, "team": team.pk, "credits": pack.credits, "note": pack.name, "most": MOST_GRANTED}
        cursor.execute(ADD, facts)
        if cursor.fetchone() is None:
            raise Full
    return True


def current_account(*, team: Team) -> CreditAccount:
    """Return the team's account of the newest month it has one for."""
    return team.credit_accounts.latest("period")


# --- one statement each -----------------------------------------------------------------

RESERVE = """
WITH held AS (
    UPDATE accounts_creditaccount SET reserved = reserved + %(credits)s
     WHERE team_id = %(team)s AND period = date_trunc('month', app_now() AT TIME ZONE 'UTC')::date
       AND (%(credits)s = 0 OR spent + reserved + %(credits)s <= granted)
    RETURNING id, app_now() AS at
)
INSERT INTO accounts_creditentry (id, team_id, account_id, at, kind, credits, call_id, note)
SELECT %(id)s, %(team)s, held.id, held.at, 'reserve', %(credits)s, %(call)s, '' FROM held
RETURNING account_id, at
"""

# The reservation's own line says what is held, so nobody can give back another amount or twice.
END = """
WITH ended AS (
    INSERT INTO accounts_creditentry (id, team_id, account_id, at, kind, credits, call_id, note)
    SELECT %(id)s, held.team_id, held.account_id, %(at)s, %(kind)s, %(spent)s, held.call_id, ''
      FROM accounts_creditentry held
     WHERE held.team_id = %(team)s AND held.call_id = %(call)s AND held.kind = 'reserve'
       AND held.account_id = %(account)s AND held.credits = %(reserved)s
    ON CONFLICT DO NOTHING
    RETURNING account_id
)
UPDATE accounts_creditaccount account SET reserved = reserved - %(reserved)s, spent = spent + %(spent)s
  FROM ended WHERE account.id = ended.account_id
RETURNING account.id
"""

# Looks first: a refused call must not wait for the row's lock only to learn that nothing changes.
# What packs added is no part of what the plan grants, so a larger plan comes on top of them.
OPEN = """
WITH month AS (
    SELECT date_trunc('month', app_now() AT TIME ZONE 'UTC')::date AS first
), wanted AS (
    SELECT team.id, least(%(most)s, plan.monthly_credits * CASE WHEN plan.per_seat THEN greatest(1, (
               SELECT count(*) FROM accounts_membership seat WHERE seat.team_id = team.id
           )) ELSE 1 END)::int AS credits
      FROM accounts_team team JOIN accounts_plan plan ON plan.id = team.plan_id
     WHERE team.id = %(team)s
)
INSERT INTO accounts_creditaccount AS account (id, team_id, period, granted, packs, reserved, spent)
SELECT %(id)s, wanted.id, month.first, wanted.credits, 0, 0, 0
  FROM month, wanted
 WHERE NOT EXISTS (
    SELECT FROM accounts_creditaccount account
     WHERE account.team_id = wanted.id AND account.period = month.first
       AND account.granted - account.packs >= wanted.credits
 )
ON CONFLICT (team_id, period) DO UPDATE SET granted = excluded.granted + account.packs
 WHERE account.granted - account.packs < excluded.granted
RETURNING id, granted - packs, app_now()
"""

GRANT = """
INSERT INTO accounts_creditentry (id, team_id, account_id, at, kind, credits, note)
SELECT %(id)s, %(team)s, %(account)s, %(at)s, 'grant', %(granted)s - coalesce(sum(credits), 0), ''
  FROM accounts_creditentry WHERE account_id = %(account)s AND kind = 'grant'
"""

ADD = """
WITH added AS (
    UPDATE accounts_creditaccount SET granted = granted + %(credits)s, packs = packs + %(credits)s
     WHERE team_id = %(team)s AND period = date_trunc('month', app_now() AT TIME ZONE 'UTC')::date
       AND granted <= %(most)s - %(credits)s
    RETURNING id, app_now() AS at
)
INSERT INTO accounts_creditentry (id, team_id, account_id, at, kind, credits, note)
SELECT %(id)s, %(team)s, added.id, added.at, 'pack', %(credits)s, %(note)s FROM added
RETURNING account_id
"""


# Where a call's platform credits are held, as part of another statement. Its parameters: team_id and id, the call's.
HOLDING_ACCOUNT = """(
SELECT account_id FROM accounts_creditentry WHERE team_id = %(team_id)s AND call_id = %(id)s AND kind = 'reserve'
)"""


def _ending(
    kind: CreditEntry.Kind, team_id: UUID, account_id: UUID, reserved: int, spent: int, call_id: UUID, at: datetime
) -> Statement[None]:
    def read(rows: Rows) -> None:
        if not rows:
            raise NotHeld(call_id=call_id, reserved=reserved)

    facts = {"team": team_id, "account": account_id, "reserved": reserved, "spent": spent, "call": call_id}
    return Statement(END, facts | {"id": uuid7(), "kind": kind.value, "at": at}, read)
