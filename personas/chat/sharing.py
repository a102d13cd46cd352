"""Who may read a chat: its member, and, while it is shared, whoever may see chats in the team. Nobody else writes."""

from django.db import transaction

from accounts.models import User
from audit.actions import Actor, record
from audit.clock import app_now
from personas.models import Chat


class CannotShare(Exception):
    """The chat is not shared; the message says why."""


@transaction.atomic
def share(*, chat: Chat, by: User) -> None:
    """Let the team read a chat, with its files and all that follows. Raises CannotShare."""
    if chat.user_id != by.pk:
        raise CannotShare("Only the member whose chat it is can share it.")
    if chat.temporary:
        raise CannotShare("A temporary chat is not kept, so there is nothing to share.")
    now = app_now()
    if Chat.objects.filter(pk=chat.pk, shared_at=None).update(shared_at=now):
        _record("personas.chat.shared", chat, by)


@transaction.atomic
def unshare(*, chat: Chat, by: User) -> None:
    """Keep a chat to oneself again. What others have read, they have read. Raises CannotShare."""
    if chat.user_id != by.pk:
        raise CannotShare("Only the member whose chat it is can stop sharing it.")
    if Chat.objects.filter(pk=chat.pk, shared_at__isnull=False).update(shared_at=None):
        _record("personas.chat.unshared", chat, by)


def _record(action: str, chat: Chat, by: User) -> None:
    # Without its title: that says what was talked about.
    record(
        action,
        team_id=chat.team_id,
        actor=Actor.user(by),
        target=f"chat:{chat.pk}",
        persona_id=chat.persona_id,
    )
