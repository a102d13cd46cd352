"""Plans and the platform-credit ledger. Platform credits are whole numbers and never dollars."""

from django.db import models
from django.db.models import F, Q

from audit.ids import uuid7

MOST_GRANTED = 2_000_000_000  # what the column of a month can hold


class Plan(models.Model):
    """
    What a team may use in a month, and what a call takes of it. Plans are rows, so that an operator can add one.

    With `per_seat` every member of a team brings the monthly platform credits.
    """

    key = models.SlugField(unique=True)
    name = models.CharField(max_length=40)
    monthly_credits = models.PositiveIntegerField()
    per_seat = models.BooleanField(default=False)
    read_credits = models.PositiveIntegerField(default=1, help_text="what a call takes that asks no model")
    model_credits = models.PositiveIntegerField(default=2, help_text="what a call to a model takes, without its tokens")
    tokens_per_credit = models.PositiveIntegerField(
        default=1_000, help_text="a call to a model takes 1 more for so many tokens, in and out"
    )
    about = models.CharField(max_length=120, blank=True, help_text="what it costs and includes, in a sentence or two")
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.CheckConstraint(condition=Q(tokens_per_credit__gt=0), name="plan_counts_by_at_least_one_token")
        ]

    def __str__(self) -> str:
        return self.name

    def grant_for(self, seats: int) -> int:
        """Return the platform credits a month that a team with so many members gets."""
        return min(MOST_GRANTED, self.monthly_credits * max(1, seats)) if self.per_seat else self.monthly_credits


class Pack(models.Model):
    """Platform credits that a team can add to one month. What is left of them does not roll over."""

    key = models.SlugField(unique=True)
    name = models.CharField(max_length=40)
    credits = models.PositiveIntegerField()
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position"]

    def __str__(self) -> str:
        return self.name


class CreditAccount(models.Model):
    """A team's platform credits of one calendar month (UTC). A new month is a new row."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="credit_accounts")
    period = models.DateField(help_text="first day of the month")
    granted = models.PositiveIntegerField(help_text="by the plan and by packs")
    packs = models.PositiveIntegerField(default=0, help_text="the part of it that packs added")
    reserved = models.PositiveIntegerField(default=0)
    spent = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "period"], name="one_credit_account_per_month"),
            models.CheckConstraint(
                condition=Q(reserved__gte=0) & Q(spent__gte=0) & Q(granted__gte=F("reserved")),
                name="credit_account_reserved_within_granted",
            ),
            models.CheckConstraint(condition=Q(granted__gte=F("packs")), name="credit_account_packs_within_granted"),
        ]

    @property
    def left(self) -> int:
        """Platform credits that a new call may still reserve."""
        return max(0, self.granted - self.reserved - self.spent)


class CreditEntry(models.Model):
    """One line of the ledger, which the database keeps append-only; the lines of a month add up to its account."""

    class Kind(models.TextChoices):
        GRANT = "grant", "Granted"
        PACK = "pack", "Pack added"
        RESERVE = "reserve", "Reserved"
        SETTLE = "settle", "Settled"
        RELEASE = "release", "Released"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="credit_entries")
    account = models.ForeignKey(CreditAccount, on_delete=models.CASCADE, related_name="entries")
    at = models.DateTimeField()
    kind = models.CharField(max_length=8, choices=Kind)
    credits = models.PositiveIntegerField()
    call_id = models.UUIDField(null=True)
    note = models.CharField(max_length=80, blank=True, help_text="which pack")

    class Meta:
        indexes = [models.Index(fields=["account", "-at", "-id"], name="credit_entry_newest")]
        constraints = [
            # A call is reserved once and ends once: settled or released.
            models.UniqueConstraint(
                fields=["team", "call_id"], condition=Q(kind="reserve"), name="one_reservation_per_call"
            ),
            models.UniqueConstraint(
                fields=["team", "call_id"], condition=Q(kind__in=["settle", "release"]), name="one_end_per_call"
            ),
        ]
