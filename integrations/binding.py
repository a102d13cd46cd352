"""Grants for one run: the first run that uses one gets it."""

from uuid import UUID

from django.db import connection as database

# One conditional UPDATE: of two runs that want a grant for one run, one gets it.
BIND = """
UPDATE vault_grant SET scopes = jsonb_set(scopes, '{only_run}', to_jsonb(%(run)s::text))
 WHERE team_id = %(team)s AND connection = %(connection)s AND holder = %(holder)s AND revoked_at IS NULL
   AND (scopes ->> 'one_run')::boolean
   AND (scopes ->> 'only_run' IS NULL OR scopes ->> 'only_run' = %(run)s::text)
RETURNING id
"""


def bind_one_run(*, team_id: UUID, connection_id: UUID, holder: UUID, run_id: UUID) -> bool:
    """
    Bind a grant that is for one run to the first run that uses it. For callers whose scopes say `wants_run`.

    Returns whether the grant is this run's: False when another run was first. Done before anything leaves.
    """
    named = {"team": team_id, "connection": connection_id, "holder": holder, "run": str(run_id)}
    with database.cursor() as cursor:
        cursor.execute(BIND, named)
        return cursor.fetchone() is not None
