"""Writing to the log. There is one way in: `record`, in the caller's transaction."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from django.db import connection
from django.db.models import Model
from psycopg.types.json import Jsonb

from audit.bulk import insert_alike
from audit.canon import canon, exact_usd
from audit.clock import app_now
from audit.ids import uuid7
from audit.models import Content, Event


def _insert_into(model: type[Model]) -> str:
    columns = ", ".join(field.attname for field in model._meta.concrete_fields)
    values = ", ".join(f"%({field.attname})s" for field in model._meta.concrete_fields)
    return f"INSERT INTO {model._meta.db_table} ({columns}) VALUES ({values})"  # noqa: S608 - our own names


# Two events in every call, and the ORM's insert was measured to take half as much CPU again.
INSERT_EVENT = _insert_into(Event)
INSERT_CONTENT = _insert_into(Content)


class Person(Protocol):
    """What the log needs of a user."""

    pk: UUID
    email: str


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it, with the name they had at the time."""

    kind: str  # user, persona, schedule or system
    id: str
    name: str

    @classmethod
    def user(cls, user: Person) -> "Actor":
        """A signed-in person."""
        return cls("user", str(user.pk), user.email)

    @classmethod
    def system(cls, part: str) -> "Actor":
        """The installation itself, by the name of the part that acted."""
        return cls("system", part, part)


@dataclass(frozen=True, slots=True)
class Sealed:
    """Content as `vault.content.seal_content` returns it: ready to be stored, unreadable here."""

    id: UUID
    team_id: UUID
    subject: UUID
    kind: str
    at: datetime
    ciphertext: bytes
    sha256: str


def store(content: Sealed) -> Content:
    """Keep sealed content that belongs to no event, such as a stage's input."""
    row = Content(**asdict(content))
    row.save(force_insert=True)
    return row


def record(
    action: str,
    *,
    actor: Actor,
    team_id: UUID | None,
    at: datetime | None = None,
    target: str = "",
    target_name: str = "",
    outcome: str = "",
    persona_id: UUID | None = None,
    persona_name: str = "",
    run_id: UUID | None = None,
    tool: str = "",
    model: str = "",
    call_id: UUID | None = None,
    generation_id: str = "",
    request_sha256: str = "",
    cost_usd: Decimal | None = None,
    credits: int | None = None,
    content: Sealed | None = None,
    details: dict | None = None,
) -> Event:
    """
    Write one event in the caller's transaction, so that it stands or falls with the deed.

    `at` is the database's time; leave it out to ask. `cost_usd` is in dollars and kept to
    1e-12, `credits` in platform credits. `details` holds small facts (strings and whole
    numbers), never content.
    """
    fields = {
        "id": uuid7(),
        "at": at or app_now(),
        "team_id": team_id,
        "actor_kind": actor.kind,
        "actor_id": actor.id,
        "actor_name": actor.name,
        "action": action,
        "target": target,
        "target_name": target_name,
        "outcome": outcome,
        "persona_id": persona_id,
        "persona_name": persona_name,
        "run_id": run_id,
        "tool": tool,
        "model": model,
        "call_id": call_id,
        "generation_id": generation_id,
        "request_sha256": request_sha256,
        "cost_usd": None if cost_usd is None else exact_usd(cost_usd),
        "credits": credits,
        "content_id": content.id if content else None,
        "content_sha256": content.sha256 if content else "",
        "details": details or {},
    }
    event = Event(**fields, canon=canon(fields))
    row = fields | {"details": Jsonb(fields["details"]), "canon": event.canon}
    with connection.cursor() as cursor:
        if content:
            # Not asdict: it copies deeply, which took a tenth of a call's CPU outside the exchange.
            cursor.execute(INSERT_CONTENT, {name: getattr(content, name) for name in Sealed.__slots__})
        cursor.execute(INSERT_EVENT, row)
    event._state.adding = False
    return event


@dataclass(frozen=True, slots=True)
class Entry:
    """One of many events that are written at once: who did what to what, as `record` takes it."""

    action: str
    actor: Actor
    team_id: UUID
    at: datetime
    target: str
    target_name: str
    outcome: str = ""
    run_id: UUID | None = None
    details: dict = field(default_factory=dict)


NOT_SAID: dict[str, object] = {
    **dict.fromkeys(["persona_id", "call_id", "cost_usd", "credits", "content_id"]),
    **dict.fromkeys(["persona_name", "tool", "model", "generation_id", "request_sha256", "content_sha256"], ""),
}


def record_all(entries: Iterable[Entry]) -> None:
    """Write many events in the caller's transaction, with one exchange for all of them."""
    insert_alike(Event(**NOT_SAID), [_row(entry) for entry in entries])


def _row(entry: Entry) -> dict[str, object]:
    said = {name: getattr(entry, name) for name in Entry.__slots__ if name != "actor"}
    actor = {"actor_kind": entry.actor.kind, "actor_id": entry.actor.id, "actor_name": entry.actor.name}
    fields = said | actor | {"id": uuid7()}
    return fields | {"canon": canon(NOT_SAID | fields)}
