"""
Rate limits on calls: so many a minute for a team, each member, each persona and each tool.

Each subject has one row that says when its next call would be on time. A call puts it off by one
step; whoever is a whole minute ahead must wait. One statement counts a call for all its subjects,
in the transaction that opens the call, so a refused call counts for none of them.
"""

from collections.abc import Mapping
from datetime import datetime
from math import ceil
from uuid import UUID

from django.conf import settings
from django.db import connection

from audit.statements import Rows, Statement, run

WINDOW = 60.0  # seconds a subject may be ahead: a burst of one minute's calls is fine


class TooManyCalls(Exception):
    """A rate limit of this installation is reached; `retry_after` is in seconds."""

    def __init__(self, *, subject: str, limit: int, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(
            f"{WORDS[subject.partition(':')[0]]} may make {limit:,} calls a minute. "
            f"Come back in {ceil(retry_after)} s, or ask whoever runs this installation for more."
        )


WORDS = {"team": "This team", "member": "One member", "persona": "One persona", "tool": "One tool of a team"}

# In one order everywhere, so that two calls never wait for each other's rows.
KEEP = """
INSERT INTO integrations_pace AS pace (team_id, subject, due_at)
SELECT %(team)s, wanted.subject, %(now)s::timestamptz + make_interval(secs => wanted.step)
  FROM unnest(%(subjects)s::text[], %(steps)s::float8[]) AS wanted (subject, step)
 ORDER BY wanted.subject
ON CONFLICT (team_id, subject) DO UPDATE
   SET due_at = greatest(pace.due_at, %(now)s) + (excluded.due_at - %(now)s)
 WHERE greatest(pace.due_at, %(now)s) + (excluded.due_at - %(now)s) <= %(now)s::timestamptz + interval '60 seconds'
RETURNING subject
"""


def keep_pace(*, team_id: UUID, subjects: Mapping[str, str], now: datetime) -> None:
    """
    Count one call for each subject: {"team": "", "member": id, "persona": id, "tool": name}.

    In the caller's transaction. Raises TooManyCalls, and then the caller's transaction must end.
    """
    run(keeping_pace(team_id=team_id, subjects=subjects, now=now))


def keeping_pace(*, team_id: UUID, subjects: Mapping[str, str], now: datetime) -> Statement[None]:
    """Return the statement that does what `keep_pace` does."""
    limits = {_key(kind, id): settings.CALLS_A_MINUTE[kind] for kind, id in sorted(subjects.items())}
    steps = [WINDOW / limit for limit in limits.values()]

    def read(rows: Rows) -> None:
        counted = {subject for (subject,) in rows}
        if late := [subject for subject in limits if subject not in counted]:
            raise TooManyCalls(subject=late[0], limit=limits[late[0]], retry_after=_wait(team_id, late[0], limits, now))

    return Statement(KEEP, {"team": team_id, "subjects": list(limits), "steps": steps, "now": now}, read)


def _key(kind: str, id: str) -> str:
    return f"{kind}:{id}" if id else kind


def _wait(team_id: UUID, subject: str, limits: Mapping[str, int], now: datetime) -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT due_at FROM integrations_pace WHERE team_id = %s AND subject = %s", [team_id, subject])
        due_at = cursor.fetchone()[0]
    return max(0.1, (due_at - now).total_seconds() + WINDOW / limits[subject] - WINDOW)
