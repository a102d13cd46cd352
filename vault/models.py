"""What the vault keeps. Every key in these tables is wrapped by another; the roots lie outside, in files."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from audit.ids import uuid7

REVOKED_TOGETHER = Q(revoked_at=None, revoked_by=None) | Q(revoked_at__isnull=False, revoked_by__isnull=False)
CONTENT_KEY_USES = 2**30  # a quarter of what NIST SP 800-38D allows random 96-bit nonces


class LiveQuerySet(models.QuerySet):
    """Rows that can be revoked."""

    def live(self) -> "LiveQuerySet":
        """Leave out what was revoked."""
        return self.filter(revoked_at=None)


class TeamKey(models.Model):
    """A team's key for one purpose, wrapped by a root key. It wraps or signs; it never seals data itself."""

    class Purpose(models.TextChoices):
        CREDENTIAL = "credential"
        CONTENT = "content"
        MAC = "mac"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="keys")
    purpose = models.CharField(max_length=10, choices=Purpose)
    version = models.PositiveSmallIntegerField(default=1)
    root_key = models.UUIDField(help_text="the root key that wraps this one; it lies in a file")
    wrapped = models.BinaryField()
    check_value = models.BinaryField(max_length=16)
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, help_text="a retired key still opens, but wraps nothing new")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "purpose", "version"], name="one_team_key_per_version"),
        ]


class ContentKey(models.Model):
    """The key for what one subject said in one month. Destroying it erases that content everywhere."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="content_keys")
    team_key = models.ForeignKey(TeamKey, on_delete=models.CASCADE, related_name="content_keys")
    subject = models.UUIDField(help_text="what an erasure would name: a persona or a user")
    month = models.DateField()
    number = models.PositiveSmallIntegerField(default=1, help_text="counts on when the key before is used up")
    uses = models.PositiveBigIntegerField(default=0, help_text="encryptions handed out to processes so far")
    wrapped = models.BinaryField()
    check_value = models.BinaryField(max_length=16)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "subject", "month", "number"], name="one_content_key_per_month"),
            models.CheckConstraint(condition=Q(uses__lte=CONTENT_KEY_USES), name="content_key_is_not_overused"),
        ]


class Credential(models.Model):
    """A provider key that a team has lent us. What can be shown of it is here; the key itself is in its versions."""

    class Kind(models.TextChoices):
        API_KEY = "api_key", "API key"
        MANAGEMENT = "management", "Management key"

    class State(models.TextChoices):
        POSTED = "posted"  # sealed by the web process; a worker has not taken it over yet
        READY = "ready"
        REVOKED = "revoked"
        UNREADABLE = "unreadable"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="credentials")
    kind = models.CharField(max_length=10, choices=Kind)
    label = models.CharField(max_length=80)
    state = models.CharField(max_length=10, choices=State, default=State.POSTED)
    prefix = models.CharField(max_length=12)
    last_four = models.CharField(max_length=4)
    fingerprint = models.CharField(max_length=64, blank=True, help_text="keyed; recognises a key without opening it")
    current_version = models.PositiveIntegerField(default=1)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    revoked_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    objects = LiveQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "label"], condition=Q(revoked_at=None), name="one_live_credential_per_label"
            ),
            models.CheckConstraint(condition=REVOKED_TOGETHER, name="credential_revoked_at_and_by_go_together"),
            models.CheckConstraint(
                condition=Q(state="revoked", revoked_at__isnull=False)
                | (~Q(state="revoked") & Q(revoked_at__isnull=True)),
                name="credential_state_tells_revocation",
            ),
        ]

    def __str__(self) -> str:
        return self.label

    @property
    def is_live(self) -> bool:
        """Whether it was never revoked. Only a live credential in state `ready` can be opened."""
        return self.revoked_at is None


class CredentialVersion(models.Model):
    """One value of a credential, under a data key of its own."""

    class State(models.TextChoices):
        POSTED = "posted"
        ACTIVE = "active"
        RETIRED = "retired"  # destroyed: neither key nor ciphertext is left

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="credential_versions")
    credential = models.ForeignKey(Credential, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.POSTED)
    posted_sealed = models.BinaryField(null=True, help_text="to the workers' public key; gone once adopted")
    team_key = models.ForeignKey(TeamKey, null=True, on_delete=models.CASCADE, related_name="credential_versions")
    data_key_id = models.UUIDField(null=True)
    data_key_wrapped = models.BinaryField(null=True)
    data_key_check = models.BinaryField(null=True, max_length=16)
    ciphertext = models.BinaryField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "credential", "number"], name="one_version_per_number"),
            models.CheckConstraint(
                condition=Q(
                    state="posted", posted_sealed__isnull=False, data_key_wrapped__isnull=True, ciphertext__isnull=True
                )
                | Q(
                    state="active",
                    posted_sealed__isnull=True,
                    team_key__isnull=False,
                    data_key_id__isnull=False,
                    data_key_wrapped__isnull=False,
                    data_key_check__isnull=False,
                    ciphertext__isnull=False,
                )
                | Q(
                    state="retired", posted_sealed__isnull=True, data_key_wrapped__isnull=True, ciphertext__isnull=True
                ),
                name="version_holds_what_its_state_says",
            ),
        ]


class Grant(models.Model):
    """Leave for a holder to use a connection. Who holds and what is connected is decided above the vault."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey("accounts.Team", on_delete=models.CASCADE, related_name="grants")
    holder = models.UUIDField()
    connection = models.UUIDField()
    scopes = models.JSONField(default=dict, help_text="read by the integrations, not by the vault")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    revoked_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    objects = LiveQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["team", "holder", "connection"], condition=Q(revoked_at=None), name="one_live_grant"
            ),
            models.CheckConstraint(condition=REVOKED_TOGETHER, name="grant_revoked_at_and_by_go_together"),
        ]

    @property
    def is_live(self) -> bool:
        """Whether it was never revoked."""
        return self.revoked_at is None
