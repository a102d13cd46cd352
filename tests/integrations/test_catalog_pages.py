"""The line on an integration's page that says how old its catalog is, and the button that has it read."""

import re
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils.html import strip_tags

from accounts.permissions import Role
from audit.models import Event
from integrations import actions, catalog_reading, tasks
from integrations.models import Catalog, CatalogModel
from tests.factories import make_member, make_team, owner_of

pytestmark = pytest.mark.django_db
READ_AGAIN = "Read again"
NOBODY_LISTENS = "http://127.0.0.1:9/api/v1"


@pytest.fixture(autouse=True)
def upstream(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def hints(monkeypatch) -> list[str]:
    sent: list[str] = []
    monkeypatch.setattr(actions, "read_catalog_later", lambda: sent.append("hint"))
    return sent


def page(client, team, user) -> str:
    """What a person reads on the integration's page."""
    client.force_login(user)
    html = client.get(reverse("integration_detail", args=[team.slug, "openrouter"])).content.decode()
    return re.sub(r"\s+", " ", strip_tags(html))


def ask(client, team, user) -> str:
    client.force_login(user)
    answer = client.post(reverse("catalog_read", args=[team.slug, "openrouter"]), follow=True)
    return re.sub(r"\s+", " ", strip_tags(answer.content.decode()))


def test_a_page_before_the_first_reading_says_so(client, team):
    assert "Catalog: not read yet" in page(client, team, owner_of(team))


def test_a_page_says_how_many_models_are_known_and_since_when(client, team):
    tasks.refresh_catalog()
    CatalogModel.objects.filter(pk=CatalogModel.objects.first().pk).update(gone_at=Catalog.objects.get().read_at)
    known = CatalogModel.objects.filter(gone_at=None).count()
    assert re.search(rf"Catalog: {known} models, read \d\d:\d\d, ", page(client, team, owner_of(team)))


def test_a_page_says_why_it_could_not_be_read_and_how_old_the_copy_is(client, team, settings):
    settings.INTEGRATION_URLS = {"openrouter": NOBODY_LISTENS}
    tasks.refresh_catalog()
    assert "could not be read: " in (first := page(client, team, owner_of(team)))
    assert "No model and no price is known yet." in first
    Catalog.objects.update(read_at=Catalog.objects.get().tried_at - timedelta(hours=3))
    assert "This copy of 0 models is from" in page(client, team, owner_of(team))


def test_a_page_says_that_prices_are_held_back(client, team):
    tasks.refresh_catalog()
    CatalogModel.objects.filter(pk=CatalogModel.objects.first().pk).update(held_back="2026-01-01T00:00:00+00:00 Now …")
    assert "New prices of 1 model moved too far" in page(client, team, owner_of(team))


def test_whoever_manages_connections_may_have_it_read_and_the_log_says_who(client, team, hints):
    owner = owner_of(team)
    assert "A worker reads the catalog now" in ask(client, team, owner)
    assert hints == ["hint"]
    event = Event.objects.get(action="catalog.asked")
    assert (event.team_id, event.actor_id) == (team.pk, str(owner.pk))


def test_within_five_minutes_it_is_not_read_again_and_the_page_says_from_when(client, team, hints, clock):
    tasks.refresh_catalog()
    said = ask(client, team, owner_of(team))
    assert re.search(r"less than 5 minutes ago. Read it again from \d\d:\d\d on", said)
    assert hints == []
    assert not Event.objects.filter(action="catalog.asked").exists()
    clock(seconds=catalog_reading.AGAIN_AFTER.seconds + 1)
    ask(client, team, owner_of(team))
    assert hints == ["hint"]


def test_who_may_only_look_sees_no_button(client, team):
    assert READ_AGAIN in page(client, team, owner_of(team))
    assert READ_AGAIN not in page(client, team, make_member(team, Role.MEMBER))
