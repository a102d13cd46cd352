"""Every call made through a connection."""

from django.db import models
from django.db.models import Q

from audit.ids import uuid7
from integrations.dollars import compare_bill
from integrations.pricing import differs


class Call(models.Model):
    """
    One HTTP exchange with a provider, opened before it is sent and closed after.

    The table is partitioned by month, so nothing may point at it with a foreign key.
    """

    class State(models.TextChoices):
        SENT = "sent", "Sent"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"
        UNKNOWN = "unknown", "Unknown"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="calls")
    connection = models.ForeignKey("integrations.Connection", on_delete=models.PROTECT, related_name="calls")
    tool = models.CharField(max_length=80)
    state = models.CharField(max_length=8, choices=State, default=State.SENT)
    outcome = models.CharField(max_length=40, blank=True)
    actor_kind = models.CharField(max_length=10)
    actor_id = models.CharField(max_length=80)
    actor_name = models.CharField(max_length=254)
    persona_id = models.UUIDField(null=True)
    persona_name = models.CharField(max_length=120, blank=True)
    flow_id = models.UUIDField(null=True)
    run_id = models.UUIDField(null=True)
    stage_id = models.UUIDField(null=True)
    attempt = models.PositiveSmallIntegerField(default=1, help_text="which try of its stage, from 1")
    approval_id = models.UUIDField(null=True, help_text="what a person allowed, where the grant says ask first")
    model = models.CharField(max_length=200, blank=True, help_text="asked for")
    model_served = models.CharField(max_length=200, blank=True)
    provider = models.CharField(max_length=80, blank=True, help_text="who served it")
    generation_id = models.CharField(max_length=120, blank=True)
    request_sha256 = models.CharField(max_length=64)
    request_content_id = models.UUIDField(null=True)
    response_content_id = models.UUIDField(null=True)
    credit_account = models.ForeignKey("accounts.CreditAccount", null=True, on_delete=models.PROTECT, related_name="+")
    credits_reserved = models.PositiveIntegerField(default=0)
    credits = models.PositiveIntegerField(null=True, help_text="platform credits charged; null while unknown")
    cost_usd = models.DecimalField(max_digits=20, decimal_places=12, null=True)
    most_usd = models.DecimalField(max_digits=20, decimal_places=12, null=True, help_text="the most it could cost")
    price_usd = models.DecimalField(
        max_digits=20, decimal_places=12, null=True, help_text="what its tokens cost by the catalog"
    )
    tokens_in = models.PositiveIntegerField(null=True)
    tokens_out = models.PositiveIntegerField(null=True)
    status = models.PositiveSmallIntegerField(null=True)
    message = models.CharField(max_length=500, blank=True, help_text="what went wrong, in words")
    retry_at = models.DateTimeField(null=True)
    settle_at = models.DateTimeField(null=True, help_text="when an unknown call's record is asked for again")
    first_token_ms = models.PositiveIntegerField(null=True)
    latency_ms = models.PositiveIntegerField(null=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    # Not a column: whoever opened the call knows; whoever reads the row asks the counters.
    may_hold_dollars = True

    class Meta:
        indexes = [
            models.Index(fields=["team", "-started_at", "-id"], name="call_team_started"),
            models.Index(fields=["run_id"], condition=Q(run_id__isnull=False), name="call_run"),
            models.Index(fields=["started_at"], condition=Q(state__in=["sent", "unknown"]), name="call_open"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(state="sent", finished_at=None) | ~Q(state="sent") & Q(finished_at__isnull=False),
                name="call_finished_when_not_sent",
            )
        ]

    @property
    def bill_words(self) -> str:
        """How its bill compares with the catalog's price where they are more than 2% apart, else nothing."""
        if self.cost_usd is None or self.price_usd is None or not differs(self.cost_usd, self.price_usd):
            return ""
        return compare_bill(self.cost_usd, self.price_usd)
