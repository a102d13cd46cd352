"""Members and invitations come fifty at a time, and the menu says how many calls wait."""

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.context import MOST_SHOWN
from accounts.models import Invitation, Membership, Team, User
from accounts.permissions import Role
from audit.ids import uuid7
from integrations.models import Approval
from tests.factories import make_member, make_team, owner_of
from tests.integrations.questions import make_approval
from tests.test_query_budget import copies

pytestmark = pytest.mark.django_db


@pytest.fixture
def team() -> Team:
    return make_team()


def shown(team: Team, query: str = "", user: User | None = None) -> str:
    client = Client()
    client.force_login(user or owner_of(team))
    return client.get(reverse("member_list", args=[team.slug]) + query).content.decode()


def link(page: str, name: str) -> str:
    """Where a pager leads on to, or nothing."""
    found = re.search(rf"\?{name}=([\w-]+)", page)
    return f"?{name}={found[1]}" if found else ""


def read_through(team: Team, name: str, pattern: str) -> tuple[list[int], list[str]]:
    """How much each page of a list shows, and all of it, found by following its own links."""
    sizes, rows, query = [], [], ""
    while not sizes or query:
        page = shown(team, query)
        found = re.findall(pattern, page)
        sizes.append(len(found))
        rows += found
        query = link(page, name)
    return sizes, rows


def add_members(team: Team, names: list[str]) -> None:
    users = [User(email=f"{number:03}@example.test", name=name) for number, name in enumerate(names)]
    Membership.objects.bulk_create(
        Membership(team=team, user=user, role=Role.MEMBER) for user in User.objects.bulk_create(users)
    )


def test_members_are_shown_fifty_at_a_time_each_once(team):
    add_members(team, ["Same name"] * 60 + ["ann", "Bo", "Ärger", "zoe"] + [""] * 40)

    sizes, rows = read_through(team, "after", r'<span class="sub">(\S+@example.test)</span>')

    by_name = team.memberships.order_by("user__name", "user__email")
    assert sizes == [50, 50, 5]
    assert rows == list(by_name.values_list("user__email", flat=True))


def test_a_few_members_need_no_pager(team):
    assert 'aria-label="More members"' not in shown(team)


def test_invitations_are_shown_fifty_at_a_time_the_newest_first(team):
    now = timezone.now()
    Invitation.objects.bulk_create(
        Invitation(
            team=team,
            role=Role.MEMBER,
            email=f"{number:03}@invited.test",
            token_sha256=f"{number:064x}",
            invited_by=owner_of(team),
            created_at=now - timedelta(minutes=number // 3),
            expires_at=now,
        )
        for number in range(120)
    )

    sizes, rows = read_through(team, "before", r"<b>(\d+)@invited.test</b>")

    assert sizes == [50, 50, 20]
    assert len(set(rows)) == 120
    assert [int(row) // 3 for row in rows] == sorted(int(row) // 3 for row in rows)


@pytest.mark.requirement("IN-10")
@pytest.mark.parametrize("name", ["after", "before"])
def test_a_place_that_is_none_or_a_strangers_is_the_beginning(team, name: str):
    strangers = make_team().memberships.get().pk

    for place in ("", "x", "0" * 32, uuid7(), strangers):
        assert owner_of(team).email in shown(team, f"?{name}={place}")


# --- the menu ---------------------------------------------------------------------------


def counted(team: Team, user: User) -> str:
    """What stands beside "Approvals" in the menu."""
    found = re.search(r"<span>Approvals</span>(.*?)</a>", shown(team, user=user))
    return re.sub(r"<[^>]+>", "", found[1])


def test_the_menu_says_how_many_calls_wait_to_who_may_decide(team):
    owner, member = owner_of(team), make_member(team, Role.MEMBER)
    make_approval(make_team())
    assert counted(team, owner) == ""

    row = make_approval(team)
    copies(row, 1, lambda _: {"stage_id": None})
    copies(row, 1, lambda _: {"stage_id": None, "state": Approval.State.REFUSED})

    assert counted(team, owner) == "2 waiting"
    assert counted(team, member) == ""


def test_the_menu_stays_narrow(team):
    copies(make_approval(team), MOST_SHOWN, lambda _: {"stage_id": None})

    assert counted(team, owner_of(team)) == f"{MOST_SHOWN}+ waiting"
