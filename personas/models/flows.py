"""Flows, their immutable versions, and the schedules that fire them."""

from django.conf import settings
from django.db import models

from audit.clock import AppNow
from audit.ids import uuid7


class Flow(models.Model):
    """A named series of stages. What it does lies in its versions."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="flows")
    slug = models.SlugField(max_length=60)
    name = models.CharField(max_length=60)
    purpose = models.CharField(max_length=120, blank=True)
    version = models.ForeignKey(
        "personas.FlowVersion", null=True, on_delete=models.PROTECT, related_name="+", help_text="the one in use"
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True)
    problems = models.JSONField(default=list, help_text="what is wrong with its models, in words, as last checked")
    checked_at = models.DateTimeField(null=True, help_text="when its models were last held against the catalog")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "slug"], name="one_flow_per_slug")]

    def __str__(self) -> str:
        return self.name


class FlowVersion(models.Model):
    """
    A flow's stages at one time, never changed. Runs are pinned to one.

    `stages` is a list of objects as `personas.stages.read_stage` reads them.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="flow_versions")
    flow = models.ForeignKey(Flow, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    stages = models.JSONField()
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "flow", "number"], name="one_flow_version_per_number")]


class ScheduleQuerySet(models.QuerySet):
    def active(self) -> "ScheduleQuerySet":
        """Schedules that are switched on."""
        return self.filter(paused_at=None, flow__archived_at=None)

    def due(self) -> "ScheduleQuerySet":
        """Active schedules whose next instant has come, by the database's clock."""
        return self.active().filter(next_at__lte=AppNow())


class Schedule(models.Model):
    """When a flow fires by itself, as a cron rule in a time zone."""

    class CatchUp(models.TextChoices):
        SKIP = "skip", "Skip what was missed"
        LATEST = "latest", "Run the latest missed one"
        ALL = "all", "Run all that were missed"

    class Overlap(models.TextChoices):
        SKIP = "skip", "Skip while a run is going"
        ALLOW = "allow", "Start another run beside it"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="schedules")
    flow = models.ForeignKey(Flow, on_delete=models.CASCADE, related_name="schedules")
    cron = models.CharField(max_length=120)
    zone = models.CharField(max_length=60)
    catch_up = models.CharField(max_length=6, choices=CatchUp, default=CatchUp.LATEST)
    overlap = models.CharField(max_length=5, choices=Overlap, default=Overlap.SKIP)
    next_at = models.DateTimeField()
    paused_at = models.DateTimeField(null=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", help_text="its runs act with their rights"
    )
    created_at = models.DateTimeField()

    objects = ScheduleQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["next_at"], condition=models.Q(paused_at=None), name="schedule_next_at"),
        ]


class Firing(models.Model):
    """One nominal time of a schedule: what came of it. Unique, so nothing fires twice."""

    class Outcome(models.TextChoices):
        STARTED = "started", "Started"
        OVERLAP = "overlap", "Skipped, the run before was still going"
        MISSED = "missed", "Missed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="firings")
    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="firings")
    nominal_at = models.DateTimeField()
    fired_at = models.DateTimeField()
    outcome = models.CharField(max_length=8, choices=Outcome)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "schedule", "nominal_at"], name="one_firing_per_nominal_time")
        ]
