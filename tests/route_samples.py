"""
One real object of a team for every id that a team's page takes from its address.

Key: the name of the URL's argument; where one name means several things, "<noun>.<argument>" with
the first word of the page's name. The value makes an object in the team and returns its id.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from accounts.models import Invitation, Team
from accounts.permissions import Role
from tests.factories import make_member, owner_of


def a_membership(team: Team) -> UUID:
    member = make_member(team, Role.MEMBER)
    return team.memberships.get(user=member).pk


def an_invitation(team: Team) -> UUID:
    now = timezone.now()
    return Invitation.objects.create(
        team=team,
        role=Role.MEMBER,
        token_sha256="0" * 64,
        invited_by=owner_of(team),
        created_at=now,
        expires_at=now + timedelta(minutes=30),
    ).pk


SAMPLES: dict[str, Callable[[Team], Any]] = {
    "membership_id": a_membership,
    "invitation_id": an_invitation,
}

# Names that mean the same for every team, so that nobody's is foreign.
NOBODYS: dict[str, Any] = {}


def sample(page: str, argument: str, team: Team) -> Any:
    """Return a value of that argument which leads to something of the team's."""
    if argument in NOBODYS:
        return NOBODYS[argument]
    noun = page.partition("_")[0]
    make = SAMPLES.get(f"{noun}.{argument}") or SAMPLES[argument]
    return make(team)
