"""A team's members, invitations and settings, and one's own account, as pages."""

import re

import pytest
from django.conf import settings
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import Membership, Team
from accounts.permissions import Role
from tests.factories import make_member, make_stranger, make_team, make_user, owner_of

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def membership(team: Team, user) -> Membership:
    return Membership.objects.get(team=team, user=user)


def page(response) -> str:
    return response.content.decode()


# --- home -------------------------------------------------------------------------------


def test_home_without_a_team_asks_for_one():
    assert signed_in(make_user()).get(reverse("home")).headers["Location"] == reverse("team_create")


def test_making_a_team_leads_into_it():
    user = make_user()
    client = signed_in(user)

    response = client.post(reverse("team_create"), {"name": "Night shift", "zone": "Europe/Berlin"})

    assert response.headers["Location"].startswith("/t/night-shift/")
    assert user.memberships.get().role == "owner"
    assert client.get(response.headers["Location"]).status_code == 200


# --- members ----------------------------------------------------------------------------


def test_members_see_each_other_and_managers_see_controls():
    team = make_team()
    member = make_member(team, Role.MEMBER)
    url = reverse("member_list", args=[team.slug])

    plain, managed = page(signed_in(member).get(url)), page(signed_in(owner_of(team)).get(url))

    for text in (owner_of(team).email, member.email):
        assert text in plain
        assert text in managed
    assert "Change<span" not in plain
    assert "Invite a member" not in plain
    assert managed.count("Change<span") == 2


def test_an_admin_gets_no_controls_for_an_owner():
    team = make_team()
    admin = make_member(team, Role.ADMIN)

    managed = page(signed_in(admin).get(reverse("member_list", args=[team.slug])))

    assert managed.count("Change<span") == 1
    assert 'value="owner"' not in managed


@pytest.mark.parametrize("rows", [1, 30])
def test_the_list_takes_the_same_queries_for_any_number_of_members(rows: int):
    team = make_team()
    for _ in range(rows):
        make_member(team)
    client = signed_in(owner_of(team))

    with CaptureQueriesContext(connection) as queries:
        client.get(reverse("member_list", args=[team.slug]))

    # session, person, membership, the page's clock, members, invitations, and the frame's two
    assert len(queries) == 8


def test_a_role_changes_with_a_plain_form_and_with_htmx():
    team = make_team()
    member = make_member(team, Role.MEMBER)
    client = signed_in(owner_of(team))
    url = reverse("member_role", args=[team.slug, membership(team, member).pk])

    plain = client.post(url, {"role": "builder"})
    assert plain.headers["Location"] == reverse("member_list", args=[team.slug])
    assert membership(team, member).role == "builder"

    swapped = client.post(url, {"role": "auditor"}, headers=HTMX)
    assert re.match(r"\s*<tr [^>]*id=\"member-", re.sub(r"^\s+", "", page(swapped)))
    assert '<option value="auditor" selected>' in page(swapped)
    assert "<html" not in page(swapped)


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_refused_change_says_why_beside_the_list(headers: dict):
    team = make_team()
    owner = owner_of(team)
    url = reverse("member_role", args=[team.slug, membership(team, owner).pk])

    response = signed_in(owner).post(url, {"role": "member"}, headers=headers)

    assert response.status_code == 422
    assert "This is the team&#x27;s last owner. Make somebody else an owner first." in page(response)
    assert membership(team, owner).role == "owner"


@pytest.mark.requirement("AUTHZ-5")
@pytest.mark.parametrize("role", ["owner", "OWNER", "", "superuser", ["admin", "owner"]])
def test_an_admin_posts_a_role_that_is_not_theirs_to_give(role):
    team = make_team()
    member = make_member(team, Role.MEMBER)
    client = signed_in(make_member(team, Role.ADMIN))

    response = client.post(reverse("member_role", args=[team.slug, membership(team, member).pk]), {"role": role})

    assert response.status_code == 422
    assert membership(team, member).role == "member"


def test_removing_asks_first_and_ends_access_at_once():
    team = make_team()
    member = make_member(team)
    theirs, mine = signed_in(member), signed_in(owner_of(team))
    url = reverse("member_remove", args=[team.slug, membership(team, member).pk])

    assert "loses access" in page(mine.get(url))
    assert theirs.get(reverse("member_list", args=[team.slug])).status_code == 200
    mine.post(url)

    assert theirs.get(reverse("member_list", args=[team.slug])).status_code == 404
    assert mine.post(url).status_code == 404


@pytest.mark.requirement("AUTHZ-6")
def test_a_lost_role_is_lost_at_the_next_request():
    team = make_team()
    admin = make_member(team, Role.ADMIN)
    client = signed_in(admin)
    url = reverse("member_invite", args=[team.slug])
    assert client.get(url).status_code == 200

    signed_in(owner_of(team)).post(
        reverse("member_role", args=[team.slug, membership(team, admin).pk]), {"role": "member"}
    )

    refused = client.get(url)
    assert refused.status_code == 403
    assert f"Your role in {team.name} is Member, and it does not include this." in page(refused)


@pytest.mark.requirement("AUTHZ-6")
def test_an_account_switched_off_is_signed_out_at_the_next_request():
    team = make_team()
    member = make_member(team)
    client = signed_in(member)

    type(member).objects.filter(pk=member.pk).update(is_active=False)

    assert client.get(reverse("member_list", args=[team.slug])).headers["Location"].startswith("/account/login/")


# --- invitations ------------------------------------------------------------------------


def invited_link(response) -> str:
    return re.search(f'value="{settings.BASE_URL}(/invite/[^"]+)"', page(response))[1]


def test_the_link_of_an_invitation_is_shown_once():
    team = make_team()
    client = signed_in(owner_of(team))

    shown = client.post(reverse("member_invite", args=[team.slug]), {"role": "builder", "email": ""})
    token = invited_link(shown).split("/")[2]

    assert shown.headers["Cache-Control"] == "no-store"
    assert token not in page(client.get(reverse("member_list", args=[team.slug])))
    assert mail.outbox == []


def test_an_invitation_to_an_address_is_mailed_as_plain_text():
    team = make_team(name="O'Hara & <b>Sons</b>")
    client = signed_in(owner_of(team))

    shown = client.post(reverse("member_invite", args=[team.slug]), {"role": "member", "email": "New@Example.test"})

    (sent,) = mail.outbox
    assert sent.to == ["new@example.test"]
    assert "O'Hara & <b>Sons</b>" in sent.body
    assert invited_link(shown) in sent.body
    assert "<b>Sons</b>" not in page(shown)


def test_the_link_works_on_when_the_mail_server_does_not(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    team = make_team()

    shown = signed_in(owner_of(team)).post(
        reverse("member_invite", args=[team.slug]), {"role": "member", "email": "new@example.test"}
    )

    assert "The mail could not be sent." in page(shown)
    assert Client().get(invited_link(shown)).status_code == 200


def test_a_member_is_not_invited_again():
    team = make_team()
    member = make_member(team)

    response = signed_in(owner_of(team)).post(
        reverse("member_invite", args=[team.slug]), {"role": "admin", "email": member.email.upper()}
    )

    assert response.status_code == 422
    assert "This person is a member already" in page(response)


def invite(team: Team, **fields) -> str:
    response = signed_in(owner_of(team)).post(reverse("member_invite", args=[team.slug]), {"role": "member"} | fields)
    return invited_link(response)


def test_somebody_signed_in_joins_with_one_button():
    team = make_team()
    link = invite(team)
    user = make_user()
    client = signed_in(user)

    opened = client.get(link)
    assert team.name in page(opened)
    assert not team.memberships.filter(user=user).exists()

    assert client.post(link).headers["Location"].startswith(f"/t/{team.slug}/")
    assert membership(team, user).role == "member"
    assert client.get(link).status_code == 410


def test_somebody_new_signs_up_without_a_team_of_their_own_and_joins():
    team = make_team()
    link = invite(team, email="new@example.test")
    client = Client()

    way = re.search(r'href="(/account/signup/[^"]+)"', page(client.get(link)))[1].replace("&amp;", "&")
    form = page(client.get(way))
    assert 'name="team_name"' not in form
    assert 'value="new@example.test"' in form

    fields = {"name": "Demo", "email": "new@example.test", "password1": "three blue lamps hum", "next": link}
    assert client.post(reverse("account_signup"), fields).headers["Location"] == link
    client.post(link)

    assert [held.team for held in Membership.objects.filter(user__email="new@example.test")] == [team]


@pytest.mark.parametrize("way_back", ["/invite/none/", "/", "", "https://evil.test/invite/x/"])
def test_sign_up_asks_for_a_team_unless_an_invitation_is_live(way_back: str):
    make_team()

    assert 'name="team_name"' in page(Client().get(reverse("account_signup"), {"next": way_back}))


def test_an_invitation_for_somebody_else_says_so():
    team = make_team()
    link = invite(team, email="wanted@example.test")

    response = signed_in(make_user()).post(link)

    assert response.status_code == 422
    assert "This invitation is for another address." in page(response)


def test_posting_signed_out_accepts_nothing():
    team = make_team()

    response = Client().post(invite(team))

    assert response.status_code == 200
    assert team.memberships.count() == 1


@pytest.mark.requirement("TEN-5")
def test_an_unknown_and_a_used_invitation_look_the_same():
    link = invite(make_team())
    signed_in(make_user()).post(link)
    client = signed_in(make_user())

    def seen(path: str) -> tuple[int, str]:
        response = client.get(path)
        return response.status_code, page(response)

    assert seen(link) == seen("/invite/never-made/")
    assert seen(link)[0] == 410


def test_a_link_can_be_renewed_and_revoked_from_the_list():
    team = make_team()
    old = invite(team)
    client = signed_in(owner_of(team))
    listed = page(client.get(reverse("member_list", args=[team.slug])))
    invitation = team.invitations.get()
    assert "Whoever has the link" in listed

    new = invited_link(client.post(reverse("invitation_renew", args=[team.slug, invitation.pk])))
    assert (Client().get(old).status_code, Client().get(new).status_code) == (410, 200)

    client.post(reverse("invitation_revoke", args=[team.slug, invitation.pk]))
    assert Client().get(new).status_code == 410
    assert "Whoever has the link" not in page(client.get(reverse("member_list", args=[team.slug])))


# --- fields nobody listed ---------------------------------------------------------------


@pytest.mark.requirement("AUTHZ-4")
@pytest.mark.parametrize("name", ["account", "team_create", "team_settings"])
def test_a_form_takes_its_listed_fields_only_and_names_the_others_in_the_log(name: str, capsys):
    owner = make_user()
    team, theirs = make_team(owner=owner), make_stranger().memberships.get().team
    client = signed_in(owner)
    extra = {
        "team": theirs.slug,
        "team_id": theirs.pk,
        "role": "owner",
        "is_owner": "on",
        "is_staff": "on",
        "is_active": "",
        "plan": "pro",
        "plan_id": "2",
        "granted": "999999",
        "is_demo": "on",
        "slug": "taken",
        "email": "evil@example.test",
    }
    url = reverse(name, args=[team.slug] if name == "team_settings" else [])

    response = client.post(url, {"name": "Changed", "zone": "UTC", "theme": "dark"} | extra)

    assert response.status_code == 302
    owner.refresh_from_db()
    assert (owner.email.startswith("person"), owner.is_staff, owner.is_active) == (True, False, True)
    assert {(held.plan.key, held.is_demo) for held in Team.objects.all()} == {("starter", False)}
    assert not Team.objects.filter(slug="taken").exists()
    assert not theirs.memberships.filter(user=owner).exists()
    assert "unlisted_fields" in capsys.readouterr().err


# --- the person -------------------------------------------------------------------------


def test_zone_and_colours_take_effect_on_the_next_page():
    team = make_team()
    client = signed_in(owner_of(team))

    saved = client.post(reverse("account"), {"name": "Demo owner", "zone": "Asia/Tokyo", "theme": "dark"})
    shown = page(client.get(reverse("member_list", args=[team.slug])))

    assert saved.cookies["theme"].value == "dark"
    assert 'data-theme="dark"' in shown
    assert " Asia/Tokyo, " in shown


def test_a_zone_that_is_none_is_refused():
    user = make_user()

    response = signed_in(user).post(reverse("account"), {"name": "Demo", "zone": "Mars/Olympus", "theme": "dark"})

    assert response.status_code == 422
    user.refresh_from_db()
    assert user.zone == "UTC"
