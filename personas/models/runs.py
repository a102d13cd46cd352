"""Runs and their stages. The row is the truth; a queue message is only a hint to look at it."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from audit.clock import AppNow
from audit.ids import uuid7
from integrations.models import Approval


class RunQuerySet(models.QuerySet):
    def outside_chats(self) -> "RunQuerySet":
        """Runs that every member with the right may read: a chat is between a member and a persona."""
        return self.filter(chat=None)

    def unfinished(self) -> "RunQuerySet":
        """Runs that are waiting or at work."""
        return self.filter(state__in=Run.UNFINISHED)

    def claimable(self) -> "RunQuerySet":
        """
        Runs that a worker may take now: queued, due again, or left by a worker that died.

        None of them waits for the end of another run.
        """
        due = Q(state=Run.State.QUEUED)
        due |= Q(state=Run.State.PARKED, parked_until__lte=AppNow())
        due |= Q(state=Run.State.RUNNING, lease_until__lt=AppNow())
        return self.filter(due, Q(waits_for=None) | Q(waits_for__finished_at__isnull=False))


class Run(models.Model):
    """One execution of a flow version, of one tool from the console, or one turn of a chat."""

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        PARKED = "parked", "Waiting"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"
        STOPPED = "stopped", "Stopped"

    class Trigger(models.TextChoices):
        MEMBER = "member", "A member"
        SCHEDULE = "schedule", "A schedule"
        WEBHOOK = "webhook", "A signed request"
        FLOW = "flow", "Another flow"
        AGAIN = "again", "Run again"
        TRIAL = "trial", "A trial of one stage"

    UNFINISHED = [State.QUEUED, State.RUNNING, State.PARKED]
    MAX_ATTEMPTS = 3  # without a finished stage between them
    LONGEST_FAILURE = 500  # characters

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="runs")
    flow = models.ForeignKey("personas.Flow", null=True, on_delete=models.CASCADE, related_name="runs")
    flow_version = models.ForeignKey("personas.FlowVersion", null=True, on_delete=models.PROTECT, related_name="+")
    firing = models.OneToOneField("personas.Firing", null=True, on_delete=models.PROTECT, related_name="run")
    chat = models.ForeignKey(
        "personas.Chat", null=True, on_delete=models.CASCADE, related_name="runs", help_text="it is a turn of this"
    )
    trigger = models.CharField(max_length=8, choices=Trigger, default=Trigger.MEMBER, help_text="what started it")
    again_of = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="repeats")
    caused_by = models.ForeignKey(
        "self", null=True, on_delete=models.SET_NULL, related_name="consequences", help_text="it started after this run"
    )
    waits_for = models.ForeignKey(
        "self", null=True, on_delete=models.SET_NULL, related_name="waiting", help_text="it begins when this is over"
    )
    inputs_id = models.UUIDField(null=True, help_text="sealed values of the inputs of its flow")
    shared_at = models.DateTimeField(null=True, help_text="since when its result is a page of the team")
    shared_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    erased_at = models.DateTimeField(null=True, help_text="when its texts were erased, as the team's rule says")
    paused_at = models.DateTimeField(null=True, help_text="a member paused it; it waits for them")
    gave_up = models.BooleanField(default=False, help_text="ended after attempts without progress")
    title = models.CharField(max_length=120)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="who started it, or owns the schedule that did: it acts with their rights",
    )
    idempotency_key = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    failure = models.CharField(max_length=LONGEST_FAILURE, blank=True)
    owner = models.CharField(max_length=64, blank=True, help_text="the worker that holds the lease")
    lease_until = models.DateTimeField(null=True)
    fence = models.PositiveIntegerField(default=0, help_text="a write of an older fence is refused")
    attempt = models.PositiveSmallIntegerField(default=0)
    parked_until = models.DateTimeField(null=True)
    approval = models.ForeignKey(
        "integrations.Approval", null=True, on_delete=models.PROTECT, related_name="+", help_text="it waits for this"
    )
    rehearsal = models.BooleanField(default=False, help_text="the first model of each chain is said to be busy")
    estimate = models.JSONField(default=dict, help_text="most and likely platform credits and US dollars, at its start")
    hinted_at = models.DateTimeField(null=True, help_text="when a worker was last told")
    place = models.PositiveBigIntegerField(default=0, help_text="in the line of all runs of flows: see personas.fair")
    stop_wanted_at = models.DateTimeField(null=True)
    changes = models.PositiveIntegerField(default=0, help_text="grows with each visible change")
    queued_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                name="one_run_per_idempotency_key",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running", "parked"], finished_at=None)
                | Q(state__in=["succeeded", "failed", "stopped"], finished_at__isnull=False),
                name="run_finished_at_when_finished",
            ),
        ]
        indexes = [
            models.Index(fields=["team", "-queued_at", "-id"], name="run_team_queued"),
            models.Index(fields=["team", "flow", "-queued_at", "-id"], name="run_flow_queued"),
            models.Index(fields=["team", "-queued_at"], condition=Q(trigger="trial"), name="run_trial"),
            models.Index(
                fields=["state", "hinted_at"],
                condition=Q(state__in=["queued", "running", "parked"]),
                name="run_unfinished",
            ),
            models.Index(fields=["place", "id"], condition=Q(state="queued", flow__isnull=False), name="run_line"),
            models.Index(
                fields=["team", "place"], condition=Q(state="queued", flow__isnull=False), name="run_line_of_team"
            ),
            models.Index(
                fields=["team", "finished_at"],
                condition=Q(chat=None, erased_at=None, finished_at__isnull=False),
                name="run_to_erase",
            ),
            models.Index(fields=["parked_until"], condition=Q(state="parked"), name="run_parked"),
        ]

    @staticmethod
    def next_change() -> models.expressions.Combinable:
        """The value of `changes` after one more visible change."""
        return F("changes") + 1

    @property
    def is_finished(self) -> bool:
        return self.state not in self.UNFINISHED

    @property
    def waits_for_approval(self) -> bool:
        """Whether a person must decide before it goes on. Asks for its approval unless the query brought it."""
        if self.state != self.State.PARKED or self.approval_id is None:
            return False
        return self.approval.state == Approval.State.WAITING

    @property
    def is_turn(self) -> bool:
        """Whether it answers a message of a chat."""
        return self.chat_id is not None

    @property
    def is_trial(self) -> bool:
        """Whether one stage of its flow is tried alone."""
        return self.trigger == self.Trigger.TRIAL

    @property
    def by_schedule(self) -> bool:
        return self.firing_id is not None

    @property
    def is_unattended(self) -> bool:
        """Whether it started by itself, so that nobody sits before it."""
        return self.by_schedule or self.trigger in (self.Trigger.SCHEDULE, self.Trigger.WEBHOOK, self.Trigger.FLOW)


class StageRun(models.Model):
    """One stage of a run. At most one accepted result; its calls are its attempts."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        RUNNING = "running", "Running"
        DONE = "done", "Succeeded"
        FAILED = "failed", "Failed"
        SKIPPED = "skipped", "Skipped"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="stage_runs")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="stages")
    position = models.PositiveSmallIntegerField()
    item = models.PositiveSmallIntegerField(
        default=0, help_text="of a list it works through, from 1; 0: the stage itself"
    )
    name = models.CharField(max_length=60)
    kind = models.CharField(max_length=10)
    spec = models.JSONField(help_text="the stage as its flow version wrote it")
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    persona = models.ForeignKey("personas.Persona", null=True, on_delete=models.PROTECT, related_name="+")
    persona_version = models.ForeignKey(
        "personas.PersonaVersion", null=True, on_delete=models.PROTECT, related_name="+"
    )
    input_content_id = models.UUIDField(null=True)
    output_content_id = models.UUIDField(null=True)
    partial_id = models.UUIDField(null=True, help_text="what `partial` was sealed as")
    partial = models.BinaryField(null=True, help_text="what had been said when a second passed, sealed")
    used_fallback = models.BooleanField(default=False)
    tries = models.PositiveSmallIntegerField(default=0, help_text="how often it was begun")
    retry_at = models.DateTimeField(null=True, help_text="when it is tried again")
    verdict = models.CharField(max_length=8, blank=True, help_text="of one that a person approves: approved, refused")
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    reused = models.BooleanField(default=False, help_text="taken over from the run that this one repeats")
    failure = models.CharField(max_length=Run.LONGEST_FAILURE, blank=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["position", "item"]
        constraints = [
            models.UniqueConstraint(fields=["team", "run", "position", "item"], name="one_stage_per_place"),
            models.CheckConstraint(
                condition=~Q(state="done") | Q(output_content_id__isnull=False), name="a_done_stage_has_output"
            ),
        ]

    @property
    def waits_for_decision(self) -> bool:
        """Whether its text is shown to members, and none of them has decided."""
        return self.state == self.State.WAITING and not self.verdict and self.has_question

    @property
    def has_question(self) -> bool:
        return self.kind == "approve" and self.input_content_id is not None

    @property
    def was_passed_over(self) -> bool:
        """Whether its condition did not hold, as opposed to a run that ended before it."""
        ended_in_time = bool(self.finished_at or self.reused)
        return self.state == self.State.SKIPPED and bool(self.spec.get("when")) and ended_in_time

    @property
    def number(self) -> int:
        """Its place as people count, from 1."""
        return self.position + 1
