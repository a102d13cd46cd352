"""Limits that a team sets on calls: how models may be reached, and how many dollars may be spent."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from audit.ids import uuid7

USD = {"max_digits": 20, "decimal_places": 12}


class Policy(models.Model):
    """How models may be reached. The holder is the team itself (its floor), a persona, or a flow."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="policies")
    holder = models.UUIDField()
    rules = models.JSONField(default=dict, help_text="read by integrations.policy")
    rules_before = models.JSONField(default=dict, help_text="what the last change replaced")
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "holder"], name="one_policy_per_holder")]


class CapQuerySet(models.QuerySet):
    def live(self) -> "CapQuerySet":
        """Caps that still count."""
        return self.filter(ended_at=None)


class Cap(models.Model):
    """
    A limit in US dollars on what a team, a member, a persona, a flow or a run may spend.

    Without a subject it counts for each one of its kind, each with a counter of its own.
    """

    class Kind(models.TextChoices):
        TEAM = "team", "The whole team"
        MEMBER = "member", "A member"
        PERSONA = "persona", "A persona"
        FLOW = "flow", "A flow"
        RUN = "run", "A run"

    class Period(models.TextChoices):
        DAY = "day", "a day"
        WEEK = "week", "a week"
        MONTH = "month", "a month"
        EVER = "ever", "in all"

    class Mode(models.TextChoices):
        STRICT = "strict", "Strict: hold the most that a call can cost"
        EXPECTED = "expected", "Expected: hold what calls like it cost"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="caps")
    kind = models.CharField(max_length=8, choices=Kind)
    subject = models.UUIDField(null=True, help_text="a member's user, a persona or a flow; null: each of its kind")
    period = models.CharField(max_length=8, choices=Period)
    limit_usd = models.DecimalField(**USD)
    mode = models.CharField(max_length=8, choices=Mode, default=Mode.STRICT)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ended_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    objects = CapQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "kind", "subject", "period"],
                condition=Q(ended_at=None),
                nulls_distinct=False,
                name="one_live_cap_per_subject_and_period",
            ),
            models.CheckConstraint(condition=Q(limit_usd__gte=0), name="cap_is_not_negative"),
            models.CheckConstraint(condition=~Q(kind="team") | Q(subject=None), name="a_team_cap_has_no_subject"),
            models.CheckConstraint(condition=~Q(kind="run") | Q(period="ever"), name="a_run_cap_is_for_all_of_it"),
        ]


class CapCounter(models.Model):
    """What one cap has held and spent for one subject in one period (UTC). A new period is a new row."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="cap_counters")
    cap = models.ForeignKey(Cap, on_delete=models.CASCADE, related_name="counters")
    subject = models.UUIDField(help_text="the team, user, persona, flow or run that is counted")
    period_start = models.DateField(help_text="its first day; 1 January 1970 where it has no period")
    reserved_usd = models.DecimalField(default=0, **USD)
    spent_usd = models.DecimalField(default=0, **USD)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "cap", "subject", "period_start"], name="one_cap_counter_per_period"
            ),
            models.CheckConstraint(
                condition=Q(reserved_usd__gte=0) & Q(spent_usd__gte=0), name="cap_counter_is_not_negative"
            ),
        ]


class CapEntry(models.Model):
    """One line of a counter, which the database keeps append-only; its lines add up to it."""

    class Kind(models.TextChoices):
        RESERVE = "reserve", "Held"
        SETTLE = "settle", "Settled"
        RELEASE = "release", "Released"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="cap_entries")
    counter = models.ForeignKey(CapCounter, on_delete=models.CASCADE, related_name="entries")
    at = models.DateTimeField()
    kind = models.CharField(max_length=8, choices=Kind)
    usd = models.DecimalField(**USD)
    call_id = models.UUIDField()

    class Meta:
        indexes = [models.Index(fields=["counter", "-at", "-id"], name="cap_entry_newest")]
        constraints = [
            models.UniqueConstraint(
                fields=["team", "call_id", "counter"], condition=Q(kind="reserve"), name="one_cap_reservation_per_call"
            ),
            models.UniqueConstraint(
                fields=["team", "call_id", "counter"],
                condition=Q(kind__in=["settle", "release"]),
                name="one_cap_end_per_call",
            ),
        ]
