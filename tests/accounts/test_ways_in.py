"""Signing up, signing in, resetting a password, and the links that work once."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from threading import Barrier
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.contrib.sessions.models import Session
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from accounts import actions
from accounts.models import OneTimeLink, Team, User
from audit.clock import app_now
from audit.models import Event
from tests.accounts.test_people import spellings
from tests.factories import make_member, make_stranger, make_team, make_user, owner_of

pytestmark = pytest.mark.django_db

PASSWORD = "three blue lamps hum"
LOGIN = "account_login"


def is_signed_in(client: Client) -> bool:
    return client.get(reverse("account")).status_code == 200


def sign_up(client: Client, **fields):
    given = {
        "name": "Demo",
        "email": "new@example.test",
        "password1": PASSWORD,
        "team_name": "Blue",
        "zone": "Asia/Tokyo",
    }
    return client.post(reverse("account_signup"), given | fields)


def printed(*command: str, **options) -> str:
    out = StringIO()
    call_command(*command, stdout=out, **options)
    return out.getvalue().strip()


def path_of(text: str) -> str:
    return urlsplit(re.search(r"http\S+", text)[0]).path


# --- signing up -------------------------------------------------------------------------


def test_signing_up_makes_an_account_and_its_team(client):
    make_team()

    response = sign_up(client)

    user = User.objects.get(email="new@example.test")
    membership = user.memberships.get()
    assert response.headers["Location"] == reverse("home")
    assert (user.name, user.zone, membership.team.name, membership.team.zone) == (
        "Demo",
        "Asia/Tokyo",
        "Blue",
        "Asia/Tokyo",
    )
    assert membership.role == "owner"
    assert is_signed_in(client)


def test_a_zone_that_is_none_becomes_utc(client):
    make_team()

    sign_up(client, zone="Mars/Olympus<script>")

    assert User.objects.get(email="new@example.test").zone == "UTC"


def test_a_refused_sign_up_makes_nothing_and_says_why(client):
    make_team()
    before = Team.objects.count()

    response = sign_up(client, password1="short", team_name="")

    page = response.content.decode()
    assert "at least 12 characters" in page
    assert "Team name: This field is required." in page
    assert "<title>Error: Create an account" in page
    assert (User.objects.filter(email="new@example.test").count(), Team.objects.count()) == (0, before)
    assert "short" not in page.partition("<form")[2].partition("</form>")[0].replace("too short", "")


@pytest.mark.requirement("AUTH-4")
def test_an_address_in_another_spelling_is_taken(client):
    make_team(owner=make_user(email="new@example.test"))

    page = sign_up(client, email=" NEW@Example.test").content.decode()

    assert "This address has an account already. Sign in, or reset its password." in page
    assert User.objects.filter(email__iexact="new@example.test").count() == 1


@pytest.mark.requirement("AUTHZ-4")
def test_sign_up_takes_its_own_fields_only(client, caplog):
    theirs = make_team()
    extra = {
        "role": "admin",
        "team": theirs.slug,
        "is_staff": "on",
        "is_demo": "on",
        "plan": "pro",
        "is_active": "",
        "team_id": theirs.pk,
    }

    sign_up(client, **extra)

    user = User.objects.get(email="new@example.test")
    team = user.memberships.get().team
    assert (user.is_staff, user.is_active, team.is_demo, team.plan.key) == (False, True, False, "starter")
    assert user.memberships.get().role == "owner"
    assert not theirs.memberships.filter(user=user).exists()


# --- signing in -------------------------------------------------------------------------


@pytest.mark.requirement("AUTH-4")
@pytest.mark.parametrize(
    "login", ["PERSON@example.test", " person@example.test\t", "ｐｅｒｓｏｎ＠ｅｘａｍｐｌｅ．ｔｅｓｔ"]
)
def test_any_spelling_signs_in(client, login: str):
    make_user(email="person@example.test", password=PASSWORD)

    client.post(reverse(LOGIN), {"login": login, "password": PASSWORD})

    assert is_signed_in(client)


@pytest.mark.requirement("AUTH-4")
def test_fifty_spellings_share_one_counter():
    """Each try comes from another address and names another host, so only the person's counter is left."""
    make_user(email="person@example.test", password=PASSWORD)
    answers = []
    for number, login in enumerate(spellings("person@example.test")):
        client = Client(REMOTE_ADDR=f"10.0.{number}.1", HTTP_HOST=f"localhost:{8000 + number}")
        page = client.post(reverse(LOGIN), {"login": login, "password": "wrong wrong wrong"}).content.decode()
        answers.append("Too many tries for this address" in page)

    assert answers == [False] * 5 + [True] * 45
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM accounts_counter WHERE cache_key LIKE '%%login_failed%%/key:%%'")
        assert cursor.fetchone() == (1,)


def test_the_counter_knows_an_unknown_address_too(client):
    for _ in range(5):
        client.post(reverse(LOGIN), {"login": "nobody@example.test", "password": "wrong wrong wrong"})

    page = client.post(reverse(LOGIN), {"login": "nobody@example.test", "password": "wrong wrong wrong"})

    assert "Too many tries for this address" in page.content.decode()


def test_a_wrong_password_and_an_unknown_address_read_the_same(client):
    make_user(email="person@example.test", password=PASSWORD)

    def page(login: str) -> str:
        text = client.post(reverse(LOGIN), {"login": login, "password": "wrong wrong wrong"}).content.decode()
        return re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", text).replace(login, "")

    assert page("person@example.test") == page("nobody@example.test")


def test_sign_in_never_leads_off_the_site(client):
    make_user(email="person@example.test", password=PASSWORD)

    response = client.post(
        reverse(LOGIN) + "?next=//evil.test/",
        {"login": "person@example.test", "password": PASSWORD, "next": "//evil.test/"},
    )

    assert response.headers["Location"] == reverse("home")


def test_opening_sign_out_changes_nothing(client):
    client.force_login(make_user())

    client.get(reverse("account_logout"))
    assert is_signed_in(client)
    client.post(reverse("account_logout"))
    assert not is_signed_in(client)


# --- sessions ---------------------------------------------------------------------------


def session_id(client: Client) -> str:
    return client.cookies[settings.SESSION_COOKIE_NAME].value


@pytest.mark.requirement("AUTH-9")
def test_signing_in_makes_a_new_session_id_and_ends_the_old(client):
    make_user(email="person@example.test", password=PASSWORD)
    session = client.session
    session["before"] = "sign-in"
    session.save()
    planted = session.session_key
    client.cookies[settings.SESSION_COOKIE_NAME] = planted

    client.post(reverse(LOGIN), {"login": "person@example.test", "password": PASSWORD})

    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = planted
    assert session_id(client) != planted
    assert not Session.objects.filter(session_key=planted).exists()
    assert not is_signed_in(thief)
    assert is_signed_in(client)


@pytest.mark.requirement("AUTH-9")
def test_a_session_id_has_128_random_bits(client):
    client.force_login(make_user())

    alphabet, length = 36, len(session_id(client))  # Django draws from a-z and 0-9
    assert re.fullmatch(r"[a-z0-9]+", session_id(client))
    assert alphabet**length >= 2**128


@pytest.mark.requirement("AUTH-9")
def test_switching_teams_makes_a_new_session_id(client):
    owner = make_user()
    make_team(owner=owner, name="A"), make_team(owner=owner, name="B")
    client.force_login(owner)
    before = session_id(client)

    response = client.post(reverse("team_switch"), {"team": Team.objects.get(name="B").slug})

    assert session_id(client) != before
    assert not Session.objects.filter(session_key=before).exists()
    assert Team.objects.get(name="B").slug in response.headers["Location"]
    assert client.get(reverse("home")).headers["Location"] == response.headers["Location"]


@pytest.mark.requirement("TEN-5")
def test_switching_to_a_strangers_team_finds_nothing(client):
    client.force_login(owner_of(make_team()))
    theirs = make_stranger().memberships.get().team

    answers = {client.post(reverse("team_switch"), {"team": slug}).status_code for slug in (theirs.slug, "none", "")}

    assert answers == {404}


COOKIE_SETTINGS = ("NAME", "SECURE", "HTTPONLY", "SAMESITE", "DOMAIN", "PATH")
HTTPS_COOKIES = {
    "SESSION": ["__Host-session", True, True, "Lax", None, None],
    "CSRF": ["__Host-csrf", True, True, "Lax", None, None],
}
HTTP_COOKIES = {
    "SESSION": ["session", False, True, "Lax", None, None],
    "CSRF": ["csrf", False, True, "Lax", None, None],
}


@pytest.mark.requirement("AUTH-10")
@pytest.mark.parametrize(
    ("base_url", "expected"), [("https://definable.test", HTTPS_COOKIES), ("http://127.0.0.1:8000", HTTP_COOKIES)]
)
def test_cookies_are_bound_to_the_host_where_there_is_https(base_url: str, expected: dict, tmp_path):
    """The settings decide at start, so a new process reads them."""
    ask = (
        "import json, definable.settings as s; "
        f"names = {COOKIE_SETTINGS}; "
        "read = lambda kind: [getattr(s, f'{kind}_COOKIE_{name}', None) for name in names]; "
        "print(json.dumps({kind: read(kind) for kind in ('SESSION', 'CSRF')}))"
    )
    env = os.environ | {"BASE_URL": base_url, "STATE": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, check=True).stdout

    assert json.loads(said) == expected


@pytest.mark.requirement("AUTH-10")
def test_the_cookies_of_a_sign_in_carry_their_flags(client, settings):
    settings.SESSION_COOKIE_NAME, settings.SESSION_COOKIE_SECURE = "__Host-session", True
    settings.CSRF_COOKIE_NAME, settings.CSRF_COOKIE_SECURE = "__Host-csrf", True
    make_user(email="person@example.test", password=PASSWORD)

    client.get(reverse(LOGIN))
    client.post(reverse(LOGIN), {"login": "person@example.test", "password": PASSWORD})

    for name in ("__Host-session", "__Host-csrf"):
        cookie = client.cookies[name]
        assert (cookie["secure"], cookie["httponly"], cookie["path"], cookie["domain"], cookie["samesite"]) == (
            True,
            True,
            "/",
            "",
            "Lax",
        )


# --- resetting a password ---------------------------------------------------------------


def ask_reset(client: Client, email: str) -> str:
    client.post(reverse("account_reset_password"), {"email": email})
    return path_of(mail.outbox[-1].body)


def follow(client: Client, path: str):
    """Open a reset link; it leads to the same page without the token."""
    return client.get(path, follow=True)


def choose(client: Client, path: str, password: str):
    page = follow(client, path)
    return client.post(page.request["PATH_INFO"], {"password1": password})


@pytest.mark.requirement("AUTH-7")
def test_a_reset_link_works_once(client):
    user = make_user(email="person@example.test", password=PASSWORD)
    path = ask_reset(client, "PERSON@Example.test")

    choose(client, path, "another four word phrase")
    second = choose(Client(), path, "a thief's own long phrase")

    user.refresh_from_db()
    assert user.check_password("another four word phrase")
    assert "This link was used or is too old" in second.content.decode()
    assert list(Event.objects.values_list("action", "target_name")) == [
        ("accounts.password.changed", "person@example.test")
    ]


@pytest.mark.requirement("AUTH-7")
def test_a_reset_link_lasts_thirty_minutes(client, monkeypatch):
    make_user(email="person@example.test", password=PASSWORD)
    path = ask_reset(client, "person@example.test")
    now = PasswordResetTokenGenerator._now

    def opened_after(**time: float) -> str:
        monkeypatch.setattr(PasswordResetTokenGenerator, "_now", lambda self: now(self) + timedelta(**time))
        return follow(Client(), path).content.decode()

    assert "Choose a new password" in opened_after(minutes=29)
    assert "This link was used or is too old" in opened_after(minutes=30, seconds=2)


@pytest.mark.requirement("AUTH-7")
def test_a_reset_token_is_128_bits_and_stands_nowhere_but_in_the_mail(client, caplog):
    make_user(email="person@example.test", password=PASSWORD)

    response = client.post(reverse("account_reset_password"), {"email": "person@example.test"}, follow=True)
    token = path_of(mail.outbox[0].body).rstrip("/").rpartition("-")[2]
    opened = client.get(path_of(mail.outbox[0].body))

    assert len(token) * 4 >= 128  # hexadecimal
    assert token not in response.content.decode()
    assert token not in opened.headers["Location"]
    assert token not in follow(client, path_of(mail.outbox[0].body)).content.decode()
    assert token not in caplog.text
    with connection.cursor() as cursor:
        cursor.execute("SELECT password FROM accounts_user")
        assert token not in str(cursor.fetchall())


@pytest.mark.parametrize("email", ["person@example.test", "nobody@example.test"])
def test_a_mailed_link_leads_home_whatever_host_the_request_named(email: str):
    make_user(email="person@example.test", password=PASSWORD)

    Client(HTTP_HOST="localhost:6666").post(reverse("account_reset_password"), {"email": email})

    assert f"{settings.BASE_URL}/account/" in mail.outbox[0].body
    assert "6666" not in mail.outbox[0].body


@pytest.mark.requirement("AUTH-7")
@pytest.mark.parametrize("key", ["", "null", "None", "[]", "undefined", "set-password", "0", "a-b"])
def test_no_reset_token_is_not_a_token(client, key: str):
    user = make_user(email="person@example.test", password=PASSWORD)
    path = f"/account/password/reset/key/{user.pk.hex}-{key}/"

    page = client.get(path, follow=True)
    client.post(path, {"password1": "a thief's own long phrase", "key": "", "key[]": ""})

    user.refresh_from_db()
    assert page.status_code == 404 or "This link was used or is too old" in page.content.decode()
    assert user.check_password(PASSWORD)


def test_asking_for_a_reset_says_the_same_for_an_unknown_address(client):
    make_user(email="person@example.test", password=PASSWORD)

    answers = [
        client.post(reverse("account_reset_password"), {"email": email}, follow=True).content
        for email in ("person@example.test", "nobody@example.test")
    ]

    assert answers[0] == answers[1]


def test_a_mail_server_that_is_away_does_not_tell_who_has_an_account(client, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    make_user(email="person@example.test", password=PASSWORD)

    response = client.post(reverse("account_reset_password"), {"email": "person@example.test"}, follow=True)

    assert "If that address has an account" in response.content.decode()


def test_a_new_password_ends_every_other_session(client):
    user = make_user(email="person@example.test", password=PASSWORD)
    elsewhere = Client()
    for browser in (client, elsewhere):
        browser.post(reverse(LOGIN), {"login": "person@example.test", "password": PASSWORD})

    client.post(reverse("account_change_password"), {"oldpassword": PASSWORD, "password1": "another four word phrase"})

    user.refresh_from_db()
    assert user.check_password("another four word phrase")
    assert (is_signed_in(client), is_signed_in(elsewhere)) == (True, False)


# --- the demo's sign-in link ------------------------------------------------------------


def test_opening_the_link_shows_a_button_and_pressing_it_signs_in_once(client):
    owner = owner_of(make_team(is_demo=True))
    path = path_of(printed("sign_in_link"))

    opened = client.get(path)
    assert opened.status_code == 200
    assert not is_signed_in(client)

    assert client.post(path).headers["Location"] == reverse("home")
    assert is_signed_in(client)

    late = Client()
    gone = late.post(path)
    assert gone.status_code == late.get(path).status_code == 410
    assert "manage.py sign_in_link" in gone.content.decode()
    assert not is_signed_in(late)
    assert list(Event.objects.values_list("action", "actor_name")) == [("accounts.sign_in_link.used", owner.email)]


@pytest.mark.requirement("AUTH-9")
def test_the_link_makes_a_new_session_id(client):
    make_team(is_demo=True)
    session = client.session
    session["before"] = "sign-in"
    session.save()
    planted = session.session_key
    client.cookies[settings.SESSION_COOKIE_NAME] = planted

    client.post(path_of(printed("sign_in_link")))

    assert session_id(client) != planted
    assert not Session.objects.filter(session_key=planted).exists()


def test_the_link_lasts_fifteen_minutes(client, clock):
    make_team(is_demo=True)
    path = path_of(printed("sign_in_link"))

    clock(minutes=14)
    assert client.get(path).status_code == 200
    clock(minutes=15.1)
    assert client.post(path).status_code == 410
    assert not is_signed_in(client)


@pytest.mark.django_db(transaction=True)
def test_of_two_tries_at_once_one_signs_in():
    make_team(is_demo=True)
    token = actions.make_sign_in_link(user=User.objects.get(), at=app_now())
    start = Barrier(2)

    def use(_) -> str:
        try:
            start.wait(5)
            actions.use_sign_in_link(token=token, at=app_now())
            return "in"
        except actions.LinkGone:
            return "gone"
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(use, range(2))) == ["gone", "in"]


def test_the_link_is_kept_as_a_hash():
    make_team(is_demo=True)
    token = path_of(printed("sign_in_link")).split("/")[2]

    assert len(token) == 43
    assert token not in str(OneTimeLink.objects.values().get())


def test_only_a_demo_has_sign_in_links(client):
    make_team(owner=make_user(email="real@example.test"))

    with pytest.raises(CommandError, match="no demo team"):
        printed("sign_in_link")
    with pytest.raises(CommandError, match="no demo team"):
        printed("sign_in_link", email="real@example.test")
    assert OneTimeLink.objects.count() == 0


def test_a_link_made_before_the_demo_was_removed_is_useless(client):
    team = make_team(is_demo=True)
    path = path_of(printed("sign_in_link"))
    Team.objects.filter(pk=team.pk).update(is_demo=False)

    assert client.post(path).status_code == 410


def test_a_link_can_be_for_a_named_member(client):
    team = make_team(is_demo=True)
    auditor = make_member(team, "auditor", user=make_user(email="auditor@example.test"))

    client.post(path_of(printed("sign_in_link", email="AUDITOR@example.test")))

    assert client.get(reverse("account")).context["request"].user == auditor


# --- the first owner --------------------------------------------------------------------

FIRST = {"name": "Demo owner", "email": "first@example.test", "password": PASSWORD, "team_name": "First", "zone": "UTC"}


@pytest.mark.requirement("AUTH-8")
def test_there_is_no_default_account():
    assert User.objects.count() == 0


@pytest.mark.requirement("AUTH-8")
def test_nobody_signs_up_before_the_first_owner(client):
    response = sign_up(client)

    assert "This installation has no owner" in response.content.decode()
    assert User.objects.count() == 0


@pytest.mark.requirement("AUTH-8")
def test_the_printed_link_makes_the_first_owner_once(client):
    path = path_of(printed("first_owner"))

    assert client.get(path).status_code == 200
    assert User.objects.count() == 0
    assert client.post(path, FIRST).headers["Location"] == reverse("home")

    assert is_signed_in(client)
    assert User.objects.get().memberships.get().role == "owner"
    again = Client().post(path, FIRST | {"email": "second@example.test"})
    assert again.status_code == 410
    assert User.objects.count() == 1


@pytest.mark.requirement("AUTH-8")
def test_setup_is_never_open_once_an_owner_exists(client):
    path = path_of(printed("first_owner"))
    make_team()

    assert client.get(path).status_code == client.post(path, FIRST).status_code == 410
    assert printed("first_owner") == "This installation has an owner."
    assert not User.objects.filter(email="first@example.test").exists()


@pytest.mark.requirement("AUTH-8")
def test_a_newer_setup_link_ends_the_older():
    older, newer = path_of(printed("first_owner")), path_of(printed("first_owner"))

    assert Client().get(older).status_code == 410
    assert Client().get(newer).status_code == 200


@pytest.mark.requirement("AUTH-8")
@pytest.mark.parametrize("token", ["null", "None", "0", "undefined", "x" * 43])
def test_setup_needs_the_printed_token(client, token: str):
    printed("first_owner")

    assert client.post(f"/setup/{token}/", FIRST).status_code == 410
    assert User.objects.count() == 0


def test_a_refused_setup_leaves_the_link_alive(client):
    path = path_of(printed("first_owner"))

    assert client.post(path, FIRST | {"password": "short"}).status_code == 422
    assert client.post(path, FIRST).status_code == 302
