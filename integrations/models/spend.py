"""What calls took, added up by day, and which days are to be added up anew."""

from django.db import models


class SpendDay(models.Model):
    """
    What the ended calls of one day of a team took together: a row for each thing they can be told apart by.

    A day is one of the team's own zone, by when a call began. Made from the calls alone (`integrations.rollups`).
    """

    id = models.BigAutoField(primary_key=True)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="spend_days")
    day = models.DateField()
    connection_id = models.UUIDField()
    persona_id = models.UUIDField(null=True)
    persona_name = models.CharField(max_length=120, blank=True)
    flow_id = models.UUIDField(null=True)
    actor_id = models.CharField(max_length=80)
    actor_name = models.CharField(max_length=254)
    tool = models.CharField(max_length=80)
    asked = models.CharField(max_length=200, blank=True, help_text="the model that was asked for")
    model = models.CharField(max_length=200, blank=True, help_text="that answered, or was asked for where none did")
    provider = models.CharField(max_length=80, blank=True)
    calls = models.PositiveIntegerField()
    failed = models.PositiveIntegerField()
    unknown = models.PositiveIntegerField(help_text="calls of which nobody knows yet what they took")
    cost_usd = models.DecimalField(max_digits=20, decimal_places=12)
    credits = models.PositiveIntegerField(help_text="platform credits charged")
    tokens_in = models.PositiveBigIntegerField()
    tokens_out = models.PositiveBigIntegerField()
    longest = models.PositiveBigIntegerField(help_text="tokens in and out of the longest call")

    class Meta:
        indexes = [models.Index(fields=["team", "day"], name="spend_team_day")]


class SpendChange(models.Model):
    """A call ended or was settled: its day is to be added up anew. Written by a trigger of the calls' table."""

    id = models.BigAutoField(primary_key=True)
    # No constraint: it would lock the team's row for each call.
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="+", db_constraint=False)
    started_at = models.DateTimeField(help_text="of the call")
