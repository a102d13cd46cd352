"""Teams and the people in them. Each change writes its log entry in the same transaction."""

from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils.text import slugify

from accounts import credits
from accounts.models import Invitation, Membership, OneTimeLink, Pack, Plan, Team, User, canonical_email
from accounts.permissions import Role, may_grant
from accounts.queries import acceptable_invitation, has_owner, live_links
from accounts.tokens import fingerprint, new_token
from audit.actions import Actor, record

INVITATION_LASTS = timedelta(minutes=30)
SIGN_IN_LINK_LASTS = timedelta(minutes=15)
FIRST_OWNER_LINK_LASTS = timedelta(hours=24)


class Refused(Exception):
    """A change of people that cannot be made. The text says why and what to do."""


class MayNotGrant(Refused):
    """The person holds less than they would give or take away."""

    def __init__(self, role: str) -> None:
        article = "an" if role[:1] in "ao" else "a"
        super().__init__(f"Your role cannot make or change {article} {role}. Ask an owner of the team.")


class LastOwner(Refused):
    """A team keeps at least one owner."""

    def __init__(self) -> None:
        super().__init__("This is the team's last owner. Make somebody else an owner first.")


class NotAMember(Refused):
    """The person has left the team meanwhile."""

    def __init__(self) -> None:
        super().__init__("This person is no longer a member. Reload the list to see who is.")


class AlreadyMember(Refused):
    """The person is in the team already."""

    def __init__(self) -> None:
        super().__init__("You are a member of this team already. Nothing changed.")


class InvitationGone(Refused):
    """Nobody can use this invitation: accepted, revoked, expired, or never made."""

    def __init__(self) -> None:
        super().__init__("This invitation was used, revoked or is too old. Ask whoever sent it for a new link.")


class OtherPerson(Refused):
    """The invitation names an address that is not this person's."""

    def __init__(self) -> None:
        super().__init__("This invitation is for another address. Sign in with that one, or ask for a new link.")


class LinkGone(Refused):
    """Nobody can use this one-time link: used, expired, or never made."""

    def __init__(self) -> None:
        super().__init__("This link was used or is too old. Make a new one where this one was made.")


class NoDemo(Refused):
    """One-time sign-in links are for members of a demo team only."""

    def __init__(self) -> None:
        super().__init__("Sign-in links work for members of a demo team only. Sign in with e-mail and password.")


class OwnerExists(Refused):
    """The installation has an owner, so it is set up."""

    def __init__(self) -> None:
        super().__init__("This installation has an owner already. Sign in, or ask an owner for an invitation.")


# --- teams ------------------------------------------------------------------------------


@transaction.atomic
def create_team(
    *, name: str, owner: User, at: datetime, zone: str = "UTC", plan: Plan | None = None, is_demo: bool = False
) -> Team:
    """Make a team with its first owner and this month's platform credits, on the smallest plan by default."""
    plan = plan or Plan.objects.earliest("position")
    team = Team.objects.create(name=name, slug=_free_slug(name), zone=zone, plan=plan, is_demo=is_demo, created_at=at)
    Membership.objects.create(team=team, user=owner, role=Role.OWNER)
    credits.open_period(team=team)
    _record("accounts.team.created", team, owner, at, target=f"team:{team.pk}", target_name=team.name)
    return team


@transaction.atomic
def change_team(*, team: Team, name: str, zone: str, by: User, at: datetime) -> None:
    """Change what a team is called and which zone its reports use. Its address stays."""
    Team.objects.filter(pk=team.pk).update(name=name, zone=zone)
    details = {"name": [team.name, name], "zone": [team.zone, zone]}
    _record("accounts.team.changed", team, by, at, target=f"team:{team.pk}", target_name=name, details=details)


def _free_slug(name: str) -> str:
    # One at a time: two teams of one name would otherwise pick one slug.
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('accounts.team.slug'))")
    base = slugify(name)[:40].strip("-") or "team"
    taken = set(Team.objects.filter(slug__startswith=base).values_list("slug", flat=True))
    numbered = (f"{base}-{number}" for number in count(2))
    return base if base not in taken else next(slug for slug in numbered if slug not in taken)


# --- plans ------------------------------------------------------------------------------


class SamePlan(Refused):
    """The team is on this plan already."""

    def __init__(self) -> None:
        super().__init__("The team is on this plan already. Nothing changed.")


class PackAdded(Refused):
    """This very pack was added before: the form was sent twice."""

    def __init__(self) -> None:
        super().__init__("This pack was added already, once. To add another one, open the Plan page again.")


@transaction.atomic
def change_plan(*, team: Team, plan: Plan, by: Actor, at: datetime) -> None:
    """
    Put a team on another plan.

    More platform credits, and the plan's price rule, count at once; fewer from the next month. Raises SamePlan.
    """
    if not Team.objects.filter(pk=team.pk).exclude(plan=plan).update(plan=plan):
        raise SamePlan
    before, team.plan = team.plan, plan
    credits.open_period(team=team)
    details = {"from": before.key, "to": plan.key}
    target = f"team:{team.pk}"
    record(
        "accounts.plan.changed", actor=by, team_id=team.pk, at=at, target=target, target_name=plan.name, details=details
    )


@transaction.atomic
def add_pack(*, team: Team, pack: Pack, by: Actor, at: datetime, key: UUID) -> None:
    """
    Add a pack to this month. `key` is the line's id, new for every pack that is wanted.

    Raises PackAdded for a key that was used before, and credits.Full.
    """
    if not credits.add_pack(team=team, pack=pack, key=key):
        raise PackAdded
    details = {"pack": pack.key}
    target = f"team:{team.pk}"
    record(
        "accounts.pack.added",
        actor=by,
        team_id=team.pk,
        at=at,
        target=target,
        target_name=pack.name,
        credits=pack.credits,
        details=details,
    )


# --- members ----------------------------------------------------------------------------


@transaction.atomic
def change_role(*, membership: Membership, role: str, by: User, at: datetime) -> None:
    """
    Give a member another role.

    Raises MayNotGrant, LastOwner, NotAMember.
    """
    target, mine = _locked(membership, by)
    _check_may_grant(mine, role)
    _check_may_grant(mine, target.role)
    if role != Role.OWNER:
        _check_not_last_owner(target)
    Membership.objects.filter(pk=target.pk).update(role=role)
    details = {"from": target.role, "to": role}
    _record_member("accounts.member.role_changed", target, by, at, details)
    membership.role = role


@transaction.atomic
def remove_member(*, membership: Membership, by: User, at: datetime) -> None:
    """
    End a membership. The person's next request to the team is answered with 404.

    Raises MayNotGrant, LastOwner, NotAMember.
    """
    target, mine = _locked(membership, by)
    _check_may_grant(mine, target.role)
    _check_not_last_owner(target)
    Membership.objects.filter(pk=target.pk).delete()
    _record_member("accounts.member.removed", target, by, at, {"role": target.role})


def _locked(membership: Membership, by: User) -> tuple[Membership, Membership]:
    """Return the membership and the actor's own as they are now, with nobody else changing the team's people."""
    _lock_people(membership.team_id)
    rows = Membership.objects.select_related("user").filter(team_id=membership.team_id)
    target = rows.filter(pk=membership.pk).first()
    mine = rows.filter(user=by).first()
    if target is None or mine is None:
        raise NotAMember
    return target, mine


def _lock_people(team_id: UUID) -> None:
    # One lock per team, so that two tabs cannot each remove "the other" owner.
    # no_key: rows that point at the team may still be written meanwhile.
    Team.objects.select_for_update(no_key=True).get(pk=team_id)


def _check_may_grant(mine: Membership, role: str) -> None:
    if not may_grant(mine.role, role):
        raise MayNotGrant(role)


def _check_not_last_owner(target: Membership) -> None:
    others = Membership.objects.filter(team_id=target.team_id, role=Role.OWNER, user__is_active=True)
    if target.role == Role.OWNER and not others.exclude(pk=target.pk).exists():
        raise LastOwner


# --- invitations ------------------------------------------------------------------------


@transaction.atomic
def invite_member(*, team: Team, role: str, by: User, at: datetime, email: str = "") -> tuple[Invitation, str]:
    """
    Make a link that lets one person join, and return it with its token: the only time it is known.

    With an address only that person may accept. Raises MayNotGrant, NotAMember.
    """
    _check_may_invite(team.pk, by, role)
    token = new_token()
    invitation = Invitation.objects.create(
        team=team,
        role=role,
        email=canonical_email(email),
        token_sha256=fingerprint(token),
        invited_by=by,
        created_at=at,
        expires_at=at + INVITATION_LASTS,
    )
    _record_invitation("accounts.member.invited", invitation, by, at)
    return invitation, token


@transaction.atomic
def renew_invitation(*, invitation: Invitation, by: User, at: datetime) -> str:
    """
    Replace an open invitation's link by a fresh one and return its token; the old link stops working.

    Raises MayNotGrant, NotAMember, InvitationGone.
    """
    _check_may_invite(invitation.team_id, by, invitation.role)
    token = new_token()
    fresh = {"token_sha256": fingerprint(token), "invited_by": by, "expires_at": at + INVITATION_LASTS}
    if not Invitation.objects.open().filter(pk=invitation.pk).update(**fresh):
        raise InvitationGone
    invitation.expires_at = fresh["expires_at"]
    _record_invitation("accounts.invitation.renewed", invitation, by, at)
    return token


@transaction.atomic
def revoke_invitation(*, invitation: Invitation, by: User, at: datetime) -> None:
    """
    Make an invitation's link useless.

    Raises InvitationGone when it was accepted or revoked first.
    """
    if not Invitation.objects.open().filter(pk=invitation.pk).update(revoked_at=at):
        raise InvitationGone
    _record_invitation("accounts.invitation.revoked", invitation, by, at)


@transaction.atomic
def accept_invitation(*, token: str, user: User, at: datetime) -> Membership:
    """
    Join the team that the token invites to.

    Raises InvitationGone, OtherPerson, AlreadyMember; the link then still works for whom it is meant.
    """
    invitation = acceptable_invitation(token=token, at=at)
    if invitation is None:
        raise InvitationGone
    if invitation.email and invitation.email != user.email:
        raise OtherPerson
    # The conditional UPDATE decides between two people who open one link at once.
    if not Invitation.objects.pending(at).filter(pk=invitation.pk).update(accepted_at=at, accepted_by=user):
        raise InvitationGone
    membership, made = Membership.objects.get_or_create(
        team=invitation.team, user=user, defaults={"role": invitation.role}
    )
    if not made:
        raise AlreadyMember
    _record_member("accounts.member.joined", membership, user, at, {"role": membership.role})
    return membership


def _check_may_invite(team_id: UUID, by: User, role: str) -> None:
    mine = Membership.objects.filter(team_id=team_id, user=by).select_for_update().first()
    if mine is None:
        raise NotAMember
    _check_may_grant(mine, role)


# --- one-time links ---------------------------------------------------------------------


def make_sign_in_link(*, user: User, at: datetime) -> str:
    """
    Return the token of a link that signs this person in, once, within 15 minutes.

    Raises NoDemo unless the person is in a demo team.
    """
    if not user.memberships.filter(team__is_demo=True).exists():
        raise NoDemo
    return _make_link(OneTimeLink.Purpose.SIGN_IN, user, at, SIGN_IN_LINK_LASTS)


@transaction.atomic
def use_sign_in_link(*, token: str, at: datetime) -> User:
    """
    Use up a sign-in link and return whom it is for.

    Raises LinkGone. Of two tries at once, one wins.
    """
    links = live_links(purpose=OneTimeLink.Purpose.SIGN_IN, token=token, at=at).filter(
        user__is_active=True, user__memberships__team__is_demo=True
    )
    link = links.select_related("user").first()
    if link is None or not OneTimeLink.objects.filter(pk=link.pk, used_at=None).update(used_at=at):
        raise LinkGone
    record(
        "accounts.sign_in_link.used",
        actor=Actor.user(link.user),
        team_id=None,
        at=at,
        target=f"user:{link.user_id}",
        target_name=link.user.email,
    )
    return link.user


@transaction.atomic
def make_first_owner_link(*, at: datetime) -> str:
    """
    Return the token of the page that makes the first owner. Earlier tokens stop working.

    Raises OwnerExists.
    """
    if has_owner():
        raise OwnerExists
    OneTimeLink.objects.filter(purpose=OneTimeLink.Purpose.FIRST_OWNER, used_at=None).delete()
    return _make_link(OneTimeLink.Purpose.FIRST_OWNER, None, at, FIRST_OWNER_LINK_LASTS)


@transaction.atomic
def set_up_first_owner(
    *, token: str, email: str, password: str, name: str, team_name: str, zone: str, at: datetime
) -> User:
    """
    Make the installation's first account and team.

    Raises LinkGone, OwnerExists.
    """
    link = live_links(purpose=OneTimeLink.Purpose.FIRST_OWNER, token=token, at=at).first()
    if link is None or not OneTimeLink.objects.filter(pk=link.pk, used_at=None).update(used_at=at):
        raise LinkGone
    if has_owner():
        raise OwnerExists
    user = User.objects.create_user(email=email, password=password, name=name, zone=zone)
    create_team(name=team_name, owner=user, at=at, zone=zone)
    return user


def _make_link(purpose: OneTimeLink.Purpose, user: User | None, at: datetime, lasts: timedelta) -> str:
    token = new_token()
    OneTimeLink.objects.create(
        purpose=purpose, user=user, token_sha256=fingerprint(token), created_at=at, expires_at=at + lasts
    )
    return token


# --- the person -------------------------------------------------------------------------


@transaction.atomic
def change_password(*, user: User, password: str) -> None:
    """Set a password. Every other session of this person ends with their next request."""
    user.set_password(password)
    user.save(update_fields=["password"])
    record(
        "accounts.password.changed",
        actor=Actor.user(user),
        team_id=None,
        target=f"user:{user.pk}",
        target_name=user.email,
    )


# --- the log ----------------------------------------------------------------------------


def _record(action: str, team: Team, by: User, at: datetime, **fields: Any) -> None:
    record(action, actor=Actor.user(by), team_id=team.pk, at=at, **fields)


def _record_member(action: str, target: Membership, by: User, at: datetime, details: dict) -> None:
    record(
        action,
        actor=Actor.user(by),
        team_id=target.team_id,
        at=at,
        target=f"user:{target.user_id}",
        target_name=target.user.email,
        details=details,
    )


def _record_invitation(action: str, invitation: Invitation, by: User, at: datetime) -> None:
    record(
        action,
        actor=Actor.user(by),
        team_id=invitation.team_id,
        at=at,
        target=f"invitation:{invitation.pk}",
        target_name=invitation.email,
        details={"role": invitation.role},
    )
