"""What is done to credentials and grants. Each writes its event in the same transaction."""

from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.views.decorators.debug import sensitive_variables

from accounts.models import Team, User
from audit.actions import Actor, record
from audit.ids import uuid7
from vault.errors import Revoked, Unreadable
from vault.keys import Purpose, team_key
from vault.models import Credential, CredentialVersion, Grant
from vault.posted import open_posted, seal_posted
from vault.secret import Secret
from vault.versions import Place, seal_version

SHORTEST, LONGEST = 16, 512
FINGERPRINT = b"definable/fingerprint/v1"


class PostedSecretRefused(Exception):
    """What was pasted cannot be a key. The message tells the person what to do and never repeats the value."""


class LabelTaken(Exception):
    """Another live credential of this team has this label: choose another one, or revoke that one first."""


class AlreadyRevoked(Exception):
    """Someone else revoked this first."""


# --- credentials ----------------------------------------------------------------------------


@sensitive_variables("posted", "value")
def post_credential(*, team: Team, label: str, kind: str, posted: str | Secret, by: User, at: datetime) -> Credential:
    """
    Keep a key that was pasted or made for us, sealed so that only a worker can open it.

    It cannot be used until a worker has run `adopt_credential`. Raises PostedSecretRefused
    with a message for the person who pasted it, and LabelTaken.
    """
    value = checked_secret(posted.use() if isinstance(posted, Secret) else posted)
    credential = Credential(
        id=uuid7(),
        team=team,
        label=label,
        kind=kind,
        prefix=shown_prefix(value),
        last_four=value[-4:],
        created_by=by,
        created_at=at,
    )
    sealed = seal_posted(value, team_id=team.pk, credential_id=credential.pk, version=credential.current_version)
    with transaction.atomic():
        _insert(credential)
        CredentialVersion.objects.create(
            team=team, credential=credential, number=credential.current_version, posted_sealed=sealed, created_at=at
        )
        _record("vault.credential.posted", credential, Actor.user(by), at)
    return credential


@sensitive_variables("value")
def adopt_credential(*, credential: Credential) -> None:
    """
    Take over a posted key: open it, seal it under a data key of its own, and forget what was posted.

    For workers only. Repeating it changes nothing. Raises Revoked, WrongProcess, and
    Unreadable when the posted value cannot be opened; the credential then says so too.
    """
    with transaction.atomic():
        adopted = _adopt(Credential.objects.select_for_update().get(pk=credential.pk))
    credential.refresh_from_db()
    if not adopted:  # raised out here, so that the state and its event are kept
        raise Unreadable


@transaction.atomic
def revoke_credential(*, credential: Credential, by: User, at: datetime) -> None:
    """
    Stop everyone from using this credential, at once and for good, and destroy what we hold of it.

    Needs no key, so it works in every process. Raises AlreadyRevoked on a second try, so that
    a double click does not read as two revocations in the log.
    """
    # One conditional UPDATE decides the race; reading first and saving after would not.
    live = Credential.objects.live().filter(pk=credential.pk, team_id=credential.team_id)
    if not live.update(state=Credential.State.REVOKED, revoked_at=at, revoked_by=by):
        raise AlreadyRevoked
    credential.versions.update(
        state=CredentialVersion.State.RETIRED,
        posted_sealed=None,
        data_key_wrapped=None,
        data_key_check=None,
        ciphertext=None,
    )
    _record("vault.credential.revoked", credential, Actor.user(by), at)


def checked_secret(posted: str) -> str:
    """Return a pasted key without the white space around it. Raises PostedSecretRefused."""
    value = posted.strip()
    if not value:
        raise PostedSecretRefused("Paste the key: the field is empty.")
    if not all("!" <= letter <= "~" for letter in value):
        raise PostedSecretRefused(
            "Paste the key alone: letters, digits and signs, no spaces, line breaks or dots that hide it."
        )
    if len(value) < SHORTEST:
        raise PostedSecretRefused(
            f"Paste the whole key: this has {len(value)} characters, a key has {SHORTEST} or more."
        )
    if len(value) > LONGEST:
        raise PostedSecretRefused(f"Paste only the key: this has {len(value)} characters, a key has at most {LONGEST}.")
    return value


def shown_prefix(value: str) -> str:
    """Return the beginning of a key that may be shown: 12 characters at most, less of a short key."""
    return value[: min(12, len(value) // 6)]


def _insert(credential: Credential) -> None:
    try:
        with transaction.atomic():
            credential.save(force_insert=True)
    except IntegrityError as error:
        if error.__cause__.diag.constraint_name != "one_live_credential_per_label":
            raise
        raise LabelTaken from None


def _adopt(credential: Credential) -> bool:
    """Adopt a locked credential; return False, with its state changed, if what was posted cannot be opened."""
    if credential.state == Credential.State.REVOKED:
        raise Revoked
    if credential.state == Credential.State.READY:
        return True
    version = credential.versions.get(number=credential.current_version)
    try:
        value = _open_posted(credential, version)
    except Unreadable:
        _settle(credential, Credential.State.UNREADABLE, "vault.credential.unreadable")
        return False
    _reseal(version, value)
    fingerprint = team_key(credential.team_id, Purpose.MAC).mac(FINGERPRINT, value.encode()).hex()
    _settle(credential, Credential.State.READY, "vault.credential.adopted", fingerprint=fingerprint)
    return True


def _open_posted(credential: Credential, version: CredentialVersion) -> str:
    blob = bytes(version.posted_sealed)
    return open_posted(blob, team_id=version.team_id, credential_id=credential.pk, version=version.number)


def _reseal(version: CredentialVersion, value: str) -> None:
    key = team_key(version.team_id, Purpose.CREDENTIAL)
    place = Place(version.team_id, version.credential_id, version.pk, version.number)
    sealed = seal_version(value, place=place, team_key=key)
    CredentialVersion.objects.filter(pk=version.pk).update(
        state=CredentialVersion.State.ACTIVE,
        posted_sealed=None,
        team_key_id=key.id,
        data_key_id=sealed.data_key_id,
        data_key_wrapped=sealed.data_key_wrapped,
        data_key_check=sealed.data_key_check,
        ciphertext=sealed.ciphertext,
    )


def _settle(credential: Credential, state: str, action: str, **columns: str) -> None:
    Credential.objects.filter(pk=credential.pk).update(state=state, **columns)
    _record(action, credential, Actor.system("vault"), None)


def _record(action: str, credential: Credential, actor: Actor, at: datetime | None) -> None:
    record(
        action,
        actor=actor,
        team_id=credential.team_id,
        at=at,
        target=f"credential:{credential.pk}",
        target_name=credential.label,
    )


# --- grants -----------------------------------------------------------------------------------


@transaction.atomic
def grant(*, team: Team, holder: UUID, connection: UUID, scopes: dict, by: User, at: datetime) -> Grant:
    """Let a holder use a connection within these scopes. A live grant gets the new scopes instead of a twin."""
    made, new = Grant.objects.update_or_create(
        team=team,
        holder=holder,
        connection=connection,
        revoked_at=None,
        defaults={"scopes": scopes},
        create_defaults={"scopes": scopes, "created_by": by, "created_at": at},
    )
    _record_grant("vault.grant.made" if new else "vault.grant.changed", made, by, at)
    return made


@transaction.atomic
def revoke_grant(*, grant: Grant, by: User, at: datetime) -> None:
    """Take a connection from its holder, at once. Raises AlreadyRevoked on a second try."""
    live = Grant.objects.live().filter(pk=grant.pk, team_id=grant.team_id)
    if not live.update(revoked_at=at, revoked_by=by):
        raise AlreadyRevoked
    _record_grant("vault.grant.revoked", grant, by, at)


def _record_grant(action: str, grant: Grant, by: User, at: datetime) -> None:
    record(
        action,
        actor=Actor.user(by),
        team_id=grant.team_id,
        at=at,
        target=f"grant:{grant.pk}",
        details={"holder": str(grant.holder), "connection": str(grant.connection)},
    )
