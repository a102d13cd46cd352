"""The one place where a credential becomes a secret."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from audit.statements import Rows, Statement, run
from vault.errors import CannotOpen, NotGranted, Revoked, Unreadable, WrongProcess
from vault.keys import Purpose, team_key_by_id
from vault.roots import has_root
from vault.secret import Secret
from vault.versions import Place, SealedVersion, open_version

__all__ = [
    "CannotOpen",
    "Found",
    "NotGranted",
    "Revoked",
    "Unreadable",
    "WrongProcess",
    "finding",
    "open_credential",
    "unlock",
]

Permits = Callable[[dict], bool]


# Team, revocation and grant are checked by the statement that reads the ciphertext, so that
# nothing can be revoked between the check and the use.
OPEN = """
    SELECT credential.revoked_at IS NOT NULL, live.scopes,
           version.id, version.number, version.team_key_id,
           version.data_key_id, version.data_key_wrapped, version.data_key_check, version.ciphertext
    FROM vault_credential credential
    LEFT JOIN vault_grant live
        ON live.team_id = credential.team_id AND live.holder = %(holder)s
        AND live.connection = %(connection)s AND live.revoked_at IS NULL
    LEFT JOIN vault_credentialversion version
        ON version.team_id = credential.team_id AND version.credential_id = credential.id
        AND version.number = credential.current_version AND version.state = 'active'
        AND credential.revoked_at IS NULL AND (%(holder)s::uuid IS NULL OR live.id IS NOT NULL)
    WHERE credential.team_id = %(team)s AND credential.id = %(credential)s
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What a look for a credential found: sealed, and not yet checked."""

    revoked: bool
    scopes: str | None
    version_id: UUID | None
    number: int | None
    team_key_id: UUID | None
    data_key_id: UUID | None
    data_key_wrapped: bytes | None
    data_key_check: bytes | None
    ciphertext: bytes | None


def open_credential(
    *, team_id: UUID, credential_id: UUID, holder: UUID | None, connection_id: UUID, permits: Permits | None
) -> Secret:
    """
    Return a team's secret to a holder whose grant on this connection allows it.

    `permits` is asked with the grant's scopes. Without a holder the team itself acts (a reach
    test, a rotation): there is no grant, so `permits` is not asked and the caller answers for
    the permission. Nothing but this credential is ever returned: no other, none from the
    environment.

    Raises one kind of CannotOpen: WrongProcess outside workers, NotGranted, Revoked, or Unreadable,
    also before a worker has adopted it. One query, once the team's key is known here.
    """
    if not has_root():
        raise WrongProcess
    place = {"team_id": team_id, "credential_id": credential_id, "holder": holder}
    return unlock(run(finding(**place, connection_id=connection_id)), **place, permits=permits)


def finding(*, team_id: UUID, credential_id: UUID, holder: UUID | None, connection_id: UUID) -> Statement[Found | None]:
    """Return the statement that looks for a credential, to be sent along with others. It says no to nobody yet."""
    place = {"team": team_id, "credential": credential_id, "holder": holder, "connection": connection_id}
    return Statement(OPEN, place, _found)


def _found(rows: Rows) -> Found | None:
    return Found(*rows[0]) if rows else None


def unlock(
    found: Found | None, *, team_id: UUID, credential_id: UUID, holder: UUID | None, permits: Permits | None
) -> Secret:
    """Return the secret in what was found for this team, credential and holder. Raises what `open_credential` does."""
    if not has_root():
        raise WrongProcess
    if found is None:
        raise NotGranted
    _check(found, holder, permits)
    return _open(team_id, credential_id, found)


def _check(found: Found, holder: UUID | None, permits: Permits | None) -> None:
    if holder is not None and found.scopes is None:
        raise NotGranted
    if found.revoked:
        raise Revoked
    if holder is not None and permits is not None and not permits(json.loads(found.scopes)):
        raise NotGranted


def _open(team_id: UUID, credential_id: UUID, found: Found) -> Secret:
    if found.version_id is None:
        raise Unreadable
    place = Place(team_id, credential_id, found.version_id, found.number)
    sealed = SealedVersion(found.data_key_id, found.data_key_wrapped, found.data_key_check, found.ciphertext)
    team_key = team_key_by_id(team_id, Purpose.CREDENTIAL, found.team_key_id)
    return Secret(open_version(sealed, place=place, team_key=team_key))
