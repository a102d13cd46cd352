"""Members' way to a provider and back, to let us have a key."""

from datetime import timedelta

from django.conf import settings
from django.db import models

from audit.ids import uuid7

LIFETIME = timedelta(minutes=10)  # how long the provider lets a code be used


class Consent(models.Model):
    """One way to a provider: from the moment a member sets out until there is a connection, or will be none."""

    class State(models.TextChoices):
        WAITING = "waiting"  # for the member to come back with a code
        ANSWERED = "answered"  # for a worker to exchange the code
        ASKING = "asking"  # a worker is at it; never tried twice, since a code is good for one try
        DONE = "done"
        DENIED = "denied"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="consents")
    integration = models.CharField(max_length=40)
    label = models.CharField(max_length=80, help_text="of the connection to be")
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    reason = models.CharField(max_length=300, blank=True, help_text="why there will be no connection")
    challenge = models.CharField(max_length=43, help_text="S256 of the verifier, RFC 7636")
    verifier_sealed = models.BinaryField(null=True, help_text="to the workers' public key; gone once used")
    code_sealed = models.BinaryField(null=True, help_text="to the workers' public key; gone once used")
    connection = models.ForeignKey("integrations.Connection", null=True, on_delete=models.CASCADE, related_name="+")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    changed_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(
                fields=["changed_at"],
                condition=models.Q(state__in=("waiting", "answered", "asking")),
                name="consents_under_way",
            )
        ]

    @property
    def is_under_way(self) -> bool:
        return self.state in (self.State.ANSWERED, self.State.ASKING)
