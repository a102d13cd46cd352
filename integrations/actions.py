"""Connecting an integration, testing what its key reaches, and taking it away again."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts.models import Team, User
from audit.actions import Actor, record
from audit.clock import app_now
from integrations import reach, scopes
from integrations.models import Connection
from integrations.queue import test_later
from integrations.registry import Integration
from vault import actions as vault
from vault.models import Credential, Grant


@transaction.atomic
def connect(*, team: Team, integration: Integration, label: str, kind: str, posted: str, by: User) -> Connection:
    """
    Lend a team's key to Definable and have a worker test it.

    Raises PostedSecretRefused when the text cannot be a key, LabelTaken when the name is in use.
    """
    now = app_now()
    credential = vault.post_credential(team=team, label=label, kind=kind, posted=posted, by=by, at=now)
    connection = Connection.objects.create(
        team=team,
        integration=integration.slug,
        label=label,
        credential=credential,
        test_wanted_at=now,
        created_by=by,
        created_at=now,
    )
    _record("integrations.connection.made", connection, by, now)
    test_later(connection)
    return connection


@transaction.atomic
def ask_for_test(*, connection: Connection, by: User) -> None:
    """Have a worker test again what the key reaches."""
    now = app_now()
    Connection.objects.filter(pk=connection.pk).update(test_wanted_at=now)
    _record("integrations.connection.test_asked", connection, by, now)
    test_later(connection)


def run_test(*, connection: Connection) -> None:
    """
    Adopt a posted key if need be, ask the provider who it belongs to, and note what it reaches.

    For workers. Repeating it is harmless.
    """
    found = reach.test(connection=connection)
    Connection.objects.live().filter(pk=connection.pk).update(
        state=found.state,
        state_reason=found.reason,
        account=found.account,
        reach=found.tools,
        tested_at=app_now(),
        test_wanted_at=None,
    )


@transaction.atomic
def enable_for(*, connection: Connection, persona_id: UUID, tools: Iterable[str], by: User) -> Grant:
    """Let a persona use exactly these tools of a connection; what is not named is off."""
    known = {tool.name for tool in connection.provider.tools}
    return vault.grant(
        team=connection.team,
        holder=persona_id,
        connection=connection.pk,
        scopes=scopes.scopes_for(known.intersection(tools)),
        by=by,
        at=app_now(),
    )


@transaction.atomic
def disable_for(*, connection: Connection, persona_id: UUID, by: User) -> None:
    """Take a connection from a persona, at once. Raises AlreadyRevoked when it has none."""
    live = Grant.objects.live().filter(team=connection.team, holder=persona_id, connection=connection.pk)
    grant = live.select_for_update().first()
    if grant is None:
        raise vault.AlreadyRevoked
    vault.revoke_grant(grant=grant, by=by, at=app_now())


@transaction.atomic
def revoke(*, connection: Connection, by: User) -> None:
    """
    End a connection: destroy what we hold of its key, so that running work stops at its next call.

    Works without the provider and the broker. Raises AlreadyRevoked on a second try.
    """
    now = app_now()
    credential = Credential.objects.get(pk=connection.credential_id, team=connection.team)
    vault.revoke_credential(credential=credential, by=by, at=now)
    Connection.objects.filter(pk=connection.pk).update(state=Connection.State.REVOKED, test_wanted_at=None)
    for grant in Grant.objects.live().filter(team=connection.team, connection=connection.pk):
        vault.revoke_grant(grant=grant, by=by, at=now)
    _record("integrations.connection.revoked", connection, by, now)


def _record(action: str, connection: Connection, by: User, at: datetime) -> None:
    record(
        action,
        at=at,
        team_id=connection.team_id,
        actor=Actor.user(by),
        target=f"connection:{connection.pk}",
        target_name=connection.label,
    )
