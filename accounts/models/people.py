"""People and the teams they are members of."""

import unicodedata

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models import Q

from accounts.permissions import Permission, Role, allows
from audit.ids import uuid7


def canonical_email(text: str) -> str:
    """Return the one spelling of an address: every lookup, counter and unique index uses it."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).strip()


class UserManager(BaseUserManager):
    def create_user(self, *, email: str, password: str | None = None, name: str = "", zone: str = "UTC") -> "User":
        """Make an account; without a password it can sign in by link or reset only."""
        user = self.model(email=canonical_email(email), name=name, zone=zone)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def get_by_natural_key(self, email: str) -> "User":
        """Find an account by any spelling of its address."""
        return self.get(email=canonical_email(email))


class User(AbstractBaseUser):
    """A person. The e-mail address is the login name."""

    class Theme(models.TextChoices):
        SYSTEM = "system", "Same as the system"
        LIGHT = "light", "Light"
        DARK = "dark", "Dark"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(unique=True, error_messages={"unique": "This address has an account already."})
    name = models.CharField(max_length=80, blank=True)
    zone = models.CharField(max_length=64, default="UTC", help_text="IANA name")
    theme = models.CharField(max_length=6, choices=Theme, default=Theme.SYSTEM)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    date_joined = models.DateTimeField(auto_now_add=True)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = []

    objects = UserManager()

    def __str__(self) -> str:
        return self.name or self.email

    def clean(self) -> None:
        self.email = canonical_email(self.email)


class Team(models.Model):
    """The tenant: everything else belongs to exactly one."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=60)
    slug = models.SlugField(max_length=50, unique=True)
    zone = models.CharField(max_length=64, default="UTC", help_text="IANA name; reports use it")
    is_demo = models.BooleanField(default=False)
    plan = models.ForeignKey("accounts.Plan", on_delete=models.PROTECT, related_name="teams")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name


class TeamStart(models.Model):
    """Somebody made a team of their own from this network. Kept for a day, to count by."""

    network = models.CharField(max_length=50)
    at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.network


class Membership(models.Model):
    """One person in one team, with a role."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=8, choices=Role)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "user"], name="one_membership_per_person"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.role}"

    def allows(self, permission: Permission) -> bool:
        """Say whether this member may do something."""
        return allows(self.role, permission)


class InvitationQuerySet(models.QuerySet):
    def pending(self, now) -> "InvitationQuerySet":
        """Those whose link still works."""
        return self.filter(accepted_at=None, revoked_at=None, expires_at__gt=now)

    def open(self) -> "InvitationQuerySet":
        """Those nobody accepted or revoked, expired ones included."""
        return self.filter(accepted_at=None, revoked_at=None)


class Invitation(models.Model):
    """A link that makes whoever opens it a member, once. Only a hash of its token is kept."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="invitations")
    role = models.CharField(max_length=8, choices=Role)
    email = models.EmailField(blank=True, help_text="only this address may accept; empty: whoever has the link")
    token_sha256 = models.CharField(max_length=64, db_index=True)
    invited_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True)
    accepted_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    revoked_at = models.DateTimeField(null=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["team", "token_sha256"], name="one_invitation_per_token"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="invitation_role_known"),
            models.CheckConstraint(
                condition=Q(accepted_at=None, accepted_by=None)
                | Q(accepted_at__isnull=False, accepted_by__isnull=False),
                name="invitation_accepted_at_and_by_go_together",
            ),
            models.CheckConstraint(
                condition=Q(accepted_at=None) | Q(revoked_at=None), name="invitation_accepted_or_revoked"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.email}"


class OneTimeLink(models.Model):
    """A link that signs somebody in, or sets up the first owner, once. Only a hash of its token is kept."""

    class Purpose(models.TextChoices):
        SIGN_IN = "sign_in", "Sign in"
        FIRST_OWNER = "first_owner", "First owner"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    purpose = models.CharField(max_length=11, choices=Purpose)
    user = models.ForeignKey(User, on_delete=models.CASCADE, null=True, related_name="one_time_links")
    token_sha256 = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(purpose="sign_in", user__isnull=False) | Q(purpose="first_owner", user=None),
                name="only_sign_in_links_name_a_person",
            ),
        ]

    def __str__(self) -> str:
        return self.purpose
