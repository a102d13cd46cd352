"""What one run may take in platform credits over all its calls, where its caller sets a limit to that."""

from uuid import UUID

from audit.statements import Rows, Statement, run

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
