"""
Roots of trust: the keys that lie outside the database, in files.

Three files make two levels of trust. The root file (workers) leads to credentials and holds
the private half of the sealing key. The content file (workers and web) leads to prompts and
responses. The sealing file (workers and web) is the public half, for what a form posts. So
the web process cannot open a credential, whatever runs inside it.

A root has two slots. What the previous key wrapped still opens; only the current one wraps.
"""

import base64
import binascii
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from vault.box import KEY_BYTES, Key, new_key
from vault.errors import Unreadable, WrongProcess

LEAST_DISTINCT_BYTES = 16  # 32 random bytes have about 30
COUNTING = bytes(range(KEY_BYTES))


class BadKeyFile(ImproperlyConfigured):
    """A key file is missing or unfit. The message says which, why, and what to do; never what is in it."""


class Root(Protocol):
    """What wraps team keys: a key file here; a KMS or HSM may do the same. `context` must be bound to the result."""

    def current_id(self) -> UUID:
        """Return the id of the key that `wrap` uses."""

    def wrap(self, raw: bytes, context: bytes) -> bytes:
        """Return a team key, wrapped."""

    def unwrap(self, root_id: UUID, wrapped: bytes, context: bytes) -> bytes:
        """Return what `wrap` was given. Raises Unreadable."""


@dataclass(frozen=True, slots=True)
class FileRoot:
    """A root key file with two slots."""

    current: Key
    previous: Key | None

    def current_id(self) -> UUID:
        """Return the id of the key in the first slot."""
        return self.current.id

    def wrap(self, raw: bytes, context: bytes) -> bytes:
        """Seal a team key under the key in the first slot."""
        return self.current.seal(raw, context)

    def unwrap(self, root_id: UUID, wrapped: bytes, context: bytes) -> bytes:
        """Open a team key with the slot that `root_id` names; no other is tried."""
        for key in (self.current, self.previous):
            if key and key.id == root_id:
                return key.open(wrapped, context)
        raise Unreadable


@dataclass(frozen=True, slots=True)
class SealingKey:
    """The public half of the key that posted values are sealed to."""

    id: UUID
    public: X25519PublicKey


# --- the three files ----------------------------------------------------------------------


def has_root() -> bool:
    """Whether this process was given the root key."""
    return bool(settings.VAULT_ROOT_KEY or settings.VAULT_ROOT_KEY_FILE)


def credential_root() -> FileRoot:
    """Return what wraps the keys of credentials and fingerprints. Raises WrongProcess, BadKeyFile."""
    return _slots(_root_source(), "root key")


def content_root() -> FileRoot:
    """Return what wraps the keys of prompts and responses. Raises BadKeyFile."""
    return _slots(_source("CONTENT"), "content key")


def sealing_private_key(id: UUID) -> X25519PrivateKey:
    """Return the private half of a sealing key. Raises WrongProcess, BadKeyFile, Unreadable."""
    for key_id, private in sealing_private_keys():
        if key_id == id:
            return private
    raise Unreadable


def sealing_private_keys() -> list[tuple[UUID, X25519PrivateKey]]:
    """Return the private halves with their ids, the current one first. Raises WrongProcess, BadKeyFile."""
    slots = _fields(_root_source(), "root key").get("sealing")
    if not isinstance(slots, dict):
        raise BadKeyFile("The root key file has no sealing key. Restore it, or make new files with vault_init.")
    found = (_slot(slots.get(name), "sealing key") for name in ("current", "previous"))
    return [(id, X25519PrivateKey.from_private_bytes(raw)) for id, raw in filter(None, found)]


def sealing_key() -> SealingKey:
    """Return the public sealing key. Raises BadKeyFile."""
    slot = _slot(_fields(_source("SEALING"), "sealing key"), "sealing key")
    return SealingKey(slot[0], X25519PublicKey.from_public_bytes(slot[1]))


def _root_source() -> str:
    if not has_root():
        raise WrongProcess
    return _source("ROOT")


def _source(name: str) -> str:
    """Return the text of a key file, or of the setting given in its place."""
    setting = f"VAULT_{name}_KEY"
    if inline := getattr(settings, setting):
        if settings.PRODUCTION and not settings.VAULT_KEYS_IN_ENVIRONMENT:
            raise BadKeyFile(
                f"{setting} is in the environment, where every child process and crash report can read it. "
                f"Put it in a file and set {setting}_FILE, or set VAULT_KEYS_IN_ENVIRONMENT=1 to accept that."
            )
        return inline
    return _read(getattr(settings, f"{setting}_FILE"), f"{setting}_FILE")


def _read(path: str, setting: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError):
        raise BadKeyFile(f"No key can be read from {setting} ({path}). Run manage.py vault_init.") from None


# --- reading one ----------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _slots(text: str, what: str) -> FileRoot:
    fields = _fields(text, what)
    current, previous = (_root_key(fields.get(name), what) for name in ("current", "previous"))
    if current is None:
        raise BadKeyFile(f"The {what} file has no current key. Restore it, or make a new one with vault_init.")
    return FileRoot(current, previous)


def _fields(text: str, what: str) -> dict:
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise BadKeyFile(f"The {what} file is not what vault_init makes. Restore it from where you keep it.")
    return fields


def _slot(slot: object, what: str) -> tuple[UUID, bytes] | None:
    """Return the id and the bytes of one slot; None when it is empty."""
    if slot is None:
        return None
    try:
        id, raw = UUID(slot["id"]), base64.b64decode(slot["key"], validate=True)
    except (TypeError, KeyError, ValueError, AttributeError, binascii.Error):
        raise BadKeyFile(f"A {what} cannot be read: it needs an id and a base64 key, as vault_init makes.") from None
    if len(raw) != KEY_BYTES:
        raise BadKeyFile(f"A {what} has {len(raw)} bytes and needs {KEY_BYTES}. Make one with vault_init.")
    return id, raw


def _root_key(slot: object, what: str) -> Key | None:
    read = _slot(slot, what)
    if read is None:
        return None
    _refuse_weak(read[1], what)
    return Key(*read)


def _refuse_weak(raw: bytes, what: str) -> None:
    """Raise BadKeyFile for a key that somebody typed or copied instead of drawing it."""
    secret_key = settings.SECRET_KEY.encode()
    if raw == secret_key or base64.b64encode(raw).rstrip(b"=") == secret_key.rstrip(b"="):
        raise BadKeyFile(f"The {what} equals SECRET_KEY. Make one of its own with vault_init.")
    # No 32 random bytes in this universe are all readable text, or that uniform.
    if raw == COUNTING or len(set(raw)) < LEAST_DISTINCT_BYTES or (raw.isascii() and raw.decode().isprintable()):
        raise BadKeyFile(f"The {what} is an example or was typed by hand. Make a random one with vault_init.")


# --- making them ----------------------------------------------------------------------------


def make_key_files(*, root: Path, content: Path, sealing: Path) -> list[Path]:
    """
    Make the key files that are not there yet, and return the paths of those made.

    Nothing is ever overwritten. The public sealing key is taken from the root file, so the
    two always match; a sealing file without its root file raises BadKeyFile.
    """
    if sealing.exists() and not root.exists():
        raise BadKeyFile(f"{sealing} is there and {root} is not. Restore the root key, or move {sealing} away.")
    private = X25519PrivateKey.generate().private_bytes_raw()
    wanted = {root: _two_slots(new_key()) | {"sealing": _two_slots(private)}, content: _two_slots(new_key())}
    made = [path for path, fields in wanted.items() if _write_once(path, fields)]
    if _write_once(sealing, _public_half(root)):
        made.append(sealing)
    return made


def _two_slots(raw: bytes) -> dict:
    return {"current": _new_slot(uuid4(), raw), "previous": None}


def _new_slot(id: UUID, raw: bytes) -> dict:
    return {"id": str(id), "key": base64.b64encode(raw).decode()}


def _public_half(root: Path) -> dict:
    slots = _fields(root.read_text(), "root key").get("sealing") or {}
    slot = _slot(slots.get("current"), "sealing key")
    if slot is None:
        raise BadKeyFile(f"{root} has no sealing key. Restore it from where you keep it.")
    return _new_slot(slot[0], X25519PrivateKey.from_private_bytes(slot[1]).public_key().public_bytes_raw())


def _write_once(path: Path, fields: dict) -> bool:
    """Write a file that only its owner can read; return False if there is one already."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(fields, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # appears whole or not at all, and never over another
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True
