"""The log. Rows hold ids and text as they were at the time; nothing here points at another app."""

from django.db import models

from audit.ids import uuid7


class Event(models.Model):
    """One thing that happened. Append-only: the database refuses UPDATE and DELETE."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    at = models.DateTimeField()
    team_id = models.UUIDField(null=True, help_text="null: the installation itself")
    actor_kind = models.CharField(max_length=10)
    actor_id = models.CharField(max_length=80)
    actor_name = models.CharField(max_length=254)
    action = models.CharField(max_length=80)
    target = models.CharField(max_length=120, blank=True)
    target_name = models.CharField(max_length=254, blank=True)
    outcome = models.CharField(max_length=40, blank=True)
    persona_id = models.UUIDField(null=True)
    persona_name = models.CharField(max_length=120, blank=True)
    run_id = models.UUIDField(null=True)
    tool = models.CharField(max_length=80, blank=True)
    model = models.CharField(max_length=200, blank=True)
    call_id = models.UUIDField(null=True, help_text="sent upstream as X-Request-Id")
    generation_id = models.CharField(max_length=120, blank=True)
    request_sha256 = models.CharField(max_length=64, blank=True, help_text="of the exact body sent")
    cost_usd = models.DecimalField(max_digits=20, decimal_places=12, null=True)
    credits = models.IntegerField(null=True, help_text="platform credits")
    content_id = models.UUIDField(null=True)
    content_sha256 = models.CharField(max_length=64, blank=True, help_text="of the sealed content")
    details = models.JSONField(default=dict)
    canon = models.BinaryField(help_text="the authoritative bytes of this event")

    class Meta:
        # The table is partitioned by month, which Django cannot say: see the migration.
        indexes = [
            models.Index(fields=["team_id", "-at", "-id"], name="event_team_at"),
            models.Index(fields=["team_id", "persona_id", "-at", "-id"], name="event_persona_at"),
            models.Index(fields=["team_id", "tool", "-at", "-id"], name="event_tool_at"),
            models.Index(fields=["team_id", "actor_id", "-at", "-id"], name="event_actor_at"),
            models.Index(fields=["run_id"], condition=models.Q(run_id__isnull=False), name="event_run"),
            models.Index(fields=["call_id"], name="event_call"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"


class Content(models.Model):
    """A sealed prompt, response or stage text. It can be erased; it cannot be changed."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    at = models.DateTimeField()
    team_id = models.UUIDField()
    subject = models.UUIDField(help_text="what an erasure would name: a persona or a user")
    kind = models.CharField(max_length=20)
    ciphertext = models.BinaryField(null=True, help_text="null: erased")
    sha256 = models.CharField(max_length=64)
