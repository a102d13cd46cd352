"""The tables that count tries and calls cannot be used: nobody signs in, no call leaves, pages can be read."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.core import mail
from django.db import DatabaseError, connection
from django.test import Client
from django.urls import reverse

from accounts.models import Invitation, Team, User
from integrations import catalog
from integrations.models import Call
from tests.accounts.test_ways_in import LOGIN, PASSWORD, is_signed_in, sign_up
from tests.factories import make_team, make_user, owner_of
from tests.integrations.desk import Desk

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("RATE-3")]

TRIES, CALLS = "accounts_counter", "integrations_pace"
LISTS = ["persona_list", "flow_list", "run_list", "event_list", "integration_list", "member_list", "plan"]


@contextmanager
def away(*tables: str) -> Iterator[None]:
    """Take tables away, as a broken one is."""
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")


def sign_in(client: Client) -> int:
    return client.post(reverse(LOGIN), {"login": "person@example.test", "password": PASSWORD}).status_code


@pytest.fixture
def stranger() -> Client:
    return Client(raise_request_exception=False)


def test_nobody_signs_in_uncounted_and_everybody_can_again(stranger):
    make_user(email="person@example.test", password=PASSWORD)

    with away(TRIES):
        assert sign_in(stranger) == 500
        assert not is_signed_in(stranger)

    assert sign_in(stranger) == 302
    assert is_signed_in(stranger)


def test_nobody_signs_up_or_is_mailed_uncounted(stranger):
    make_team()
    make_user(email="person@example.test", password=PASSWORD)

    with away(TRIES):
        sign_up(stranger)
        stranger.post(reverse("account_reset_password"), {"email": "person@example.test"})

    assert not User.objects.filter(email="new@example.test").exists()
    assert mail.outbox == []


def test_nobody_is_invited_and_no_team_is_made_uncounted(stranger):
    team = make_team()
    stranger.force_login(owner_of(team))

    with away(TRIES):
        stranger.post(reverse("member_invite", args=[team.slug]), {"role": "member"})
        stranger.post(reverse("team_create"), {"name": "Blue", "zone": "UTC"})

    assert (Invitation.objects.count(), Team.objects.count()) == (0, 1)


def test_no_call_leaves_uncounted_and_none_is_paid_for(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    catalog.forget()
    desk = Desk(sandbox)
    before = len(sandbox.journal()), desk.account.spent + desk.account.reserved, Call.objects.count()

    with away(CALLS), pytest.raises(DatabaseError):
        desk.call()

    assert (len(sandbox.journal()), desk.account.spent + desk.account.reserved, Call.objects.count()) == before
    desk.call()
    assert len(sandbox.journal()) == before[0] + 1
    catalog.forget()


def test_pages_can_be_read(client):
    team = make_team()
    client.force_login(owner_of(team))
    pages = [reverse(name, args=[team.slug]) for name in LISTS] + [reverse("healthz")]

    with away(TRIES, CALLS):
        answers = {page: client.get(page).status_code for page in pages}
        answers[LOGIN] = Client().get(reverse(LOGIN)).status_code

    assert set(answers.values()) == {200}, answers
