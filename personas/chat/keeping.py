"""How a member keeps their chats: what one is called, and whether it stands in the list."""

from django.db import transaction

from accounts.models import User
from audit.actions import Actor
from audit.clock import app_now
from personas.chat.telling import tell
from personas.models import Chat


@transaction.atomic
def rename(*, chat: Chat, title: str, by: User) -> None:
    """Call a chat something; from then on it keeps that title."""
    chat.title, chat.titled_by_hand = title, True
    chat.save(update_fields=["title", "titled_by_hand"])
    tell("renamed", chat, Actor.user(by), app_now())


@transaction.atomic
def archive(*, chat: Chat, by: User) -> None:
    """Take a chat off the list. It can be read and brought back; an answer under way goes on."""
    now = app_now()
    if Chat.objects.live().filter(pk=chat.pk).update(archived_at=now):
        tell("archived", chat, Actor.user(by), now)


@transaction.atomic
def bring_back(*, chat: Chat, by: User) -> None:
    """Put a chat on the list again; a temporary one that is over stays over."""
    if Chat.objects.filter(pk=chat.pk, archived_at__isnull=False, temporary=False).update(archived_at=None):
        tell("brought_back", chat, Actor.user(by), app_now())
