"""Who may read a chat: its member, and, while it is shared, whoever may see chats in the team. Nobody else writes."""

from django.db import transaction

from accounts.models import User
from audit.actions import Actor
from audit.clock import app_now
from personas.chat.telling import tell
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
        tell("shared", chat, Actor.user(by))


@transaction.atomic
def unshare(*, chat: Chat, by: User) -> None:
    """Keep a chat to oneself again. What others have read, they have read. Raises CannotShare."""
    if chat.user_id != by.pk:
        raise CannotShare("Only the member whose chat it is can stop sharing it.")
    if Chat.objects.filter(pk=chat.pk, shared_at__isnull=False).update(shared_at=None):
        tell("unshared", chat, Actor.user(by))
