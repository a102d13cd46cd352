"""How many calls of one connection may be on their way at once, as members set it."""

from collections.abc import Iterator

from django.db import transaction

from accounts.models import User
from audit.actions import Actor, record
from audit.statements import Rows, Statement
from integrations.models import Connection
from integrations.pace import TooManyCalls

COME_BACK = 2.0  # seconds: calls take as long as models do
# Two statements: the second one sees what was written before it had the lock.
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%(connection)s::text, 0))"
COUNT = """
SELECT count(*) FROM integrations_call
 WHERE connection_id = %(connection)s AND state = 'sent' AND started_at > %(now)s::timestamptz - interval '1 day'
"""


class TooManyAtOnce(TooManyCalls):
    """As many calls of a connection are on their way as may be; `retry_after` is in seconds."""

    def __init__(self, label: str, most: int) -> None:
        self.retry_after = COME_BACK
        calls = "1 call" if most == 1 else f"{most} calls"
        Exception.__init__(self, f"At most {calls} of {label} may be on their way at once. Come back in a moment.")


def checking(connection: Connection, now: object) -> Iterator[Statement[None]]:
    """Return the statements that refuse one call too many with TooManyAtOnce; none if the connection has no limit."""
    most = connection.calls_at_once
    if most is None:
        return

    def read(rows: Rows) -> None:
        if rows[0][0] >= most:
            raise TooManyAtOnce(connection.label, most)

    place = {"connection": connection.pk, "now": now}
    yield Statement(LOCK, place, lambda rows: None)
    yield Statement(COUNT, place, read)


@transaction.atomic
def set_calls_at_once(*, connection: Connection, most: int | None, by: User) -> None:
    """Let no more than so many calls of a connection be on their way at once; None: as many as come."""
    found = Connection.objects.select_for_update(no_key=True).get(pk=connection.pk)
    before, found.calls_at_once = found.calls_at_once, most
    if before == most:
        return
    found.save(update_fields=["calls_at_once"])
    record(
        "integrations.connection.limited",
        team_id=found.team_id,
        actor=Actor.user(by),
        target=f"connection:{found.pk}",
        target_name=found.label,
        details={"from": before, "to": most},
    )
