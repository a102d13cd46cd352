"""Who may call which tool through which connection: asked of the rows at every call, remembered nowhere."""

import json
from dataclasses import dataclass
from uuid import UUID

from django.db import connection as database

from accounts.models import Team
from accounts.permissions import Permission, allows
from integrations import scopes
from integrations.bookkeeping import Caller
from integrations.models import Connection
from integrations.registry import Tool


class NotAllowed(Exception):
    """The member or the persona may not make this call; the message says what would allow it."""


# One statement for all: it runs before every call.
RIGHTS = """
SELECT connection.state, member.role, person.is_active, live.scopes
  FROM integrations_connection connection
  LEFT JOIN accounts_membership member
         ON member.team_id = connection.team_id AND member.user_id = %(user)s
  LEFT JOIN accounts_user person ON person.id = member.user_id
  LEFT JOIN vault_grant live
         ON live.team_id = connection.team_id AND live.connection = connection.id
        AND live.holder = %(persona)s AND live.revoked_at IS NULL
 WHERE connection.id = %(connection)s AND connection.team_id = %(team)s
"""


@dataclass(frozen=True, slots=True)
class Rights:
    """What the rows say."""

    state: str
    role: str | None
    is_active: bool | None
    scopes: str | None


def check_rights(*, team: Team, connection: Connection, tool: Tool, caller: Caller) -> None:
    """Raise NotAllowed unless member, connection and grant allow this call at this moment."""
    rights = _rights(team.pk, connection.pk, caller)
    if rights is None:
        raise NotAllowed(f"{team.name} has no such connection. Choose another one.")
    _check_caller(team, tool, caller, rights)
    if rights.state == Connection.State.REVOKED:
        raise NotAllowed(f"The connection {connection.label} was revoked. Choose another one.")
    if caller.persona_id:
        _check_grant(connection, tool, caller, rights)


def _rights(team_id: UUID, connection_id: UUID, caller: Caller) -> Rights | None:
    user_id = caller.user.pk if caller.user else None
    asked = {"team": team_id, "connection": connection_id, "user": user_id, "persona": caller.persona_id}
    with database.cursor() as cursor:
        cursor.execute(RIGHTS, asked)
        row = cursor.fetchone()
    return Rights(*row) if row else None


def _check_caller(team: Team, tool: Tool, caller: Caller, rights: Rights) -> None:
    if caller.user is None:
        if not tool.hints.read_only:
            raise NotAllowed(f"{tool.title} is done for people only.")
    elif rights.role is None:
        raise NotAllowed(f"{caller.user.email} is no longer a member of {team.name}.")
    elif not rights.is_active:
        raise NotAllowed(f"The account of {caller.user.email} was closed. Start it as somebody else.")
    elif not allows(rights.role, Permission.TOOL_RUN):
        raise NotAllowed(f"The role {rights.role} may not run tools. An owner or admin can change it.")


def _check_grant(connection: Connection, tool: Tool, caller: Caller, rights: Rights) -> None:
    if rights.scopes is None:
        raise NotAllowed(f"{caller.persona_name} has no grant for {connection.label}. Enable it on the persona's page.")
    if not scopes.allows(json.loads(rights.scopes), tool.name):
        raise NotAllowed(f"{tool.title} is off for {caller.persona_name}. Allow it on the persona's page.")
