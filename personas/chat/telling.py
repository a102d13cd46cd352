"""What the log says of chats: who did what to whose chat with which persona, never what was talked about."""

from datetime import datetime
from typing import Any
from uuid import UUID

from audit.actions import Actor, record
from personas.models import Chat


def tell(
    verb: str, chat: Chat, actor: Actor, at: datetime | None = None, *, run_id: UUID | None = None, **details: Any
) -> None:
    """Write an event of a chat. It goes by its persona's name: its title says what was talked about."""
    record(
        f"personas.chat.{verb}",
        at=at,
        team_id=chat.team_id,
        actor=actor,
        target=f"chat:{chat.pk}",
        target_name=chat.persona.name,
        persona_id=chat.persona_id,
        persona_name=chat.persona.name,
        run_id=run_id,
        details=details,
    )
