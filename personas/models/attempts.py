"""What was tried to get one answer, and which models are left in peace for now."""

from django.db import models

from audit.ids import uuid7


class Attempt(models.Model):
    """
    One step of the attempt ledger: a model that was asked, or passed over, and why the next one came.

    An attempt without a call asked nobody: its model was cooling down, did not fit, or was refused.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="attempts")
    run = models.ForeignKey("personas.Run", on_delete=models.CASCADE, related_name="attempts")
    stage = models.ForeignKey("personas.StageRun", on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveSmallIntegerField(help_text="counts on over all tries of its stage, from 1")
    model = models.CharField(max_length=200, blank=True)
    call_id = models.UUIDField(null=True)
    outcome = models.CharField(max_length=40, help_text="done, cooling_down, does_not_fit, or how the call failed")
    waited_ms = models.PositiveIntegerField(default=0, help_text="waited before it, for a rate limit or as jitter")
    next_step = models.CharField(max_length=300, blank=True, help_text="what was decided after it, in words")
    cost_usd = models.DecimalField(max_digits=20, decimal_places=12, null=True)
    rehearsed = models.BooleanField(default=False, help_text="a pretended failure: nobody was asked")
    at = models.DateTimeField()

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["team", "stage", "number"], name="one_attempt_per_number")]


class Cooldown(models.Model):
    """How long a model is left in peace on one connection, for all workers. Decided by personas.cooldown."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="cooldowns")
    connection = models.ForeignKey("integrations.Connection", on_delete=models.CASCADE, related_name="cooldowns")
    model = models.CharField(max_length=200)
    until = models.DateTimeField(null=True, help_text="null: it may be asked")
    failures = models.PositiveSmallIntegerField(default=0, help_text="in a row")
    outcome = models.CharField(max_length=40, blank=True, help_text="how it failed last")
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "connection", "model"], name="one_cooldown_per_model")]
