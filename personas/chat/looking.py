"""
Which pages may still be shown which chats, and how the turns of each stand: one query for all pages.

Whatever made it right when a page began must still be so: its session, password, member, role and chat.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection

from accounts.permissions import Permission, Role, allows
from audit.models import Content
from vault.content import open_content
from vault.errors import Unreadable

RECENT = "60 seconds"  # how long after its end a turn is still told to a page that cannot say what it saw
BILLED = "30 seconds"  # how long after its end a turn is followed until its bill is known


@dataclass(frozen=True, slots=True)
class Claim:
    """Who wants to follow which chat: what made it right when it began must stay so. `since` is in ms, 0: unknown."""

    session_key: str
    user_id: UUID
    password_mark: str
    team_id: UUID
    chat_id: UUID
    since: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """How a turn stands. `stages` are its answers being given, with the name of what was saved of them."""

    run_id: UUID
    message_id: UUID
    version: str
    goes_on: bool
    stages: tuple[tuple[UUID, UUID | None], ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """How the turns of a chat stood at a time, in ms."""

    at: int
    turns: tuple[Turn, ...]


# A chat's own member reads it, and all who may see chats when it is shared.
VIEWS = f"""
SELECT claim.place, (extract(epoch FROM app_now()) * 1000)::bigint, turns.found
  FROM unnest(%(places)s::int[], %(sessions)s::text[], %(users)s::uuid[], %(marks)s::text[], %(teams)s::uuid[],
              %(chats)s::uuid[], %(since)s::bigint[])
       AS claim(place, session_key, user_id, mark, team_id, chat_id, since)
  JOIN django_session session ON session.session_key = claim.session_key AND session.expire_date > now()
  JOIN accounts_user person ON person.id = claim.user_id AND person.is_active
       AND encode(sha256(convert_to(person.password, 'UTF8')), 'hex') = claim.mark
  JOIN accounts_membership member ON member.user_id = person.id AND member.team_id = claim.team_id
       AND member.role = ANY(%(roles)s)
  JOIN personas_chat chat ON chat.id = claim.chat_id AND chat.team_id = claim.team_id
       AND (chat.user_id = person.id OR chat.shared_at IS NOT NULL)
  LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_array(run.id, message.id, run.changes || run.state || owed.bill,
                     run.finished_at IS NULL OR owed.bill <> '', stages.found) ORDER BY message.id) AS found
      FROM personas_run run
      JOIN personas_message message ON message.run_id = run.id
      LEFT JOIN LATERAL (
        SELECT coalesce(string_agg(call.id::text, ' ' ORDER BY call.id), '') AS bill
          FROM integrations_call call
         WHERE call.run_id = run.id AND call.state = 'unknown' AND call.generation_id <> ''
           AND run.finished_at > app_now() - interval '{BILLED}'
      ) owed ON TRUE
      LEFT JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_array(stage.id, stage.partial_id)) AS found
          FROM personas_stagerun stage
         WHERE stage.run_id = run.id AND stage.state = 'running' AND stage.kind = 'answer'
           AND run.finished_at IS NULL
      ) stages ON TRUE
     WHERE run.chat_id = chat.id AND run.team_id = claim.team_id
       AND (run.finished_at IS NULL OR run.finished_at > CASE WHEN claim.since = 0
            THEN app_now() - interval '{RECENT}' ELSE to_timestamp(claim.since / 1000.0) - interval '2 seconds' END)
  ) turns ON TRUE
"""  # noqa: S608 - constants only
ROLES = [str(role) for role in Role if allows(role, Permission.CHAT_VIEW)]


def look(claims: Sequence[Claim]) -> list[View | None]:
    """Return how the turns of each chat stand, and None for each page that may not be shown them any more."""
    if not claims:
        return []
    columns = {
        "places": list(range(len(claims))),
        "sessions": [claim.session_key for claim in claims],
        "users": [claim.user_id for claim in claims],
        "marks": [claim.password_mark for claim in claims],
        "teams": [claim.team_id for claim in claims],
        "chats": [claim.chat_id for claim in claims],
        "since": [claim.since for claim in claims],
        "roles": ROLES,
    }
    with connection.cursor() as cursor:
        cursor.execute(VIEWS, columns)
        found = {place: View(at, tuple(_turn(*turn) for turn in _loaded(turns))) for place, at, turns in cursor}
    return [found.get(place) for place in range(len(claims))]


def _loaded(found: str | list | None) -> list:
    return json.loads(found) if isinstance(found, str) else found or []


def _turn(run_id: str, message_id: str, version: str, goes_on: bool, stages: list | None) -> Turn:
    pairs = tuple((UUID(stage_id), saved_as and UUID(saved_as)) for stage_id, saved_as in stages or [])
    return Turn(UUID(run_id), UUID(message_id), version, goes_on, pairs)


PARTIALS = "SELECT id, team_id, partial_id, partial FROM personas_stagerun WHERE id = ANY(%s) AND partial IS NOT NULL"


def read_partials(stage_ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
    """Return what was saved of answers being given. The caller has checked who may see them."""
    with connection.cursor() as cursor:
        cursor.execute(PARTIALS, [list(stage_ids)])
        rows = cursor.fetchall()
    return {stage_id: said for stage_id, *sealed in rows if (said := _opened(*sealed)) is not None}


def _opened(team_id: UUID, partial_id: UUID, partial: bytes) -> dict[str, Any] | None:
    try:
        content = Content(id=partial_id, team_id=team_id, kind="partial", ciphertext=bytes(partial))
        return json.loads(open_content(content=content))
    except (Unreadable, ValueError):
        return None
