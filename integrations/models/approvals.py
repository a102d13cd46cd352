"""Calls that wait for a person, because a grant says "ask first"."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from audit.ids import uuid7


class ApprovalQuerySet(models.QuerySet):
    def waiting(self) -> "ApprovalQuerySet":
        """Approvals that nobody has decided yet."""
        return self.filter(state=Approval.State.WAITING)


class Approval(models.Model):
    """
    One call that somebody must allow first. What it asks is frozen, sealed, and bound by its hash.

    It serves one call that goes through, and only as it was asked.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        APPROVED = "approved", "Allowed"
        REFUSED = "refused", "Refused"
        EXPIRED = "expired", "Expired"
        WITHDRAWN = "withdrawn", "Withdrawn"
        USED = "used", "Used"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="approvals")
    connection = models.ForeignKey("integrations.Connection", on_delete=models.PROTECT, related_name="approvals")
    tool = models.CharField(max_length=80)
    chain = models.JSONField(default=list, help_text="the models it may ask, in order")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", help_text="whose rights the call uses"
    )
    unattended = models.BooleanField(help_text="a schedule asks, nobody sits before it")
    untrusted = models.BooleanField(
        default=False, db_default=False, help_text="words of strangers were in the conversation when it was asked for"
    )
    persona_id = models.UUIDField()
    persona_name = models.CharField(max_length=120)
    flow_id = models.UUIDField(null=True)
    run_id = models.UUIDField(null=True)
    stage_id = models.UUIDField(null=True)
    arguments_content_id = models.UUIDField()
    request_sha256 = models.CharField(max_length=64, help_text="binds who, what, through which connection, and where")
    most_credits = models.PositiveIntegerField()
    most_usd = models.DecimalField(max_digits=20, decimal_places=12, null=True)
    approvers = models.JSONField(default=list, help_text="ids of the members who may decide; empty: all with the right")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    asked_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    always = models.BooleanField(default=False, help_text="the grant was changed to allow such calls from now on")
    call_id = models.UUIDField(null=True, help_text="the call that used it")
    call_started_at = models.DateTimeField(null=True)

    objects = ApprovalQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["team", "-asked_at", "-id"], name="approval_newest"),
            models.Index(fields=["expires_at"], condition=Q(state__in=["waiting", "approved"]), name="approval_open"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["team", "stage_id"],
                condition=Q(state__in=["waiting", "approved"], stage_id__isnull=False),
                name="one_open_approval_per_stage",
            ),
            models.CheckConstraint(
                condition=Q(decided_at=None, decided_by=None) | Q(decided_at__isnull=False, decided_by__isnull=False),
                name="approval_decided_at_and_by_go_together",
            ),
            models.CheckConstraint(
                condition=~Q(state="used") | Q(call_id__isnull=False, call_started_at__isnull=False),
                name="a_used_approval_names_its_call",
            ),
        ]
