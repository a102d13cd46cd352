"""Prompts, responses and whatever else people and models say: sealed for the log, opened for its pages."""

import hashlib
from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

from audit.actions import Sealed
from audit.ids import uuid7
from audit.models import Content
from vault.box import bind, key_id
from vault.errors import Unreadable
from vault.keys import content_key, content_key_by_id
from vault.models import ContentKey

# Facts as `bind` makes them, with the fixed parts joined beforehand: this runs twice in every call.
UUID_LENGTH = (16).to_bytes(4, "big")
BEFORE_TEAM = bind(b"definable/vault/v1") + UUID_LENGTH
BEFORE_ID = bind(b"audit.content.ciphertext") + UUID_LENGTH


def _facts(team_id: UUID, content_id: UUID, kind: str) -> bytes:
    return BEFORE_TEAM + team_id.bytes + BEFORE_ID + content_id.bytes + bind(kind.encode())


def seal_content(*, team_id: UUID, subject: UUID, kind: str, data: bytes, at: datetime) -> Sealed:
    """
    Seal what a persona or user (`subject`) said, under that subject's key for the month of `at`.

    Keys are made on first use in the caller's transaction; after that a call costs no query.
    The result goes to `audit.actions.record` or `store`. Web and workers may both seal.
    """
    month = at.astimezone(UTC)
    key = content_key(team_id, subject, month.year, month.month)
    id = uuid7()
    ciphertext = key.seal(data, _facts(team_id, id, kind))
    digest = hashlib.sha256(ciphertext).hexdigest()
    return Sealed(id, team_id, subject, kind, at, ciphertext, digest)


def erase_subject(*, team_id: UUID, subject: UUID, content_ids: Collection[UUID]) -> None:
    """
    Erase everything that was sealed for a subject, in the caller's transaction: its keys, and these contents of its.

    Nothing brings it back. What the subject says afterwards lies under new keys, but a process may
    still hold an old one for a while: call this for subjects that have fallen silent.
    """
    ContentKey.objects.filter(team_id=team_id, subject=subject).delete()
    erase_contents(team_id=team_id, content_ids=content_ids)


def erase_contents(*, team_id: UUID, content_ids: Collection[UUID]) -> None:
    """Erase these contents of a team, in the caller's transaction; the hashes of what they were stay in the log."""
    Content.objects.filter(team_id=team_id, pk__in=content_ids, ciphertext__isnull=False).update(ciphertext=None)


def open_content(*, content: Content) -> bytes:
    """
    Return what was sealed. Web and workers may both open; the caller checks the permission.

    Raises Unreadable, also when the content or its key was erased.
    """
    if content.ciphertext is None:
        raise Unreadable
    ciphertext = bytes(content.ciphertext)
    key = content_key_by_id(content.team_id, key_id(ciphertext))
    return key.open(ciphertext, _facts(content.team_id, content.id, content.kind))
