"""People, teams and plans."""

from accounts.models.people import (
    Invitation,
    Membership,
    OneTimeLink,
    Team,
    TeamStart,
    User,
    canonical_email,
)
from accounts.models.plans import CreditAccount, CreditEntry, Pack, Plan

__all__ = [
    "CreditAccount",
    "CreditEntry",
    "Invitation",
    "Membership",
    "OneTimeLink",
    "Pack",
    "Plan",
    "Team",
    "TeamStart",
    "User",
    "canonical_email",
]
