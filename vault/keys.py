"""Team keys and content keys: made on first use, found by id, unwrapped here and nowhere else."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from uuid import UUID

from django.db import transaction
from django.db.models import F, Max

from audit.ids import uuid7
from vault.box import Key, bind, check_value, checked_key, new_key
from vault.cache import KeyCache
from vault.errors import Unreadable
from vault.models import CONTENT_KEY_USES, ContentKey, TeamKey
from vault.roots import Root, content_root, credential_root

KEY_LABEL = b"definable/key/v1"
LEASE = 1024  # uses of a content key that a process takes at a time

Purpose = TeamKey.Purpose

team_keys: KeyCache[Key] = KeyCache()
content_keys: KeyCache[Key] = KeyCache()
leases: KeyCache["Lease"] = KeyCache()


def forget_keys() -> None:
    """Drop every unwrapped key that this process remembers."""
    for cache in (team_keys, content_keys, leases):
        cache.clear()


def facts_of_key(team_id: UUID, purpose: str, id: UUID, version: int, *more: bytes) -> bytes:
    """Return what a wrapped key is bound to; the wrapping key adds its own id."""
    return bind(KEY_LABEL, team_id.bytes, purpose.encode(), id.bytes, b"%d" % version, *more)


def _root(purpose: str) -> Root:
    return content_root() if purpose == Purpose.CONTENT else credential_root()


# --- team keys ------------------------------------------------------------------------------


def team_key(team_id: UUID, purpose: TeamKey.Purpose) -> Key:
    """
    Return the key that wraps for this team and purpose today; make it on first use.

    Raises WrongProcess without the root key that this purpose needs, Unreadable if the key
    cannot be unwrapped.
    """
    if key := team_keys.get((team_id, purpose)):
        return key
    row = _writing(team_id, purpose) or _make_team_key(team_id, purpose)
    key = _unwrap_team_key(row)
    team_keys.put_after_commit((team_id, purpose), key)
    return key


def team_key_by_id(team_id: UUID, purpose: TeamKey.Purpose, id: UUID) -> Key:
    """Return one key of a team, current or retired. Raises Unreadable, and WrongProcess as `team_key` does."""
    if key := team_keys.get((team_id, purpose, id)):
        return key
    row = TeamKey.objects.filter(team_id=team_id, purpose=purpose, pk=id).first()
    if row is None:
        raise Unreadable
    key = _unwrap_team_key(row)
    team_keys.put_after_commit((team_id, purpose, id), key)
    return key


def _writing(team_id: UUID, purpose: str) -> TeamKey | None:
    rows = TeamKey.objects.filter(team_id=team_id, purpose=purpose, retired_at=None)
    return rows.order_by("-version").first()


def _make_team_key(team_id: UUID, purpose: str) -> TeamKey:
    raw, id, root = new_key(), uuid7(), _root(purpose)
    row = TeamKey(
        id=id,
        team_id=team_id,
        purpose=purpose,
        version=1,
        root_key=root.current_id(),
        wrapped=root.wrap(raw, facts_of_key(team_id, purpose, id, 1)),
        check_value=check_value(raw),
    )
    # Two first uses at once: the table keeps one, and both read that one back.
    TeamKey.objects.bulk_create([row], ignore_conflicts=True)
    found = _writing(team_id, purpose)
    if found is None:
        raise Unreadable
    return found


def _unwrap_team_key(row: TeamKey) -> Key:
    facts = facts_of_key(row.team_id, row.purpose, row.id, row.version)
    raw = _root(row.purpose).unwrap(row.root_key, bytes(row.wrapped), facts)
    return checked_key(row.id, raw, bytes(row.check_value))


# --- content keys -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    """A content key with the uses this process may still make of it."""

    key: Key
    uses: Iterator[int]

    def take(self) -> bool:
        """Use the key once; return False when this lease is used up."""
        # One step of an iterator made in C is atomic: two threads never share a use.
        return next(self.uses, None) is not None


def content_key(team_id: UUID, subject: UUID, year: int, month: int) -> Key:
    """
    Return the key to seal once with, for what this subject says in this month.

    No key seals more than CONTENT_KEY_USES times, however many processes share it: each
    takes a lease of uses at a time, and the next key takes over when all are handed out.
    Costs a query or two per lease and minute, none in between.
    """
    name = (team_id.int, subject.int, year, month)  # whole numbers are found ten times faster than UUIDs
    lease = leases.get(name)
    if lease is not None and lease.take():
        return lease.key
    key = _unwrap_content_key(_current_content_key(team_id, subject, date(year, month, 1)))
    # Counted after the caller's transaction: a row locked inside it would order every caller's locks.
    transaction.on_commit(partial(_take_lease, name, key), robust=True)
    return key


def _take_lease(name: tuple[int, ...], key: Key) -> None:
    """Count a lease of uses in the table, then keep it here. One of them was made already."""
    with_room = ContentKey.objects.filter(pk=key.id, uses__lte=CONTENT_KEY_USES - LEASE)
    if with_room.update(uses=F("uses") + LEASE):
        leases.put(name, Lease(key, iter(range(LEASE - 1))))


def content_key_by_id(team_id: UUID, id: UUID) -> Key:
    """Return the key that sealed some content of this team. Raises Unreadable, also when it was destroyed."""
    if key := content_keys.get((team_id.int, id.int)):
        return key
    row = ContentKey.objects.filter(team_id=team_id, pk=id).first()
    if row is None:
        raise Unreadable
    key = _unwrap_content_key(row)
    content_keys.put_after_commit((team_id.int, id.int), key)
    return key


def _current_content_key(team_id: UUID, subject: UUID, month: date) -> ContentKey:
    place = {"team_id": team_id, "subject": subject, "month": month}
    with_room = ContentKey.objects.filter(**place, uses__lte=CONTENT_KEY_USES - LEASE).order_by("number")
    while (row := with_room.first()) is None:
        _make_content_key(**place)
    return row


def _make_content_key(team_id: UUID, subject: UUID, month: date) -> None:
    place = {"team_id": team_id, "subject": subject, "month": month}
    # Counted from the used-up keys alone: one that another process just made is used, not followed.
    used_up = ContentKey.objects.filter(**place, uses__gt=CONTENT_KEY_USES - LEASE)
    number = (used_up.aggregate(last=Max("number"))["last"] or 0) + 1
    raw, id, parent = new_key(), uuid7(), team_key(team_id, Purpose.CONTENT)
    row = ContentKey(
        **place,
        id=id,
        number=number,
        team_key_id=parent.id,
        wrapped=parent.seal(raw, _facts_of_content_key(team_id, subject, month, id, number)),
        check_value=check_value(raw),
    )
    ContentKey.objects.bulk_create([row], ignore_conflicts=True)


def _facts_of_content_key(team_id: UUID, subject: UUID, month: date, id: UUID, number: int) -> bytes:
    # Subject and month are bound too: an erasure destroys keys by these columns.
    return facts_of_key(team_id, Purpose.CONTENT, id, number, subject.bytes, month.isoformat().encode())


def _unwrap_content_key(row: ContentKey) -> Key:
    parent = team_key_by_id(row.team_id, Purpose.CONTENT, row.team_key_id)
    facts = _facts_of_content_key(row.team_id, row.subject, row.month, row.id, row.number)
    return checked_key(row.id, parent.open(bytes(row.wrapped), facts), bytes(row.check_value))
