"""Flows, their immutable versions, and the schedules that fire them."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models

from audit.clock import AppNowOnce
from audit.ids import uuid7
from personas.timing import Rule


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
    draft = models.ForeignKey(
        "personas.FlowVersion",
        null=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="saved, not in use yet",
    )
    most_at_once = models.PositiveSmallIntegerField(null=True, help_text="runs at work at one time; none: no bound")
    delivery = models.JSONField(default=list, help_text="where its results go, as personas.delivery reads them")
    samples_id = models.UUIDField(null=True, help_text="sealed sample outputs that its stages are tried with")
    origin = models.UUIDField(
        default=uuid7, editable=False, help_text="the same in every export: a file that comes again changes this flow"
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True)
    problems = models.JSONField(default=list, help_text="what is wrong with its models, in words, as last checked")
    checked_at = models.DateTimeField(null=True, help_text="when its models were last held against the catalog")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "slug"], name="one_flow_per_slug"),
            models.UniqueConstraint(fields=["team", "origin"], name="one_flow_per_origin"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def shown(self) -> "FlowVersion":
        """The version in use; the draft of a flow that has none yet."""
        return self.version or self.draft


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
    inputs = models.JSONField(default=list, help_text="what a run may be given: name, about and default of each")
    published_at = models.DateTimeField(null=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()

    SAYS = ("stages", "inputs")  # what the editor asks for, a restored version takes over and an export holds

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "flow", "number"], name="one_flow_version_per_number")]

    @property
    def says(self) -> dict[str, Any]:
        """All that it says, by field."""
        return {name: getattr(self, name) for name in self.SAYS}


class ScheduleQuerySet(models.QuerySet):
    def active(self) -> "ScheduleQuerySet":
        """Schedules that are switched on."""
        return self.filter(paused_at=None, flow__archived_at=None)

    def due(self) -> "ScheduleQuerySet":
        """Active schedules whose next instant has come, by the database's clock."""
        return self.active().filter(next_at__lte=AppNowOnce())


class Schedule(models.Model):
    """When a flow fires by itself: by a cron rule in a time zone, at every interval, or once."""

    class Kind(models.TextChoices):
        CRON = "cron", "By a cron rule"
        EVERY = "every", "At an interval"
        ONCE = "once", "Once"

    class CatchUp(models.TextChoices):
        SKIP = "skip", "Skip what was missed"
        LATEST = "latest", "Run the latest missed one"
        ALL = "all", "Run all that were missed"
        WINDOW = "window", "Run those missed within a window"

    class Overlap(models.TextChoices):
        SKIP = "skip", "Skip while a run is going"
        QUEUE = "queue", "Wait until that run is over"
        ALLOW = "allow", "Start another run beside it"
        REPLACE = "replace", "Stop that run and start this one"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="schedules")
    flow = models.ForeignKey(Flow, on_delete=models.CASCADE, related_name="schedules")
    name = models.CharField(max_length=60, blank=True)
    kind = models.CharField(max_length=5, choices=Kind, default=Kind.CRON)
    cron = models.CharField(max_length=120, blank=True, help_text="of a cron rule")
    every_seconds = models.PositiveIntegerField(null=True, help_text="of an interval, counted from starts_at")
    zone = models.CharField(max_length=60)
    starts_at = models.DateTimeField(null=True, help_text="nothing fires before; the time of one that fires once")
    ends_at = models.DateTimeField(null=True, help_text="nothing fires after")
    jitter_seconds = models.PositiveIntegerField(default=0, help_text="fires up to so much later than its nominal time")
    catch_up = models.CharField(max_length=6, choices=CatchUp, default=CatchUp.LATEST)
    catch_up_seconds = models.PositiveIntegerField(null=True, help_text="how long ago a missed time may lie: a window")
    overlap = models.CharField(max_length=7, choices=Overlap, default=Overlap.SKIP)
    inputs_id = models.UUIDField(null=True, help_text="sealed values for the inputs of its flow")
    next_at = models.DateTimeField(help_text="when it fires next")
    nominal_at = models.DateTimeField(
        null=True, help_text="the time of its rule that fires then; none: that time itself"
    )
    paused_at = models.DateTimeField(null=True)
    paused_until = models.DateTimeField(null=True, help_text="when a pause ends by itself")
    paused_why = models.CharField(max_length=300, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", help_text="its runs act with their rights"
    )
    created_at = models.DateTimeField()

    objects = ScheduleQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["next_at"], condition=models.Q(paused_at=None), name="schedule_next_at"),
        ]

    def is_paused_at(self, now: datetime) -> bool:
        """Whether a member or a fault keeps it from firing at a time."""
        return bool(self.paused_at or (self.paused_until and self.paused_until > now))

    @property
    def rule(self) -> Rule:
        """When it fires, as `personas.timing` computes it."""
        return Rule(
            zone=self.zone,
            kind=self.kind,
            cron=self.cron,
            every_seconds=self.every_seconds,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
        )


class Firing(models.Model):
    """One nominal time of a schedule: what came of it. Unique, so nothing fires twice."""

    class Outcome(models.TextChoices):
        STARTED = "started", "Started"
        QUEUED = "queued", "Waits for the run before"
        REPLACED = "replaced", "Started in the place of the run before"
        OVERLAP = "overlap", "Skipped, the run before was still going"
        MISSED = "missed", "Missed"
        PAUSED = "paused", "Skipped, paused"

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


class TeamFlows(models.Model):
    """What a team set for all its flows. A team without a row set nothing."""

    team = models.OneToOneField("accounts.Team", on_delete=models.CASCADE, primary_key=True, related_name="flow_rules")
    schedules_paused_at = models.DateTimeField(null=True, help_text="since when no schedule of the team fires")
    schedules_paused_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    most_at_once = models.PositiveSmallIntegerField(null=True, help_text="runs at work at one time; none: the plan's")
    keep_days = models.PositiveSmallIntegerField(null=True, help_text="how long outputs of runs are kept; none: ever")


class Trigger(models.Model):
    """What starts a flow beside its schedules: a signed request from outside, or another flow that succeeded."""

    class Kind(models.TextChoices):
        WEBHOOK = "webhook", "A signed request"
        FLOW = "flow", "After another flow"

    class Outcome(models.TextChoices):
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"
        ENDED = "ended", "Succeeded or failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="triggers")
    flow = models.ForeignKey(Flow, on_delete=models.CASCADE, related_name="triggers")
    kind = models.CharField(max_length=7, choices=Kind)
    name = models.CharField(max_length=60, blank=True)
    after = models.ForeignKey(Flow, null=True, on_delete=models.CASCADE, related_name="followers")
    outcome = models.CharField(
        max_length=9, choices=Outcome, default=Outcome.SUCCEEDED, help_text="how the flow before must have ended"
    )
    address = models.CharField(max_length=40, blank=True, help_text="what nobody guesses in the address of requests")
    mapping = models.JSONField(default=dict, help_text="from which field of what comes each input is taken")
    secret = models.BinaryField(null=True, help_text="what requests are signed with, sealed")
    secret_id = models.UUIDField(null=True, help_text="what `secret` was sealed as")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", help_text="its runs act with their rights"
    )
    paused_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    last_at = models.DateTimeField(null=True, help_text="when it started a run last")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "flow", "after"], condition=models.Q(kind="flow"), name="one_trigger_per_flow_before"
            ),
        ]
        indexes = [
            models.Index(fields=["address"], condition=~models.Q(address=""), name="trigger_address"),
        ]


class TriggerEvent(models.Model):
    """One request that a trigger took. Unique, so one that comes twice starts one run."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="trigger_events")
    trigger = models.ForeignKey(Trigger, on_delete=models.CASCADE, related_name="events")
    event = models.CharField(max_length=120, help_text="its id, as the sender wrote it")
    run = models.ForeignKey("personas.Run", null=True, on_delete=models.SET_NULL, related_name="+")
    problem = models.CharField(max_length=300, blank=True, help_text="why it started no run")
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "trigger", "event"], name="one_trigger_event_per_id")]
