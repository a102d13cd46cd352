from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection

from accounts import actions
from accounts.models import Invitation, Membership, Team
from accounts.permissions import Role
from audit.clock import app_now
from audit.models import Event
from tests.factories import make_member, make_team, make_user, owner_of

pytestmark = pytest.mark.django_db


def events() -> list[tuple]:
    return list(Event.objects.order_by("at", "id").values_list("action", "actor_name", "target_name", "details"))


def membership(team: Team, user) -> Membership:
    return Membership.objects.get(team=team, user=user)


# --- teams ------------------------------------------------------------------------------


def test_a_new_team_has_an_owner_platform_credits_and_a_log_entry():
    owner = make_user(email="owner@example.test")

    team = actions.create_team(name="Night shift", owner=owner, at=app_now(), zone="Europe/Berlin")

    assert (team.slug, team.zone, team.is_demo) == ("night-shift", "Europe/Berlin", False)
    assert membership(team, owner).role == "owner"
    assert team.credit_accounts.get().granted == team.plan.monthly_credits == 5_000
    assert events() == [("accounts.team.created", "owner@example.test", "Night shift", {})]


def test_teams_of_one_name_get_different_addresses():
    owner = make_user()

    slugs = [
        actions.create_team(name=name, owner=owner, at=app_now()).slug for name in ("Ops", "OPS!", "ops", "部", "!")
    ]

    assert slugs == ["ops", "ops-2", "ops-3", "team", "team-2"]


def test_changing_a_team_keeps_its_address_and_says_what_it_was():
    team = make_team(name="Old")
    owner = owner_of(team)

    actions.change_team(team=team, name="New", zone="Asia/Tokyo", by=owner, at=app_now())

    changed = Team.objects.get(pk=team.pk)
    assert (changed.name, changed.zone, changed.slug) == ("New", "Asia/Tokyo", team.slug)
    assert events()[0][3] == {"name": ["Old", "New"], "zone": ["UTC", "Asia/Tokyo"]}


# --- roles ------------------------------------------------------------------------------


def test_a_changed_role_is_logged_with_both_names():
    team = make_team()
    member = make_member(team, Role.MEMBER, user=make_user(email="member@example.test"))
    owner = owner_of(team)

    actions.change_role(membership=membership(team, member), role="builder", by=owner, at=app_now())

    assert membership(team, member).role == "builder"
    assert events() == [
        ("accounts.member.role_changed", owner.email, "member@example.test", {"from": "member", "to": "builder"})
    ]


@pytest.mark.requirement("AUTHZ-5")
@pytest.mark.parametrize(
    ("mine", "theirs", "wanted"),
    [
        ("admin", "member", "owner"),
        ("admin", "owner", "member"),
        ("builder", "member", "builder"),
        ("auditor", "auditor", "admin"),
        ("member", "member", "admin"),
        ("owner", "member", "Owner"),
    ],
)
def test_nobody_grants_more_than_they_hold(mine: str, theirs: str, wanted: str):
    team = make_team()
    me, them = make_member(team, mine), make_member(team, theirs)

    with pytest.raises(actions.MayNotGrant):
        actions.change_role(membership=membership(team, them), role=wanted, by=me, at=app_now())

    assert membership(team, them).role == theirs
    assert events() == []


@pytest.mark.requirement("AUTHZ-5")
def test_an_admin_cannot_promote_themselves():
    team = make_team()
    admin = make_member(team, Role.ADMIN)

    with pytest.raises(actions.MayNotGrant):
        actions.change_role(membership=membership(team, admin), role="owner", by=admin, at=app_now())


@pytest.mark.requirement("AUTHZ-5")
def test_an_owner_of_another_team_grants_nothing_here():
    team, elsewhere = make_team(), make_team()
    member = make_member(team)

    with pytest.raises(actions.NotAMember):
        actions.change_role(membership=membership(team, member), role="admin", by=owner_of(elsewhere), at=app_now())


@pytest.mark.requirement("AUTHZ-5")
def test_the_last_owner_stays():
    team = make_team()
    owner = owner_of(team)

    with pytest.raises(actions.LastOwner):
        actions.change_role(membership=membership(team, owner), role="member", by=owner, at=app_now())
    with pytest.raises(actions.LastOwner):
        actions.remove_member(membership=membership(team, owner), by=owner, at=app_now())

    assert membership(team, owner).role == "owner"


@pytest.mark.requirement("AUTHZ-5")
def test_an_owner_who_cannot_sign_in_is_no_other_owner():
    team = make_team()
    owner = owner_of(team)
    gone = make_member(team, Role.OWNER)
    type(gone).objects.filter(pk=gone.pk).update(is_active=False)

    with pytest.raises(actions.LastOwner):
        actions.remove_member(membership=membership(team, owner), by=owner, at=app_now())


@pytest.mark.requirement("AUTHZ-5")
@pytest.mark.django_db(transaction=True)
def test_two_tabs_cannot_remove_both_owners():
    team = make_team()
    one, other = owner_of(team), make_member(team, Role.OWNER)
    targets = [membership(team, one), membership(team, other)]
    start = Barrier(2)

    def remove(target: Membership) -> str:
        try:
            start.wait(5)
            actions.remove_member(membership=target, by=target.user, at=app_now())
            return "removed"
        except actions.LastOwner:
            return "refused"
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(remove, targets))

    assert sorted(outcomes) == ["refused", "removed"]
    assert team.memberships.filter(role="owner").count() == 1


def test_removing_somebody_twice_says_so():
    team = make_team()
    gone = membership(team, make_member(team))
    actions.remove_member(membership=gone, by=owner_of(team), at=app_now())

    with pytest.raises(actions.NotAMember):
        actions.remove_member(membership=gone, by=owner_of(team), at=app_now())

    assert [action for action, *_ in events()] == ["accounts.member.removed"]


# --- invitations ------------------------------------------------------------------------


def invite(team: Team, role: str = "member", **fields) -> tuple[Invitation, str]:
    return actions.invite_member(**{"team": team, "role": role, "by": owner_of(team), "at": app_now()} | fields)


@pytest.mark.requirement("AUTH-7")
def test_an_invitation_keeps_a_hash_of_256_random_bits():
    invitation, token = invite(make_team())

    assert len(token) == 43  # 32 bytes in base64
    assert token not in str(Invitation.objects.filter(pk=invitation.pk).values().get())
    assert token not in str(events())


@pytest.mark.requirement("AUTH-7")
def test_an_invitation_works_once():
    team = make_team()
    _, token = invite(team, "builder")
    first, second = make_user(), make_user()

    assert actions.accept_invitation(token=token, user=first, at=app_now()).role == "builder"
    with pytest.raises(actions.InvitationGone):
        actions.accept_invitation(token=token, user=second, at=app_now())

    assert not team.memberships.filter(user=second).exists()
    assert [action for action, *_ in events()] == ["accounts.member.invited", "accounts.member.joined"]


@pytest.mark.requirement("AUTH-7")
@pytest.mark.django_db(transaction=True)
def test_of_two_who_open_one_invitation_at_once_one_joins():
    team = make_team()
    _, token = invite(team)
    people = [make_user(), make_user()]
    start = Barrier(2)

    def accept(user) -> str:
        try:
            start.wait(5)
            actions.accept_invitation(token=token, user=user, at=app_now())
            return "joined"
        except actions.InvitationGone:
            return "refused"
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(accept, people)) == ["joined", "refused"]
    assert team.memberships.count() == 2


@pytest.mark.requirement("AUTH-7")
def test_an_invitation_lasts_thirty_minutes():
    _, token = invite(make_team())
    later = app_now() + timedelta(minutes=30, seconds=1)

    with pytest.raises(actions.InvitationGone):
        actions.accept_invitation(token=token, user=make_user(), at=later)


@pytest.mark.requirement("AUTH-7")
@pytest.mark.parametrize("token", ["", "None", "null", "[]", "0", "undefined", "%", "\x00"])
def test_no_token_is_not_a_token(token: str):
    invite(make_team())

    with pytest.raises(actions.InvitationGone):
        actions.accept_invitation(token=token, user=make_user(), at=app_now())


def test_an_addressed_invitation_is_for_that_person():
    _, token = invite(make_team(), email="Wanted@Example.test")

    with pytest.raises(actions.OtherPerson):
        actions.accept_invitation(token=token, user=make_user(email="other@example.test"), at=app_now())

    wanted = make_user(email="wanted@example.test")
    assert actions.accept_invitation(token=token, user=wanted, at=app_now()).user == wanted


def test_a_member_who_accepts_changes_nothing_and_leaves_the_link():
    team = make_team()
    member = make_member(team, Role.MEMBER)
    _, token = invite(team, "admin")

    with pytest.raises(actions.AlreadyMember):
        actions.accept_invitation(token=token, user=member, at=app_now())

    assert membership(team, member).role == "member"
    assert actions.accept_invitation(token=token, user=make_user(), at=app_now()).role == "admin"


@pytest.mark.requirement("AUTHZ-5", "AUTHZ-6")
@pytest.mark.parametrize("fate", ["demoted", "removed", "switched off"])
def test_an_invitation_is_worth_what_its_sender_holds_now(fate: str):
    team = make_team()
    admin = make_member(team, Role.ADMIN)
    _, token = invite(team, "admin", by=admin)
    if fate == "demoted":
        Membership.objects.filter(user=admin).update(role="member")
    elif fate == "removed":
        Membership.objects.filter(user=admin).delete()
    else:
        type(admin).objects.filter(pk=admin.pk).update(is_active=False)

    with pytest.raises(actions.InvitationGone):
        actions.accept_invitation(token=token, user=make_user(), at=app_now())


@pytest.mark.requirement("AUTHZ-5")
def test_an_admin_cannot_invite_an_owner():
    team = make_team()

    with pytest.raises(actions.MayNotGrant):
        invite(team, "owner", by=make_member(team, Role.ADMIN))

    assert Invitation.objects.count() == 0


def test_a_renewed_link_replaces_the_old_one():
    team = make_team()
    invitation, old = invite(team)

    new = actions.renew_invitation(invitation=invitation, by=owner_of(team), at=app_now())

    with pytest.raises(actions.InvitationGone):
        actions.accept_invitation(token=old, user=make_user(), at=app_now())
    assert actions.accept_invitation(token=new, user=make_user(), at=app_now()).team == team


def test_a_revoked_invitation_is_useless_and_revoking_twice_says_so():
    team = make_team()
    invitation, token = invite(team)
    actions.revoke_invitation(invitation=invitation, by=owner_of(team), at=app_now())

    with pytest.raises(actions.InvitationGone):
        actions.accept_invitation(token=token, user=make_user(), at=app_now())
    with pytest.raises(actions.InvitationGone):
        actions.revoke_invitation(invitation=invitation, by=owner_of(team), at=app_now())
    with pytest.raises(actions.InvitationGone):
        actions.renew_invitation(invitation=invitation, by=owner_of(team), at=app_now())


# --- the log ----------------------------------------------------------------------------


def test_a_change_without_its_log_entry_does_not_happen(monkeypatch):
    team = make_team()
    member = make_member(team)

    def no_log(*args, **fields):
        raise OSError("the log is full")

    monkeypatch.setattr(actions, "record", no_log)

    with pytest.raises(OSError, match="full"):
        actions.remove_member(membership=membership(team, member), by=owner_of(team), at=app_now())

    assert team.memberships.filter(user=member).exists()
