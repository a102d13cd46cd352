"""Reads that several callers share."""

from datetime import datetime

from django.db.models import QuerySet

from accounts.models import Invitation, Membership, OneTimeLink, User
from accounts.permissions import Role, may_grant
from accounts.tokens import fingerprint


def has_owner() -> bool:
    """Say whether anybody owns a team here."""
    return Membership.objects.filter(role=Role.OWNER).exists()


def memberships_of(user: User) -> QuerySet[Membership]:
    """Return a person's memberships with team and plan, in the order of the team switcher."""
    return user.memberships.select_related("team__plan").order_by("team__name", "team_id")


def live_links(*, purpose: OneTimeLink.Purpose, token: str, at: datetime) -> QuerySet[OneTimeLink]:
    """Return the links, one or none, that this token can still use."""
    return OneTimeLink.objects.filter(purpose=purpose, token_sha256=fingerprint(token), used_at=None, expires_at__gt=at)


def acceptable_invitation(*, token: str, at: datetime) -> Invitation | None:
    """Return the invitation that this token can still accept."""
    pending = Invitation.objects.pending(at).select_related("team", "invited_by")
    invitation = pending.filter(token_sha256=fingerprint(token)).first()
    return invitation if invitation and _inviter_still_may(invitation) else None


def _inviter_still_may(invitation: Invitation) -> bool:
    """An invitation is worth what its sender holds now, not what they held then."""
    sender = invitation.team.memberships.filter(user=invitation.invited_by_id, user__is_active=True).first()
    return sender is not None and may_grant(sender.role, invitation.role)
