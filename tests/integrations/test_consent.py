"""Connecting by agreeing at the provider: what a member does, what a worker does, and everything that can go wrong."""

from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings as live
from django.test import Client
from django.urls import reverse

from accounts.permissions import Role
from audit.clock import app_now
from audit.models import Event
from integrations import consenting, tasks
from integrations.consent_views import state_of
from integrations.models import Connection, Consent
from integrations.openrouter.tools import OPENROUTER
from tests.factories import make_member, make_team, owner_of
from vault.actions import adopt_credential

pytestmark = pytest.mark.django_db


@pytest.fixture
def team(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    yield make_team()
    sandbox.rules()
    sandbox.real_time()


@pytest.fixture
def client(team) -> Client:
    client = Client()
    client.force_login(owner_of(team))
    return client


def begin(client: Client, team, label: str = "Main account") -> Consent:
    client.post(reverse("consent_create", args=[team.slug, "openrouter"]), {"label": label})
    return Consent.objects.get(team=team, label=label)


def page(client: Client, team, consent: Consent):
    return client.get(reverse("consent_detail", args=[team.slug, consent.pk]))


def agree(sandbox, client: Client, team, consent: Consent, **wish: Any) -> str:
    """Where the member's browser is sent by the provider, as a path of ours."""
    location = sandbox.consent(page(client, team, consent).context["url"], **wish)["location"]
    return location.removeprefix(live.BASE_URL)


def state(consent: Consent) -> tuple[str, str]:
    consent.refresh_from_db()
    return consent.state, consent.reason


def redeem(consent: Consent) -> None:
    tasks.redeem(consent_id=str(consent.pk))


# --- it goes well -----------------------------------------------------------------------


def test_a_member_agrees_and_the_team_has_a_connection_that_works(sandbox, client, team):
    consent = begin(client, team)
    assert client.get(agree(sandbox, client, team, consent)).status_code == 302
    assert state(consent) == ("answered", "")
    redeem(consent)
    assert state(consent) == ("done", "")
    connection = consent.connection
    tasks.test_connection(connection_id=str(connection.pk))
    connection.refresh_from_db()
    assert (connection.state, connection.label, connection.created_by) == ("ready", "Main account", owner_of(team))
    assert page(client, team, consent)["Location"] == reverse("connection_detail", args=[team.slug, connection.pk])
    actions = set(Event.objects.filter(team_id=team.pk).values_list("action", flat=True))
    assert {"integrations.consent.exchanging", "integrations.connection.made"} <= actions


def test_the_provider_is_told_a_challenge_and_the_name_of_the_key_and_no_secret(client, team):
    consent = begin(client, team)
    asked = {
        name: value for name, [value] in parse_qs(urlsplit(page(client, team, consent).context["url"]).query).items()
    }
    assert (asked["code_challenge_method"], asked["code_challenge"]) == ("S256", consent.challenge)
    assert asked["key_label"] == "Definable: Main account"
    assert set(asked) == {"callback_url", "code_challenge", "code_challenge_method", "key_label"}


def test_an_installation_that_cannot_be_called_takes_a_pasted_code(sandbox, client, team, settings):
    settings.BASE_URL = "http://definable.example"
    consent = begin(client, team)
    url = page(client, team, consent).context["url"]
    assert "callback_url" not in url
    code = sandbox.consent(url)["code"]
    client.post(reverse("consent_code", args=[team.slug, consent.pk]), {"code": f" {code}\n"})
    redeem(consent)
    assert state(consent) == ("done", "")


def test_what_was_sealed_is_gone_when_it_was_used(sandbox, client, team):
    consent = begin(client, team)
    client.get(agree(sandbox, client, team, consent))
    redeem(consent)
    consent.refresh_from_db()
    assert (consent.verifier_sealed, consent.code_sealed) == (None, None)
    adopt_credential(credential=consent.connection.credential)


# --- it does not ------------------------------------------------------------------------


def test_a_member_may_say_no(sandbox, client, team):
    consent = begin(client, team)
    client.get(agree(sandbox, client, team, consent, deny=True))
    assert state(consent) == ("denied", "")
    assert "no key was made" in page(client, team, consent).content.decode()
    assert not team.connections.exists()


def test_a_code_is_taken_once_however_often_it_comes_back(sandbox, client, team):
    consent = begin(client, team)
    back = agree(sandbox, client, team, consent)
    client.get(back)
    redeem(consent)
    client.get(back)
    redeem(consent)
    assert Connection.objects.filter(team=team).count() == 1


def test_a_code_that_the_provider_refuses_connects_nothing_and_says_so(client, team):
    consent = begin(client, team)
    client.post(reverse("consent_code", args=[team.slug, consent.pk]), {"code": "auth_code_of_somebody_else"})
    redeem(consent)
    assert consent.connection is None
    assert state(consent)[0] == "failed" and "Invalid code" in consent.reason


def test_a_code_for_another_challenge_is_refused(sandbox, client, team):
    mine, other = begin(client, team, "Mine"), begin(client, team, "Other")
    code = sandbox.consent(page(client, team, other).context["url"])["code"]
    client.post(reverse("consent_code", args=[team.slug, mine.pk]), {"code": code})
    redeem(mine)
    assert state(mine)[0] == "failed" and not team.connections.exists()


@pytest.mark.parametrize("code", ["", "two words", "x" * 513, "naïve"])
def test_what_cannot_be_a_code_is_refused_before_anything_is_kept(client, team, code):
    consent = begin(client, team)
    client.post(reverse("consent_code", args=[team.slug, consent.pk]), {"code": code})
    assert state(consent) == ("waiting", "")


def test_after_ten_minutes_it_is_over(sandbox, client, team):
    consent = begin(client, team)
    back = agree(sandbox, client, team, consent)
    late = app_now() - timedelta(minutes=11)
    Consent.objects.filter(pk=consent.pk).update(created_at=late, changed_at=late)
    client.get(back)
    assert state(consent) == ("waiting", "")
    consenting.sweep()
    assert state(consent) == ("failed", consenting.TOO_LATE)


def test_a_worker_that_is_gone_leaves_a_word_about_the_key_that_may_exist(sandbox, client, team):
    consent = begin(client, team)
    client.get(agree(sandbox, client, team, consent))
    consenting._take(Consent.objects.get(pk=consent.pk))
    Consent.objects.filter(pk=consent.pk).update(changed_at=app_now() - timedelta(minutes=3))
    redeem(consent)
    consenting.sweep()
    assert state(consent)[0] == "failed" and "“Definable: Main account”" in consent.reason


def test_a_provider_that_is_down_is_said_and_the_code_is_not_sent_again(sandbox, client, team):
    consent = begin(client, team)
    client.get(agree(sandbox, client, team, consent))
    sandbox.rules({"match": {"path": "/auth/keys"}, "answer": {"kind": "status", "status": 503}})
    redeem(consent)
    assert state(consent)[0] == "failed" and not team.connections.exists()


def test_a_name_that_was_taken_meanwhile_gets_an_end_of_its_own(sandbox, client, team):
    first, second = begin(client, team, "Same"), None
    second = consenting.begin(team=team, integration=OPENROUTER, label="Same", by=owner_of(team))
    for consent in (first, second):
        client.get(agree(sandbox, client, team, consent))
        redeem(consent)
    assert {state(first)[0], state(second)[0]} == {"done"}
    assert [row.label[:4] for row in team.connections.all()] == ["Same", "Same"]
    taken = client.post(reverse("consent_create", args=[team.slug, "openrouter"]), {"label": "Same"})
    assert taken.status_code == 422


# --- strangers --------------------------------------------------------------------------


def test_only_who_set_out_comes_back(sandbox, client, team):
    consent = begin(client, team)
    back = agree(sandbox, client, team, consent)
    other, elsewhere = Client(), Client()
    other.force_login(make_member(team, Role.ADMIN))
    elsewhere.force_login(owner_of(make_team()))
    assert [each.get(back).status_code for each in (other, elsewhere, Client())] == [302, 404, 302]
    assert state(consent) == ("waiting", "")


def test_a_state_that_we_did_not_make_leads_nowhere(client, team):
    consent = begin(client, team)
    callback = reverse("consent_callback", args=[team.slug, "openrouter"])
    for said in ("", str(consent.pk), f"{consent.pk}:x", state_of.sign("no-id")):
        shown = client.get(callback, {"state": said, "code": "auth_code_x"}, follow=True)
        assert "no way back" in shown.content.decode()
    assert state(consent) == ("waiting", "")


def test_a_member_without_the_right_cannot_set_out(team):
    client = Client()
    client.force_login(make_member(team, Role.MEMBER))
    assert client.post(reverse("consent_create", args=[team.slug, "openrouter"]), {"label": "x"}).status_code in (
        403,
        404,
    )
    assert not Consent.objects.exists()


def test_an_integration_that_asks_for_no_consent_has_no_such_page(client, team):
    assert client.get(reverse("consent_create", args=[team.slug, "webhook"])).status_code == 404
