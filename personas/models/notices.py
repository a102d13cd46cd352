"""What a team is told without asking: notices, and what was sent out because of runs and notices."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from audit.ids import uuid7


class Notice(models.Model):
    """Something that wants attention. What happens again while it is open counts up; it does not make another row."""

    class Kind(models.TextChoices):
        FAILED = "failed", "A flow failed"
        MISSED = "missed", "A firing was missed"
        PARKED = "parked", "A run has waited for over an hour"
        ASKS = "asks", "A run waits for a person"
        PAUSED = "paused", "A schedule was switched off"
        CREDITS = "credits", "Platform credits will run out"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=8, choices=Kind)
    about = models.CharField(max_length=80, help_text="what it is about, such as flow:<id>")
    name = models.CharField(max_length=120, help_text="what that was called")
    text = models.CharField(max_length=500)
    run = models.ForeignKey("personas.Run", null=True, on_delete=models.SET_NULL, related_name="+")
    times = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    over_at = models.DateTimeField(null=True, help_text="when it was over by itself, or was put away")
    over_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "kind", "about"], condition=Q(over_at=None), name="one_open_notice"
            ),
        ]
        indexes = [models.Index(fields=["team", "-last_at", "-id"], name="notice_of_team")]

    @property
    def state(self) -> str:
        """Its kind as the state that badges show."""
        return {self.Kind.PARKED: "parked", self.Kind.ASKS: "approval"}.get(self.kind, "failed")


class NoticeWish(models.Model):
    """How one member, or a team's webhook, wants to hear of notices. Without a row owners get mail, others none."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="notice_wishes")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    connection = models.ForeignKey("integrations.Connection", null=True, on_delete=models.CASCADE, related_name="+")
    kinds = models.JSONField(default=list, help_text="the kinds of notices wanted")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(user=None, connection__isnull=False) | Q(user__isnull=False, connection=None),
                name="a_wish_is_a_members_or_a_webhooks",
            ),
            models.UniqueConstraint(fields=["team", "user"], condition=Q(connection=None), name="one_wish_per_member"),
            models.UniqueConstraint(fields=["team", "connection"], condition=Q(user=None), name="one_wish_per_webhook"),
        ]


class Delivery(models.Model):
    """Something to be sent out: the result of a run or a notice, to one address. The row is the truth."""

    class Kind(models.TextChoices):
        MAIL = "mail", "Mail"
        WEBHOOK = "webhook", "Webhook"

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        SENT = "sent", "Sent"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="deliveries")
    kind = models.CharField(max_length=7, choices=Kind)
    run = models.ForeignKey("personas.Run", null=True, on_delete=models.CASCADE, related_name="deliveries")
    notice = models.ForeignKey(Notice, null=True, on_delete=models.CASCADE, related_name="deliveries")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    connection = models.ForeignKey("integrations.Connection", null=True, on_delete=models.CASCADE, related_name="+")
    what = models.CharField(max_length=12, help_text="what is told: result, begun, over")
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    tries = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(null=True, help_text="when it is tried next")
    sent_at = models.DateTimeField(null=True)
    failure = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(run__isnull=False, notice=None) | Q(run=None, notice__isnull=False),
                name="a_delivery_is_of_a_run_or_a_notice",
            ),
        ]
        indexes = [
            models.Index(fields=["next_at"], condition=Q(state="waiting"), name="delivery_due"),
            models.Index(fields=["team", "run"], name="delivery_of_run"),
        ]
