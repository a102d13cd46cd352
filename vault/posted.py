"""
What a form posts, sealed at once to the workers' public key: the web process can write it
and can never read it again.

    "DP" | format 01 | sealing key id (16) | HPKE (X25519, HKDF-SHA256, AES-256-GCM)
"""

from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from vault.box import bind
from vault.errors import Unreadable
from vault.roots import sealing_key, sealing_private_key

FORMAT = b"DP\x01"
KEY_END = 19
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def _info(header: bytes, team_id: UUID, credential_id: UUID, version: int) -> bytes:
    return bind(b"definable/posted/v1", header, team_id.bytes, credential_id.bytes, b"%d" % version)


def seal_posted(value: str, *, team_id: UUID, credential_id: UUID, version: int) -> bytes:
    """Seal a posted key for one version of one credential. Only a worker can open it."""
    key = sealing_key()
    header = FORMAT + key.id.bytes
    return header + SUITE.encrypt(value.encode(), key.public, info=_info(header, team_id, credential_id, version))


def open_posted(blob: bytes, *, team_id: UUID, credential_id: UUID, version: int) -> str:
    """Return what was posted. Raises Unreadable, and WrongProcess outside a worker."""
    header = bytes(blob[:KEY_END])
    if len(header) < KEY_END or not header.startswith(FORMAT):
        raise Unreadable
    private = sealing_private_key(UUID(bytes=header[len(FORMAT) :]))
    try:
        opened = SUITE.decrypt(blob[KEY_END:], private, info=_info(header, team_id, credential_id, version))
        return opened.decode()
    except (InvalidTag, ValueError):
        raise Unreadable from None
