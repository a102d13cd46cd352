"""Whoever asks too often is told so, and when to come back: on a page, or in a toast."""

import pytest
from allauth.account import app_settings
from allauth.core.internal.ratelimit import parse_rates
from django.conf import settings
from django.core import mail
from django.test import Client
from django.urls import reverse

from accounts.models import Invitation, Team
from tests.factories import make_team, make_user, owner_of

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("RATE-4")]

# What allauth ends with 429, not with an error of the form.
ANSWERED = ["login", "signup", "reset_password", "reset_password_from_key", "change_password"]


def until_refused(client: Client, url: str, given: dict, *, most: int, **headers):
    """Post until it was too often; every earlier post counted."""
    for _ in range(most):
        assert client.post(url, given).status_code != 429
    return client.post(url, given, **headers)


@pytest.fixture
def owner(client) -> Client:
    client.force_login(owner_of(make_team()))
    return client


@pytest.mark.parametrize(
    ("page", "most"), [("account_login", 30), ("account_signup", 20), ("account_reset_password", 20)]
)
def test_a_stranger_is_told_when_to_come_back(client, page: str, most: int):
    make_team()
    for number in range(most):
        client.post(reverse(page), {"login": f"p{number}@example.test", "email": f"p{number}@example.test"})

    answer = client.post(reverse(page), {"login": "p@example.test", "email": "p@example.test"})

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")
    text = answer.content.decode()
    assert "That was too often. Wait a minute, then try again." in text
    assert '<main class="gate-in"' in text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("action", ANSWERED)
def test_a_minute_is_enough_for_every_limit_of_allauth(action: str):
    assert {rate.duration for rate in parse_rates(app_settings.RATE_LIMITS[action])} == {60}


def test_the_person_signed_in_sees_the_same(owner):
    answer = until_refused(owner, reverse("account_change_password"), {"oldpassword": "x"}, most=5)

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")


def test_htmx_gets_a_toast_and_its_page_stays(owner):
    answer = until_refused(
        owner, reverse("account_change_password"), {"oldpassword": "x"}, most=5, headers={"HX-Request": "true"}
    )

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")
    assert answer.content.decode().lstrip().startswith('<hx-partial hx-target="#toasts"')
    assert "Wait a minute, then try again." in answer.content.decode()


@pytest.mark.requirement("RATE-1")
def test_one_person_invites_so_many_in_ten_minutes(owner):
    most, seconds = settings.PERSON_LIMITS["invite"]
    team = Team.objects.get()
    url = reverse("member_invite", args=[team.slug])

    answer = until_refused(owner, url, {"role": "member"}, most=most)

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, str(seconds))
    assert "Wait 10 minutes, then try again." in answer.content.decode()
    assert Invitation.objects.count() == most
    assert owner.post(reverse("invitation_renew", args=[team.slug, Invitation.objects.first().pk])).status_code == 429


def test_a_form_that_was_refused_counts_for_nothing(owner):
    url = reverse("member_invite", args=[Team.objects.get().slug])
    for _ in range(30):
        assert owner.post(url, {"role": "member", "email": "no address"}).status_code == 422

    assert owner.post(url, {"role": "member", "email": "a@example.test"}).status_code == 200
    assert len(mail.outbox) == 1


@pytest.mark.requirement("RATE-1")
def test_one_person_makes_so_many_teams_in_an_hour(client):
    most, seconds = settings.PERSON_LIMITS["new_team"]
    client.force_login(make_user())
    other = Client()
    other.force_login(make_user())

    answer = until_refused(client, reverse("team_create"), {"name": "Blue", "zone": "UTC"}, most=most)

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, str(seconds))
    assert Team.objects.count() == most
    assert other.post(reverse("team_create"), {"name": "Blue", "zone": "UTC"}).status_code == 302
