"""Connections that a team lends its personas."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.functional import cached_property

from audit.ids import uuid7
from integrations.registry import Integration, get_integration


class ConnectionQuerySet(models.QuerySet):
    def live(self) -> "ConnectionQuerySet":
        """Connections that may be used, or may be once they are tested."""
        return self.exclude(state=Connection.State.REVOKED)


class Connection(models.Model):
    """A team's account at an integration's provider, reached with one credential."""

    class State(models.TextChoices):
        PENDING = "pending", "Testing"
        READY = "ready", "Ready"
        REFUSED = "refused", "Key refused"
        UNREACHABLE = "unreachable", "Not reached yet"
        UNREADABLE = "unreadable", "Cannot be read, reconnect"
        REVOKED = "revoked", "Revoked"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="connections")
    integration = models.CharField(max_length=40)
    label = models.CharField(max_length=80)
    credential = models.ForeignKey("vault.Credential", on_delete=models.PROTECT, related_name="connections")
    state = models.CharField(max_length=12, choices=State, default=State.PENDING)
    state_reason = models.CharField(max_length=300, blank=True)
    account = models.JSONField(default=dict, help_text="whose key it is, as the provider says")
    reach = models.JSONField(default=dict, help_text="tool name -> empty when usable, else why not")
    calls_at_once = models.PositiveSmallIntegerField(null=True, help_text="calls on their way at one time; none: any")
    test_wanted_at = models.DateTimeField(null=True, help_text="a worker is to test the key")
    tested_at = models.DateTimeField(null=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()

    objects = ConnectionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "integration", "label"],
                condition=~Q(state="revoked"),
                name="one_live_connection_per_label",
            )
        ]

    @cached_property
    def provider(self) -> Integration:
        """The integration this connection belongs to."""
        return get_integration(self.integration)

    @property
    def is_live(self) -> bool:
        return self.state != self.State.REVOKED

    def can_use(self, tool: str) -> bool:
        """Whether the last test says this key reaches the tool."""
        return self.state == self.State.READY and self.reach.get(tool) == ""
