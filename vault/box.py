"""
The one ciphertext format, and the keys that write and read it.

    "DV" | format 01 | algorithm | key id (16) | nonce (12) | ciphertext and tag (16)

What is sealed is bound to facts about the place it lies in. They are rebuilt from the row
that is read and never stored, so bytes copied to another place do not open there.
"""

import hmac
import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV

from vault.errors import Unreadable

FORMAT = b"DV\x01"
AES_256_GCM = b"\x01"  # written
AES_256_GCM_SIV = b"\x02"  # read, for hosts that are cloned while running
KEY_BYTES = 32
KEY_END = 20  # where the key id ends
NONCE_END = 32
NONCE_BYTES = NONCE_END - KEY_END
CHECK_BYTES = 16


def bind(*parts: bytes) -> bytes:
    """Join parts under their lengths, so that no two lists give the same bytes."""
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def new_key() -> bytes:
    """Return 256 random bits."""
    return os.urandom(KEY_BYTES)


def check_value(raw: bytes) -> bytes:
    """Return 16 bytes that tell one key from another: GCM alone does not commit to its key."""
    return hmac.digest(raw, b"definable/check/v1", "sha256")[:CHECK_BYTES]


def key_id(blob: bytes) -> UUID:
    """Return the id of the key that sealed this. Raises Unreadable if it is not our format."""
    if len(blob) < NONCE_END or blob[: len(FORMAT)] != FORMAT:
        raise Unreadable
    return UUID(bytes=bytes(blob[4:KEY_END]))


class Key:
    """An unwrapped key under its id. `facts` come from `bind`; the key adds algorithm and id."""

    __slots__ = ("__raw", "_decrypt", "_encrypt", "_header", "_tail", "id")

    def __init__(self, id: UUID, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise Unreadable
        self.id = id
        self.__raw = raw
        aead = AESGCM(raw)
        self._encrypt, self._decrypt = aead.encrypt, aead.decrypt  # bound once: these are the hot path
        self._header = FORMAT + AES_256_GCM + id.bytes
        self._tail = bind(AES_256_GCM, id.bytes)

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def seal(self, data: bytes, facts: bytes) -> bytes:
        """Return `data` sealed for the place that `facts` describe."""
        nonce = os.urandom(NONCE_BYTES)
        return self._header + nonce + self._encrypt(nonce, data, facts + self._tail)

    def open(self, blob: bytes, facts: bytes) -> bytes:
        """Return what `seal` was given. Raises Unreadable for anything else."""
        if not blob.startswith(self._header):
            return self._open_siv(blob, facts)
        try:
            return self._decrypt(blob[KEY_END:NONCE_END], blob[NONCE_END:], facts + self._tail)
        except (InvalidTag, ValueError):
            raise Unreadable from None

    def mac(self, *parts: bytes) -> bytes:
        """Return 32 bytes that only a holder of this key can make for these parts."""
        return hmac.digest(self.__raw, bind(*parts), "sha256")

    def _open_siv(self, blob: bytes, facts: bytes) -> bytes:
        if not blob.startswith(FORMAT + AES_256_GCM_SIV + self.id.bytes):
            raise Unreadable
        bound = facts + bind(AES_256_GCM_SIV, self.id.bytes)
        try:
            return AESGCMSIV(self.__raw).decrypt(blob[KEY_END:NONCE_END], blob[NONCE_END:], bound)
        except (InvalidTag, ValueError):
            raise Unreadable from None


def checked_key(id: UUID, raw: bytes, check: bytes) -> Key:
    """Return an unwrapped key. Raises Unreadable if it is not the one `check` was made from."""
    if not hmac.compare_digest(check_value(raw), check):
        raise Unreadable
    return Key(id, raw)
