"""The cast: an owner, a member, a stranger. Plain rows, no log entries, no surprises."""

from itertools import count

from django.utils import timezone

from accounts.models import Membership, Plan, Team, User
from accounts.permissions import Role

_number = count(1)


def make_user(*, email: str = "", password: str | None = None, name: str = "", zone: str = "UTC") -> User:
    """Make a person. Without a password (hashing is slow on purpose) sign in with client.force_login."""
    number = next(_number)
    return User.objects.create_user(
        email=email or f"person{number}@example.test", password=password, name=name or f"Person {number}", zone=zone
    )


def make_team(
    *,
    owner: User | None = None,
    name: str = "",
    plan: Plan | None = None,
    is_demo: bool = False,
    zone: str = "UTC",
) -> Team:
    """Make a team with an owner, on the smallest plan."""
    number = next(_number)
    team = Team.objects.create(
        name=name or f"Team {number}",
        slug=f"team-{number}",
        plan=plan or Plan.objects.earliest("position"),
        is_demo=is_demo,
        zone=zone,
        created_at=timezone.now(),
    )
    make_member(team, Role.OWNER, user=owner)
    return team


def make_member(team: Team, role: Role | str = Role.MEMBER, *, user: User | None = None) -> User:
    """Make a person who has a role in a team."""
    user = user or make_user()
    Membership.objects.create(team=team, user=user, role=role)
    return user


def make_stranger() -> User:
    """Make a person who owns a team of their own, which is no business of yours."""
    stranger = make_user()
    make_team(owner=stranger)
    return stranger


def owner_of(team: Team) -> User:
    """Return a team's owner."""
    return team.memberships.filter(role=Role.OWNER).earliest("created_at").user
