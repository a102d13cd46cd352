"""How one version of a credential lies in its row: a data key of its own, used once, and both layers bound."""

from dataclasses import dataclass
from uuid import UUID

from audit.ids import uuid7
from vault.box import Key, bind, check_value, checked_key, new_key
from vault.keys import Purpose, facts_of_key

LABEL = b"definable/vault/v1"
FIELD = b"vault.credentialversion.ciphertext"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a version lies. Its bytes open nowhere else."""

    team_id: UUID
    credential_id: UUID
    version_id: UUID
    number: int

    def facts(self) -> bytes:
        """Return what the ciphertext is bound to."""
        version = (self.credential_id.bytes, self.version_id.bytes, b"%d" % self.number)
        return bind(LABEL, self.team_id.bytes, FIELD, *version)

    def facts_of_key(self, data_key_id: UUID) -> bytes:
        """Return what the wrapped data key is bound to."""
        version = (self.credential_id.bytes, self.version_id.bytes)
        return facts_of_key(self.team_id, Purpose.CREDENTIAL, data_key_id, self.number, *version)


@dataclass(frozen=True, slots=True)
class SealedVersion:
    """The columns of a sealed version."""

    data_key_id: UUID
    data_key_wrapped: bytes
    data_key_check: bytes
    ciphertext: bytes


def seal_version(value: str, *, place: Place, team_key: Key) -> SealedVersion:
    """Seal a value for its row under a new data key, wrapped by the team's key."""
    id, raw = uuid7(), new_key()
    return SealedVersion(
        data_key_id=id,
        data_key_wrapped=team_key.seal(raw, place.facts_of_key(id)),
        data_key_check=check_value(raw),
        ciphertext=Key(id, raw).seal(value.encode(), place.facts()),
    )


def open_version(sealed: SealedVersion, *, place: Place, team_key: Key) -> str:
    """Return the value. Raises Unreadable."""
    raw = team_key.open(sealed.data_key_wrapped, place.facts_of_key(sealed.data_key_id))
    data_key = checked_key(sealed.data_key_id, raw, sealed.data_key_check)
    return data_key.open(sealed.ciphertext, place.facts()).decode()
