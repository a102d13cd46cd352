"""Teams that people make for themselves: from a confirmed address, so many from a network, so many in all."""

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from urllib.parse import urlsplit

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts import quotas
from accounts.actions import accept_invitation, invite_member, make_first_owner_link
from accounts.models import CreditAccount, Plan, Team, TeamStart, User
from audit.clock import app_now
from tests.accounts.test_ways_in import sign_up
from tests.factories import make_team, make_user, owner_of

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("BUD-12")]
NETWORK = "192.0.2.0/24"


def start(owner: User | None = None, *, network: str = NETWORK) -> Team:
    return quotas.start_team(name="Blue", owner=owner or make_user(), network=network, at=app_now())


def new_team(client: Client, **extra):
    return client.post(reverse("team_create"), {"name": "Blue", "zone": "UTC"}, **extra)


@pytest.fixture
def needs_confirmed(settings) -> None:
    settings.FREE_TEAMS_NEED_CONFIRMED_ADDRESS = True


# --- networks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_one_customer_is_one_network(address: str, network: str):
    assert quotas.network_of(address) == network


def test_a_network_starts_so_many_teams_in_a_day(settings, clock):
    settings.FREE_TEAMS_A_DAY_PER_NETWORK = 2
    start(), start()

    with pytest.raises(quotas.NetworkFull, match="Try again tomorrow"):
        start()
    start(network="198.51.100.0/24")
    clock(hours=23, minutes=59)
    with pytest.raises(quotas.NetworkFull):
        start()
    clock(hours=24)
    start()
    assert TeamStart.objects.filter(network=NETWORK).count() == 1  # yesterday's are forgotten


@pytest.mark.requirement("RATE-2")
def test_neighbours_count_together_whatever_address_they_make_up(client, settings):
    settings.FREE_TEAMS_A_DAY_PER_NETWORK = 1
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    client.force_login(make_user())

    first = new_team(client, HTTP_X_FORWARDED_FOR="10.0.0.1, 203.0.113.7")
    neighbour = new_team(client, HTTP_X_FORWARDED_FOR="10.99.0.1, 203.0.113.200")
    elsewhere = new_team(client, HTTP_X_FORWARDED_FOR="10.0.0.1, 198.51.100.7")

    assert [answer.status_code for answer in (first, neighbour, elsewhere)] == [302, 422, 302]
    assert "Too many teams were made from your network today." in neighbour.content.decode()


def test_a_refused_sign_up_makes_no_account_and_says_what_to_do(client, settings):
    make_team()
    settings.FREE_TEAMS_A_DAY_PER_NETWORK = 1
    sign_up(Client())

    page = sign_up(client, email="second@example.test").content.decode()

    assert "<title>Error: Create an account" in page
    assert "ask one of its owners for an invitation" in page
    assert not User.objects.filter(email="second@example.test").exists()
    assert (Team.objects.count(), TeamStart.objects.count()) == (2, 1)
    assert [message.to for message in mail.outbox] == [["new@example.test"]]


# --- the pool ---------------------------------------------------------------------------


def test_an_installation_gives_so_many_free_teams(client, settings):
    make_team(is_demo=True)
    make_team()
    settings.FREE_TEAMS = 2
    start()
    accounts, starts = CreditAccount.objects.count(), TeamStart.objects.count()
    client.force_login(make_user())

    answer = new_team(client)

    assert answer.status_code == 422
    assert "All free teams of this installation are taken." in answer.content.decode()
    assert (CreditAccount.objects.count(), TeamStart.objects.count()) == (accounts, starts)


def test_a_team_on_a_larger_plan_takes_no_free_place(settings):
    settings.FREE_TEAMS = 1
    make_team(plan=Plan.objects.get(key="pro"))

    assert start().plan.key == "starter"


def test_zero_means_no_limit(settings):
    settings.FREE_TEAMS = settings.FREE_TEAMS_A_DAY_PER_NETWORK = 0

    assert len({start().slug for _ in range(25)}) == 25


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("limit", ["FREE_TEAMS", "FREE_TEAMS_A_DAY_PER_NETWORK"])
def test_of_twenty_at_once_exactly_as_many_pass_as_may(settings, limit: str):
    setattr(settings, limit, 7)
    people = [make_user() for _ in range(20)]
    together = Barrier(20)

    def attempt(person: User) -> bool:
        together.wait()
        try:
            start(person)
        except (quotas.NetworkFull, quotas.NoFreeTeams):
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(20) as threads:
        passed = list(threads.map(attempt, people))

    assert sum(passed) == Team.objects.count() == CreditAccount.objects.count() == TeamStart.objects.count() == 7


# --- the address ------------------------------------------------------------------------


def test_a_confirmed_address_comes_before_the_team(client, needs_confirmed):
    make_team()
    response = sign_up(client)
    person = User.objects.get(email="new@example.test")
    assert not person.memberships.exists()

    page = client.get(response.headers["Location"], follow=True).content.decode()
    refused = new_team(client)
    assert "Confirm your address first." in page
    assert (refused.status_code, Team.objects.count()) == (422, 1)

    link = re.search(r"http\S+", mail.outbox[0].body)[0]
    client.post(urlsplit(link).path)
    new_team(client)
    assert person.memberships.get().team.credit_accounts.get().granted == 5_000


def test_the_link_is_mailed_again_but_not_at_once(client, needs_confirmed):
    make_team()
    sign_up(client)

    at_once = client.post(reverse("address_confirm"))

    assert (at_once.status_code, at_once.headers["Retry-After"], len(mail.outbox)) == (429, "180", 1)


def test_who_was_never_mailed_a_link_asks_for_one(client, needs_confirmed):
    person = make_user(email="person@example.test")
    client.force_login(person)

    client.post(reverse("address_confirm"))
    client.post(urlsplit(re.search(r"http\S+", mail.outbox[0].body)[0]).path)

    assert mail.outbox[0].to == ["person@example.test"]
    assert not quotas.needs_confirmation(person)


def test_another_address_confirms_nothing(needs_confirmed):
    person = make_user()
    person.emailaddress_set.create(email="other@example.test", verified=True)

    with pytest.raises(quotas.AddressUnconfirmed):
        start(person)


def test_whoever_is_invited_needs_none_of_it(settings, needs_confirmed):
    settings.FREE_TEAMS = settings.FREE_TEAMS_A_DAY_PER_NETWORK = 1
    team = make_team()
    TeamStart.objects.create(network="127.0.0.0/24", at=app_now())
    _, token = invite_member(team=team, role="member", by=owner_of(team), at=app_now())
    client = Client()

    sign_up(client, team_name="", next=reverse("invitation_accept", args=[token]))
    person = User.objects.get(email="new@example.test")

    assert accept_invitation(token=token, user=person, at=app_now()).team == team


def test_the_first_owner_needs_none_of_it(client, settings, needs_confirmed):
    settings.FREE_TEAMS_A_DAY_PER_NETWORK = 1
    TeamStart.objects.create(network="127.0.0.0/24", at=app_now())
    token = make_first_owner_link(at=app_now())

    given = {"name": "A", "email": "a@example.test", "password": "three blue lamps hum", "team_name": "First"}
    client.post(reverse("first_owner", args=[token]), given)

    assert User.objects.get(email="a@example.test").memberships.get().team.name == "First"
