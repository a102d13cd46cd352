"""Chats: what members and personas said to each other. Texts lie sealed, as Content."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.models import User
from audit.ids import uuid7


class ChatQuerySet(models.QuerySet):
    def live(self) -> "ChatQuerySet":
        """Chats that were not archived."""
        return self.filter(archived_at=None)


class Chat(models.Model):
    """A conversation of one member with a persona. Its messages form a tree: each answer has siblings."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="chats")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", help_text="whose")
    persona = models.ForeignKey("personas.Persona", on_delete=models.PROTECT, related_name="chats")
    title = models.CharField(max_length=120, blank=True)
    titled_by_hand = models.BooleanField(default=False)
    temporary = models.BooleanField(default=False, help_text="what is said is not kept")
    shared_at = models.DateTimeField(null=True, help_text="since when the team may read it")
    archived_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    active_at = models.DateTimeField(help_text="when the last message was sent")

    objects = ChatQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["team", "user", "-active_at", "-id"], name="chat_of_member")]

    def __str__(self) -> str:
        return self.title or "New chat"

    def is_read_by(self, user: User) -> bool:
        """Whether a member of its team may read it."""
        return self.user_id == user.pk or self.shared_at is not None


class Message(models.Model):
    """
    One thing said. A member's text is sealed Content; an answer is the outputs of its run's stages.

    Edits and repeated answers are siblings: rows with the same parent.
    """

    class Role(models.TextChoices):
        USER = "user", "Member"
        ASSISTANT = "assistant", "Persona"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="messages")
    chat = models.ForeignKey(Chat, on_delete=models.CASCADE, related_name="messages")
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE, related_name="replies")
    role = models.CharField(max_length=9, choices=Role)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    content_id = models.UUIDField(null=True, help_text="of a member's text; null: an answer, or not kept any more")
    run = models.OneToOneField("personas.Run", null=True, on_delete=models.PROTECT, related_name="message")
    model = models.CharField(max_length=200, blank=True, help_text="chosen for this answer; empty: as the persona says")
    compared_with = models.UUIDField(null=True, help_text="answers with the same value are shown side by side")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(role="user", run=None, author__isnull=False)
                | Q(role="assistant", run__isnull=False, author=None),
                name="answers_have_runs_and_members_text",
            )
        ]
        indexes = [models.Index(fields=["team", "chat", "parent"], name="message_tree")]


class Attachment(models.Model):
    """A picture or document that a member gave with a message, sealed. Without a message it is not sent yet."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="attachments")
    message = models.ForeignKey(Message, null=True, on_delete=models.CASCADE, related_name="attachments")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=120)
    media_type = models.CharField(max_length=60, help_text="as its bytes say, not as it was called")
    size = models.PositiveIntegerField(help_text="bytes")
    content_id = models.UUIDField()
    created_at = models.DateTimeField()
