"""
What one run may take over all its calls, where its caller sets a limit to that.

The whole run in platform credits, and some of its stages in US dollars.
"""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from audit.statements import Rows, Statement, run
from integrations.dollars import in_dollars

# What a call took, or holds while nobody knows.
TAKEN = """
SELECT coalesce(sum(coalesce(credits, credits_reserved)), 0)::int FROM integrations_call
 WHERE team_id = %(team)s AND run_id = %(run)s
"""


class RunLimitReached(Exception):
    """The run has taken so many platform credits that this call might pass its limit."""

    def __init__(self, *, limit: int, taken: int, needed: int) -> None:
        self.limit, self.taken, self.needed = limit, taken, needed
        super().__init__(
            f"This may take at most {limit:,} platform credits in all. {taken:,} are taken, and this call could take "
            f"{needed:,}. Ask for a shorter answer, or raise the limit in the persona's settings."
        )


def taken(*, team_id: UUID, run_id: UUID) -> int:
    """Return the platform credits that a run's calls have taken or hold."""
    return run(Statement(TAKEN, {"team": team_id, "run": run_id}, lambda rows: rows[0][0]))


def checking(*, team_id: UUID, run_id: UUID, most_credits: int, needed: int) -> Statement[None]:
    """
    Return the statement that raises RunLimitReached where a call of a run might pass what the run may take.

    Holds under parallel calls only in a transaction that has reserved the call's platform credits: that
    locked the team's account, so each call sees those before it.
    """

    def read(rows: Rows) -> None:
        before = rows[0][0]
        if needed and before + needed > most_credits:
            raise RunLimitReached(limit=most_credits, taken=before, needed=needed)

    return Statement(TAKEN, {"team": team_id, "run": run_id}, read)


# --- stages, in dollars -----------------------------------------------------------------

# What calls cost, or may have cost while nobody knows.
COST = """
SELECT coalesce(sum(coalesce(cost_usd, CASE state WHEN 'failed' THEN 0 ELSE most_usd END)), 0)
  FROM integrations_call
 WHERE team_id = %(team)s AND run_id = %(run)s AND stage_id = ANY(%(stages)s)
"""


@dataclass(frozen=True, slots=True)
class StageLimit:
    """What the calls of these stages of a run may cost together, in US dollars."""

    most_usd: Decimal
    stages: tuple[UUID, ...]


class StageLimitReached(Exception):
    """The calls of a stage have cost so much that this one might pass its limit, or nobody knows what it costs."""

    def __init__(self, *, limit: Decimal, cost: Decimal, needed: Decimal | None) -> None:
        self.limit, self.cost, self.needed = limit, cost, needed
        could = f"could cost {in_dollars(needed)}" if needed is not None else "has no known price"
        super().__init__(
            f"This stage may cost at most {in_dollars(limit)}. {in_dollars(cost)} is taken or held, and this call "
            f"{could}. Ask for a shorter answer, choose a cheaper model, or raise the limit of the stage."
        )


def checking_stage(*, team_id: UUID, run_id: UUID, limit: StageLimit, needed: Decimal | None) -> Statement[None]:
    """
    Return the statement that raises StageLimitReached where a call might pass what its stage may cost.

    `needed` is the most that the call can cost, None if nobody knows. Holds under parallel calls in the
    same transactions as `checking`.
    """

    def read(rows: Rows) -> None:
        cost = rows[0][0]
        if needed is None or cost + needed > limit.most_usd:
            raise StageLimitReached(limit=limit.most_usd, cost=cost, needed=needed)

    return Statement(COST, {"team": team_id, "run": run_id, "stages": list(limit.stages)}, read)
