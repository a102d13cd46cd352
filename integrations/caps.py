"""
Dollar caps: what a call may cost is held under every cap that counts for it, and settled after it.

`hold` belongs into the transaction that opens a call, `settle` and `release` into the one that closes
it, all after the platform credits' own statements: rows are locked in one order everywhere. A call
whose cost is not known keeps what it holds. A counter's lines always add up to it.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any
from uuid import UUID

from django.db import connection as database

from audit.ids import uuid7
from audit.schema import next_month
from audit.statements import Rows, Statement, run
from integrations.dollars import in_dollars
from integrations.models import Cap

NOTHING = Decimal(0)
EXACT = Decimal(10) ** -12  # what the tables keep
NO_PERIOD = date(1970, 1, 1)
FEWEST_TOKENS = 64  # an answer that must be shorter than this is not worth asking for
WHAT_TO_DO = "An owner or admin can raise it on the Limits page."
COUNTED = {"team": "the team's", "member": "this member's", "persona": "this persona's"}
COUNTED |= {"flow": "this flow's", "run": "this run's"}


class CapReached(Exception):
    """
    A cap does not leave room for what the call may cost; nothing is held.

    The caller's transaction must end. Amounts are in US dollars; `resets_at` is None for a cap without a period.
    """

    def __init__(self, demand: "Demand", message: str, *, needed: Decimal | None, resets_at: datetime | None) -> None:
        self.demand, self.needed, self.left, self.resets_at = demand, needed, demand.left, resets_at
        super().__init__(message)


class UnknownPrice(CapReached):
    """Nobody can say what the call may cost at most, so no cap can answer for it."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A cap that counts for one call: for whom it counts there, and how it stood when it was read."""

    cap_id: UUID
    kind: str
    subject: UUID
    period: str
    mode: str
    limit_usd: Decimal
    reserved_usd: Decimal
    spent_usd: Decimal

    @property
    def left(self) -> Decimal:
        """What a call could still have held when this was read."""
        return max(NOTHING, self.limit_usd - self.reserved_usd - self.spent_usd)

    @property
    def words(self) -> str:
        """Its name in a sentence: the team's cap of $20.00 a month."""
        return f"{COUNTED[self.kind]} cap of {in_dollars(self.limit_usd)} {Cap.Period(self.period).label}"


# --- which caps count -------------------------------------------------------------------

KINDS = [kind.value for kind in Cap.Kind]  # the order in which rows are locked, everywhere

# A JSON list, to be a column of whatever statement reads what else decides a call. Its parameters:
# team, user, persona, flow and run, all but the team may be null. A team without caps costs one look
# into the index of caps.
DEMANDS = """(
SELECT coalesce(json_agg(json_build_array(
           cap.id, cap.kind, counted.subject, cap.period, cap.mode,
           cap.limit_usd::text, coalesce(counter.reserved_usd, 0)::text, coalesce(counter.spent_usd, 0)::text
       )), '[]')
  FROM integrations_cap cap
 CROSS JOIN LATERAL (
    SELECT CASE cap.kind WHEN 'team' THEN cap.team_id WHEN 'member' THEN %(user)s::uuid
           WHEN 'persona' THEN %(persona)s::uuid WHEN 'flow' THEN %(flow)s::uuid ELSE %(run)s::uuid END AS subject,
           CASE cap.period WHEN 'ever' THEN date '1970-01-01'
           ELSE date_trunc(cap.period, app_now() AT TIME ZONE 'UTC')::date END AS period_start
 ) counted
  LEFT JOIN integrations_capcounter counter
    ON counter.team_id = cap.team_id AND counter.cap_id = cap.id
   AND counter.subject = counted.subject AND counter.period_start = counted.period_start
 WHERE cap.team_id = %(team)s AND cap.ended_at IS NULL
   AND counted.subject IS NOT NULL AND (cap.subject IS NULL OR cap.subject = counted.subject)
)"""


def read_demands(data: str | Sequence[Sequence[Any]]) -> tuple[Demand, ...]:
    """Read what `DEMANDS` gave, in the order in which caps are held."""
    rows = json.loads(data) if isinstance(data, str) else data
    demands = (
        Demand(UUID(cap_id), kind, UUID(subject), period, mode, *map(Decimal, amounts))
        for cap_id, kind, subject, period, mode, *amounts in rows
    )
    return tuple(sorted(demands, key=_place))


def _place(demand: Demand) -> tuple[int, UUID]:
    return KINDS.index(demand.kind), demand.cap_id


# --- before a call ----------------------------------------------------------------------


def affordable(demands: Iterable[Demand]) -> Decimal | None:
    """Return the dollars that a call may cost at most under the tightest strict cap, or None without one."""
    return min((demand.left for demand in demands if demand.mode == Cap.Mode.STRICT), default=None)


def fitting_tokens(
    demands: Sequence[Demand], *, wanted: int, most_usd: Callable[[int], Decimal | None], at: datetime
) -> int:
    """
    Return how long an answer may be, in tokens, so that the most it can cost fits under every strict cap.

    `most_usd` says what an answer of so many tokens costs at most, and None if nobody knows. Raises
    UnknownPrice, and CapReached where not even 64 tokens fit (or all that were wanted, if fewer).
    """
    room = affordable(demands)
    if room is None:
        return wanted
    fewest = min(wanted, FEWEST_TOKENS)
    least, most = most_usd(fewest), most_usd(wanted)
    if not is_price(least) or not is_price(most):
        raise unknown_price(demands, at)
    if least > room:
        raise _too_little(min(demands, key=lambda demand: _room(demand)), least, fewest, at)
    return wanted if most <= room else _longest(fewest, wanted, lambda tokens: most_usd(tokens) <= room)


def is_price(usd: Decimal | None) -> bool:
    """Say whether this is an amount of dollars that something may cost."""
    return usd is not None and usd.is_finite() and usd >= 0


def _room(demand: Demand) -> tuple[bool, Decimal]:
    return demand.mode != Cap.Mode.STRICT, demand.left


def _longest(fits: int, too_long: int, does_fit: Callable[[int], bool]) -> int:
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        fits, too_long = (middle, too_long) if does_fit(middle) else (fits, middle)
    return fits


# percentile_disc gives one of the costs themselves, to the last decimal. Only the newest calls are
# looked at, so that a busy team does not wait for its own history.
USUAL = """
SELECT CASE WHEN count(*) >= 20 THEN percentile_disc(0.95) WITHIN GROUP (ORDER BY cost_usd) END
  FROM (
    SELECT persona_id, model, state, cost_usd FROM integrations_call
     WHERE team_id = %(team)s AND started_at > app_now() - interval '30 days'
     ORDER BY started_at DESC, id DESC LIMIT 5000
  ) newest
 WHERE persona_id IS NOT DISTINCT FROM %(persona)s::uuid AND model = %(model)s
   AND state = 'done' AND cost_usd IS NOT NULL
"""


def usual_usd(*, team_id: UUID, persona_id: UUID | None, model: str) -> Decimal | None:
    """
    Return what 19 of 20 calls of this persona to this model cost at most in the last 30 days.

    None with fewer than 20 of them. Only a cap that holds the expected cost needs it.
    """
    with database.cursor() as cursor:
        cursor.execute(USUAL, {"team": team_id, "persona": persona_id, "model": model})
        return cursor.fetchone()[0]


# --- hold -------------------------------------------------------------------------------

# The first call of a period makes its counter. A limit lowered or a cap ended since the demands were
# read counts as it is now. What is refused comes back, and then the caller's transaction must end.
HOLD = """
WITH wanted AS (
    SELECT wanted.*, cap.limit_usd
      FROM unnest(%(counters)s::uuid[], %(entries)s::uuid[], %(caps)s::uuid[], %(subjects)s::uuid[],
                  %(periods)s::date[], %(amounts)s::numeric[])
           WITH ORDINALITY AS wanted (counter_id, entry_id, cap_id, subject, period_start, usd, place)
      JOIN integrations_cap cap ON cap.id = wanted.cap_id AND cap.team_id = %(team)s AND cap.ended_at IS NULL
), held AS (
    INSERT INTO integrations_capcounter AS counter
           (id, team_id, cap_id, subject, period_start, reserved_usd, spent_usd)
    SELECT counter_id, %(team)s, cap_id, subject, period_start, usd, 0
      FROM wanted WHERE usd = 0 OR usd <= limit_usd
     ORDER BY place
    ON CONFLICT (team_id, cap_id, subject, period_start) DO UPDATE
       SET reserved_usd = counter.reserved_usd + excluded.reserved_usd
     WHERE excluded.reserved_usd = 0 OR counter.spent_usd + counter.reserved_usd + excluded.reserved_usd
           <= (SELECT cap.limit_usd FROM integrations_cap cap WHERE cap.id = counter.cap_id)
    RETURNING counter.id, counter.cap_id
), lines AS (
    INSERT INTO integrations_capentry (id, team_id, counter_id, at, kind, usd, call_id)
    SELECT wanted.entry_id, %(team)s, held.id, %(at)s, 'reserve', wanted.usd, %(call)s
      FROM held JOIN wanted ON wanted.cap_id = held.cap_id
)
SELECT wanted.cap_id FROM wanted
 WHERE NOT EXISTS (SELECT FROM held WHERE held.cap_id = wanted.cap_id)
 ORDER BY wanted.place LIMIT 1
"""


def hold(
    *,
    team_id: UUID,
    demands: Sequence[Demand],
    usd: Decimal | None,
    expected_usd: Decimal | None = None,
    call_id: UUID,
    at: datetime,
) -> None:
    """
    Hold what a call may cost under all its caps, or under none of them.

    `usd` is the most it may cost, None if nobody knows; `expected_usd` is what the caps that expect
    hold instead, where it is known. Pass no demands for a call that can cost nothing. Raises
    CapReached or UnknownPrice, and IntegrityError for a call that has held before.
    """
    if demands:
        run(holding(team_id=team_id, demands=demands, usd=usd, expected_usd=expected_usd, call_id=call_id, at=at))


def holding(
    *,
    team_id: UUID,
    demands: Sequence[Demand],
    usd: Decimal | None,
    expected_usd: Decimal | None = None,
    call_id: UUID,
    at: datetime,
) -> Statement[None]:
    """Return the statement that does what `hold` does, for one demand at least. Raises UnknownPrice at once."""
    if not is_price(usd):
        raise unknown_price(demands, at)
    amounts = {demand: _amount(demand, usd, expected_usd) for demand in sorted(demands, key=_place)}

    def read(rows: Rows) -> None:
        for demand, amount in amounts.items():
            if rows and demand.cap_id == rows[0][0]:
                raise _reached(_as_it_stands(team_id, demand, at), amount, at)

    return Statement(HOLD, _wanted(team_id, amounts, call_id, at), read)


def _amount(demand: Demand, usd: Decimal, expected_usd: Decimal | None) -> Decimal:
    if demand.mode == Cap.Mode.EXPECTED and is_price(expected_usd):
        usd = min(usd, expected_usd)
    return usd.quantize(EXACT, ROUND_CEILING)


def _wanted(team_id: UUID, demands: Mapping[Demand, Decimal], call_id: UUID, at: datetime) -> dict[str, Any]:
    return {
        "team": team_id,
        "call": call_id,
        "at": at,
        "counters": [uuid7() for _ in demands],
        "entries": [uuid7() for _ in demands],
        "caps": [demand.cap_id for demand in demands],
        "subjects": [demand.subject for demand in demands],
        "periods": [period_start(demand.period, at) for demand in demands],
        "amounts": list(demands.values()),
    }


STANDING = """
SELECT cap.mode, cap.limit_usd, coalesce(counter.reserved_usd, 0), coalesce(counter.spent_usd, 0)
  FROM integrations_cap cap
  LEFT JOIN integrations_capcounter counter ON counter.team_id = cap.team_id AND counter.cap_id = cap.id
   AND counter.subject = %(subject)s AND counter.period_start = %(period)s
 WHERE cap.id = %(cap)s AND cap.team_id = %(team)s
"""


def _as_it_stands(team_id: UUID, demand: Demand, at: datetime) -> Demand:
    period = period_start(demand.period, at)
    asked = {"team": team_id, "cap": demand.cap_id, "subject": demand.subject, "period": period}
    with database.cursor() as cursor:
        cursor.execute(STANDING, asked)
        return Demand(demand.cap_id, demand.kind, demand.subject, demand.period, *cursor.fetchone())


# --- settle and release -----------------------------------------------------------------

# The call's own lines say what it holds and where. Counters are locked in the order of `hold`; of two
# endings, the one that writes its line counts.
END = """
WITH held AS MATERIALIZED (
    SELECT line.counter_id, line.usd
      FROM integrations_capentry line
      JOIN integrations_capcounter counter ON counter.id = line.counter_id
      JOIN integrations_cap cap ON cap.id = counter.cap_id
     WHERE line.team_id = %(team)s AND line.call_id = %(call)s AND line.kind = 'reserve'
     ORDER BY array_position(%(kinds)s::text[], cap.kind::text), cap.id
       FOR UPDATE OF counter
), ended AS (
    INSERT INTO integrations_capentry (id, team_id, counter_id, at, kind, usd, call_id)
    SELECT gen_random_uuid(), %(team)s, counter_id, %(at)s, %(kind)s, coalesce(%(usd)s::numeric, usd), %(call)s
      FROM held
    ON CONFLICT DO NOTHING
    RETURNING counter_id, usd
), moved AS (
    UPDATE integrations_capcounter counter
       SET reserved_usd = counter.reserved_usd - held.usd, spent_usd = counter.spent_usd + ended.usd
      FROM held JOIN ended ON ended.counter_id = held.counter_id
     WHERE counter.id = held.counter_id
)
SELECT max(held.usd) FROM held JOIN ended ON ended.counter_id = held.counter_id
"""


def settle(*, team_id: UUID, call_id: UUID, usd: Decimal | None, at: datetime) -> Decimal:
    """
    Turn what a call holds into spending: its real cost, in the period that held it. A second time does nothing.

    A cost that is missing, negative or no number is taken to be all that was held. More than was held
    is charged too; that overrun is returned, in US dollars.
    """
    return run(settling(team_id=team_id, call_id=call_id, usd=usd, at=at))


def settling(*, team_id: UUID, call_id: UUID, usd: Decimal | None, at: datetime) -> Statement[Decimal]:
    """Return the statement that does what `settle` does."""
    cost = usd.quantize(EXACT) if is_price(usd) else None

    def read(rows: Rows) -> Decimal:
        most = rows[0][0]  # that one of the caps held; None when nothing is held any more
        return max(NOTHING, cost - most) if most is not None and cost is not None else NOTHING

    return _ending("settle", team_id, call_id, cost, at, read)


def release(*, team_id: UUID, call_id: UUID, at: datetime) -> None:
    """Give back what a call holds, with proof that it cost nothing. A second time does nothing."""
    run(releasing(team_id=team_id, call_id=call_id, at=at))


def releasing(*, team_id: UUID, call_id: UUID, at: datetime) -> Statement[None]:
    """Return the statement that does what `release` does."""
    return _ending("release", team_id, call_id, NOTHING, at, lambda rows: None)


def _ending(
    kind: str, team_id: UUID, call_id: UUID, usd: Decimal | None, at: datetime, read: Callable[[Rows], Any]
) -> Statement:
    asked = {"team": team_id, "call": call_id, "kind": kind, "usd": usd, "at": at, "kinds": KINDS}
    return Statement(END, asked, read)


# --- periods, in UTC --------------------------------------------------------------------


def period_start(period: str, at: datetime) -> date:
    """Return the first day of the period that a moment lies in. Weeks start on Monday."""
    day = at.astimezone(UTC).date()
    match period:
        case Cap.Period.DAY:
            return day
        case Cap.Period.WEEK:
            return day - timedelta(days=day.weekday())
        case Cap.Period.MONTH:
            return day.replace(day=1)
        case _:
            return NO_PERIOD


def resets_at(period: str, at: datetime) -> datetime | None:
    """Return when the next period begins, or None for a cap without one."""
    first = period_start(period, at)
    match period:
        case Cap.Period.DAY:
            following = first + timedelta(days=1)
        case Cap.Period.WEEK:
            following = first + timedelta(days=7)
        case Cap.Period.MONTH:
            following = next_month(first)
        case _:
            return None
    return datetime.combine(following, time(), UTC)


# --- refusals ---------------------------------------------------------------------------


def _reached(demand: Demand, needed: Decimal, at: datetime) -> CapReached:
    reset = resets_at(demand.period, at)
    message = (
        f"This call may cost {in_dollars(needed)} and {in_dollars(demand.left)} is left under {demand.words}. "
        f"{_reset_words(reset)}A shorter answer or a cheaper model may fit. {WHAT_TO_DO}"
    )
    return CapReached(demand, message, needed=needed, resets_at=reset)


def _too_little(demand: Demand, needed: Decimal, tokens: int, at: datetime) -> CapReached:
    reset = resets_at(demand.period, at)
    message = (
        f"{in_dollars(demand.left)} is left under {demand.words}, and even an answer of {tokens} tokens may cost "
        f"{in_dollars(needed)}. {_reset_words(reset)}A cheaper model may fit. {WHAT_TO_DO}"
    )
    return CapReached(demand, message, needed=needed, resets_at=reset)


NO_PRICE = "What this call may cost at most is not known. Choose a model whose price is in the catalog."


def unknown_price(demands: Sequence[Demand], at: datetime, why: str = NO_PRICE) -> UnknownPrice:
    """Return the refusal of a call without an upper bound; `why` says what has none, and what would help."""
    demand = min(demands, key=_place)
    message = (
        f"{why} As it stands, {demand.words} cannot answer for this call. "
        "An owner or admin can end the cap on the Limits page."
    )
    return UnknownPrice(demand, message, needed=None, resets_at=resets_at(demand.period, at))


def _reset_words(reset: datetime | None) -> str:
    return f"It starts anew on {reset:%-d %B at %H:%M} UTC. " if reset else ""
