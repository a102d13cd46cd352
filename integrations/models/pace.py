"""How fast calls come."""

from django.db import models


class Pace(models.Model):
    """
    When the next call of one subject would be on time, for the rate limits of integrations.pace.

    The table is not logged: a crash of the database forgets at most a minute of calls.
    """

    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="+")
    subject = models.CharField(max_length=120, help_text="team, or a kind and an id: member:…, persona:…, tool:…")
    due_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "subject"], name="one_pace_per_subject")]
