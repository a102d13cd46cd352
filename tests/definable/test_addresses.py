"""Rules over all addresses: looking changes nothing, and nobody is led away from this site."""

from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from tests.factories import make_team, owner_of

AWAY = [
    "https://evil.example",
    "http://evil.example/",
    "HTTPS://EVIL.EXAMPLE",
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "/\\/evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:\\\\evil.example",
    "https:///evil.example",
    "http:evil.example",
    "//evil.example\\@testserver",
    "https://testserver@evil.example",
    "https://testserver:80@evil.example",
    "https://testserver.evil.example",
    "https://evil.example/testserver",
    "https://evil.example?testserver",
    "https://evil.example#testserver",
    "//evil.example:80",
    "//evil%2Eexample",
    "//[::1]/",
    "//user@evil.example",
    "/%09/evil.example\t",
    "\t//evil.example",
    " //evil.example",
    "\n//evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "\x00//evil.example",
    "\x01https://evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt://testserver/%0aalert(1)",
    "java\nscript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "file:///etc/passwd",
    "ftp://evil.example",
    "mailto:a@evil.example",
    "intent://evil.example",
    "//evil。example",
    "https://evil.example/account/",
]


def stays(location: str) -> bool:
    """Judge as a browser does: it drops tabs and line ends and reads a backslash as a slash."""
    seen = "".join(letter for letter in location if letter > " ").replace("\\", "/")
    return seen.startswith("/") and not seen.startswith("//") and not urlsplit(seen).netloc


@pytest.fixture
def signed_in(db, client) -> Client:
    client.force_login(owner_of(make_team()))
    return client


def test_the_judge_knows_near_from_far():
    assert stays("/account/")
    assert [address for address in AWAY if stays(address) and "%09" not in address] == []


@pytest.mark.requirement("HDR-8")
@pytest.mark.parametrize("address", AWAY)
def test_next_never_leads_to_another_site(signed_in, address):
    response = signed_in.get(reverse("account_login"), {"next": address})
    assert response.status_code == (400 if "\0" in address else 302)
    assert stays(response.get("Location", "/"))


@pytest.mark.requirement("HDR-8")
def test_next_leads_on_within_the_site(signed_in):
    assert signed_in.get(reverse("account_login"), {"next": "/account/"})["Location"] == "/account/"


@pytest.mark.requirement("HDR-8")
@pytest.mark.parametrize("address", ["https://evil.example", "//evil.example", "/\\evil.example"])
def test_htmx_is_never_sent_to_another_site(signed_in, address):
    response = signed_in.get(reverse("account_login"), {"next": address}, headers={"HX-Request": "true"})
    assert stays(response["HX-Redirect"])
    assert "HX-Location" not in response


def routes(patterns: list, before: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, before + str(pattern.pattern))
        else:
            yield before + str(pattern.pattern), pattern


def addresses(team_slug: str) -> list[str]:
    """Return one address for every named route. Ids are of nothing: those pages answer 404."""
    return [_address(pattern, team_slug) for _, pattern in routes(get_resolver().url_patterns) if pattern.name]


def _address(pattern: URLPattern, team_slug: str) -> str:
    for team in ({"team_slug": team_slug}, {}):
        for filler in (str(uuid4()), "1", "nothing"):
            names = set(pattern.pattern.regex.groupindex)
            try:
                return reverse(pattern.name, kwargs=dict.fromkeys(names, filler) | team)
            except Exception as error:  # noqa: BLE001  (the next filler is tried)
                last = error
    raise last


def database() -> dict[str, tuple]:
    """Return how many rows each table has and a hash of them; sessions move by themselves."""
    tables = set(connection.introspection.table_names()) - {"django_session"}
    with connection.cursor() as cursor:
        return {table: _content(cursor, table) for table in tables}


def _content(cursor, table: str) -> tuple:
    cursor.execute(f'SELECT count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM "{table}" t')
    return cursor.fetchone()


@pytest.mark.requirement("HDR-5")
def test_looking_at_pages_changes_nothing(db, client):
    team = make_team()
    client.force_login(owner_of(team))
    before = database()

    answers = {address: client.get(address).status_code for address in addresses(team.slug) * 2}

    assert reverse("member_list", args=[team.slug]) in answers
    assert {address: status for address, status in answers.items() if status == 500} == {}
    assert {table: rows for table, rows in database().items() if rows != before[table]} == {}
