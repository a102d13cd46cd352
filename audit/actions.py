"""Writing to the log. There is one way in: `record`, in the caller's transaction."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from audit.canon import canon
from audit.clock import app_now
from audit.ids import uuid7
from audit.models import Content, Event


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
    return Content.objects.create(
        id=content.id,
        at=content.at,
        team_id=content.team_id,
        subject=content.subject,
        kind=content.kind,
        ciphertext=content.ciphertext,
        sha256=content.sha256,
    )


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

    `at` is the database's time; leave it out to ask. `cost_usd` is in dollars, `credits` in
    platform credits. `details` holds small facts (strings and whole numbers), never content.
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
        "cost_usd": cost_usd,
        "credits": credits,
        "content_id": content.id if content else None,
        "content_sha256": content.sha256 if content else "",
        "details": details or {},
    }
    if content:
        store(content)
    return Event.objects.create(**fields, canon=canon(fields))
