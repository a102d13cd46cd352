"""Connecting an integration, testing what its key reaches, lending it, and taking it away again."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from accounts.models import Membership, Team, User
from audit.actions import Actor, record
from audit.clock import app_now
from integrations import catalog_reading, lending, reach
from integrations.models import Connection
from integrations.queue import read_catalog_later, test_later
from integrations.registry import Integration
from integrations.scope_words import describe, summary
from integrations.scopes import BadScopes, Scopes
from vault import actions as vault
from vault.models import Credential, Grant
from vault.secret import Secret


class ScopesChanged(Exception):
    """Somebody changed the grant meanwhile: look at it again before changing it."""


class ReadJustNow(Exception):
    """The catalog was read, or tried, less than five minutes ago; `again_at` is when it may be again."""

    def __init__(self, again_at: datetime) -> None:
        super().__init__("The catalog can be read every five minutes.")
        self.again_at = again_at


@transaction.atomic
def connect(
    *, team: Team, integration: Integration, label: str, kind: str, posted: str | Secret, by: User
) -> Connection:
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
    """
    Let a persona use exactly these tools of a connection; what is not named is off.

    Tools that it may use already keep their limits and go on asking first where they did.
    """
    known = {tool.name for tool in connection.provider.tools}
    grant = _live_grant(connection, persona_id)
    return vault.grant(
        team=connection.team,
        holder=persona_id,
        connection=connection.pk,
        scopes=lending.with_tools(grant.scopes if grant else {}, known.intersection(tools)),
        by=by,
        at=app_now(),
    )


@transaction.atomic
def set_scopes(
    *, connection: Connection, holder: UUID, name: str, scopes: Scopes, by: User, seen: str | None = None
) -> Grant:
    """
    Lend a connection to a holder, a persona or a flow called `name`, within exactly these scopes.

    `seen` is the `lending.fingerprint` of the scopes that the change was made from. Raises
    ScopesChanged when they are others by now, and BadScopes when what is lent does not exist.
    """
    _check_scopes(connection, scopes)
    # Two tabs may both find no grant: the connection is what they queue for.
    Connection.objects.select_for_update().get(pk=connection.pk)
    grant = _live_grant(connection, holder)
    kept = grant.scopes if grant else None
    if seen is not None and seen != lending.fingerprint(kept):
        raise ScopesChanged
    made = vault.grant(
        team=connection.team, holder=holder, connection=connection.pk, scopes=scopes.as_json(), by=by, at=app_now()
    )
    _record_scopes(connection, made, kept, scopes, name=name, by=by)
    return made


@dataclass(frozen=True, slots=True)
class Change:
    """New scopes for one connection, made from those that `lending.fingerprint` calls `seen`."""

    connection: Connection
    scopes: Scopes
    seen: str


@transaction.atomic
def set_all_scopes(*, changes: Iterable[Change], holder: UUID, name: str, by: User) -> None:
    """Make all these changes or none. Raises ScopesChanged and BadScopes as `set_scopes` does."""
    # In one order everywhere, so that two people never wait for each other.
    for change in sorted(changes, key=lambda change: change.connection.pk):
        set_scopes(
            connection=change.connection, holder=holder, name=name, scopes=change.scopes, by=by, seen=change.seen
        )


def _live_grant(connection: Connection, holder: UUID) -> Grant | None:
    live = Grant.objects.live().filter(team=connection.team, holder=holder, connection=connection.pk)
    return live.select_for_update().first()


def _check_scopes(connection: Connection, scopes: Scopes) -> None:
    problems = lending.problems(scopes, connection.provider)
    members = Membership.objects.filter(team=connection.team, user__in=scopes.approvers).count()
    if members < len(set(scopes.approvers)):
        problems.append("Somebody named to approve is not a member of the team.")
    if problems:
        raise BadScopes(" ".join(problems))


def _record_scopes(
    connection: Connection, grant: Grant, before: dict[str, Any] | None, after: Scopes, *, name: str, by: User
) -> None:
    words = {"name": name, "titles": lending.titles(connection.provider)}
    old = lending.read_or_none(before)
    record(
        "integrations.scopes.changed",
        team_id=connection.team_id,
        actor=Actor.user(by),
        target=f"grant:{grant.pk}",
        target_name=f"{name}, {connection.label}",
        details={
            "changes": describe(old, after, **words),
            "before": summary(old, **words),
            "after": summary(after, **words),
        },
    )


@transaction.atomic
def ask_for_catalog(*, team: Team, integration: Integration, by: User) -> None:
    """Have a worker read an integration's catalog again. Raises ReadJustNow."""
    again_at = catalog_reading.again_at(integration=integration.slug)
    if again_at:
        raise ReadJustNow(again_at)
    actor = Actor.user(by)
    record("catalog.asked", team_id=team.pk, actor=actor, target="catalog", target_name=integration.name)
    read_catalog_later()


@transaction.atomic
def disable_for(*, connection: Connection, persona_id: UUID, by: User) -> None:
    """Take a connection from a persona, at once. Raises AlreadyRevoked when it has none."""
    grant = _live_grant(connection, persona_id)
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
