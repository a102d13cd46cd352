"""The stand-in's OAuth: what a user agrees to, the code for it, and the one key that the code becomes."""

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from openrouter import errors

from tests.integrations.management import A_DAY, Manager, hash_of, message_of
from tests.sandbox_fixture import Sandbox, start_sandbox

CALLBACK = "http://localhost:8000/oauth/back?state=a%2Fb&team=1"
VERIFIER = "verifier-of-a-test-0123456789-abcdefghijklm"
CHALLENGE = urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
WRONG = (403, "Invalid code or code_verifier")
TEN_MINUTES = 600


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    running = start_sandbox()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def calm(box) -> None:
    box.rules()
    box.real_time()


@pytest.fixture
def manager(box) -> Manager:
    return Manager(box)


def page_url(box: Sandbox, **query: Any) -> str:
    asked = {"callback_url": CALLBACK, "code_challenge": CHALLENGE, "code_challenge_method": "S256"} | query
    return f"{box.root}/auth?{urlencode({name: value for name, value in asked.items() if value is not None})}"


def authorize(box: Sandbox, account: str = "shared", **query: Any) -> str:
    """A code, as a user of this account would let one be made."""
    return box.consent(page_url(box, **query), account=account)["code"]


def exchange(box: Sandbox, code: str, **fields: Any) -> httpx.Response:
    body = {"code": code, "code_verifier": VERIFIER, "code_challenge_method": "S256"} | fields
    sent = {name: value for name, value in body.items() if value != ""}
    return box.http.post(f"{box.url}/auth/keys", content=json.dumps(sent))


# The page


def press(box: Sandbox, page: httpx.Response, decision: str) -> httpx.Response:
    """Send the page's form as a browser would when this button is pressed."""
    inputs = re.findall(r'<input(?: type="hidden")? name="(\w+)" value="([^"]*)"', page.text)
    fields = {name: unescape(value) for name, value in inputs}
    return box.http.post(f"{box.root}/auth", data=fields | {"decision": decision})


def test_the_page_sends_the_browser_back_with_a_code_and_all_it_brought(box):
    page = box.http.get(page_url(box))
    back = press(box, page, "approve")

    assert (page.status_code, back.status_code) == (200, 303)
    assert back.headers["location"].startswith(f"{CALLBACK}&code=")
    query = parse_qs(urlsplit(back.headers["location"]).query)
    assert (query["state"], query["team"], len(query["code"])) == (["a/b"], ["1"], 1)
    assert exchange(box, query["code"][0]).status_code == 200


def test_a_state_outside_the_callback_is_not_sent_back(box):
    back = press(box, box.http.get(page_url(box, callback_url="https://app.example/back", state="s")), "approve")

    assert parse_qs(urlsplit(back.headers["location"]).query).keys() == {"code"}


def test_denied_consent_brings_no_code(box):
    back = press(box, box.http.get(page_url(box)), "deny")

    query = parse_qs(urlsplit(back.headers["location"]).query)
    assert (query["error"], query["state"], "code" in query) == (["access_denied"], ["a/b"], False)


def test_without_a_callback_the_code_is_shown_to_be_copied(box):
    page = box.http.get(page_url(box, callback_url=None))

    code = re.search(r"<code>([\w-]+)</code>", press(box, page, "approve").text)[1]
    assert exchange(box, code).status_code == 200
    assert "<code>" not in press(box, page, "deny").text


@pytest.mark.parametrize(
    "query",
    [
        {"callback_url": "http://app.example/back"},
        {"callback_url": "ftp://localhost/back"},
        {"callback_url": "javascript:alert(1)"},
        {"callback_url": "https://"},
        {"callback_url": "http://localhost.evil.example/"},
        {"callback_url": "http://[::1/"},
        {"callback_url": None, "code_challenge": None},
        {"code_challenge_method": "S512"},
        {"key_label": "x" * 101},
    ],
    ids=str,
)
def test_what_cannot_be_agreed_to_is_not_asked(box, query):
    page = box.http.get(page_url(box, **query))

    assert page.status_code == 400
    assert "<form" not in page.text
    assert box.http.post(f"{box.root}/auth", data={"decision": "approve"} | query).status_code == 400


def test_the_page_shows_names_and_runs_nothing(box):
    hostile = '"><script>alert(1)</script>'

    page = box.http.get(page_url(box, key_label=hostile, code_challenge=hostile)).text

    assert "<script>" not in page
    assert page.count("&lt;script&gt;") == 3


@pytest.mark.parametrize(("deny", "has_code"), [(False, True), (True, False)])
def test_a_test_can_decide_without_a_browser(box, deny, has_code):
    decided = box.consent(page_url(box), deny=deny)

    assert ("code" in decided, "code=" in decided["location"]) == (has_code, has_code)
    assert decided["location"].startswith(CALLBACK)


@pytest.mark.parametrize("wish", [{}, {"url": 7}, {"url": "/auth"}, {"url": "/auth?code_challenge=x", "colour": 1}])
def test_a_malformed_decision_is_refused(box, wish):
    assert box.http.post(f"{box.root}/__sandbox/authorize", json=wish).status_code == 400


# The exchange


def test_a_code_becomes_a_key_of_the_account_that_agreed(box, manager):
    answer = exchange(box, authorize(box, manager.account, key_label="Definable")).json()

    assert answer.keys() == {"key", "user_id"}
    shown = manager.shown(answer["key"])
    assert (shown["name"], shown["creator_user_id"]) == ("Definable", answer["user_id"])
    assert manager.ask(answer["key"]).status_code == 200


def test_a_key_without_a_label_is_named_for_who_asked(box, manager):
    exchange(box, authorize(box, manager.account, callback_url="https://app.example/back"))

    assert manager.listed() == ["app.example"]


def test_a_code_works_once(box, manager):
    code = authorize(box, manager.account)

    assert exchange(box, code).status_code == 200
    assert message_of(exchange(box, code)) == WRONG
    assert len(manager.listed()) == 1


def test_a_code_ends_after_ten_minutes(box, manager):
    late, in_time = authorize(box, manager.account), authorize(box, manager.account)

    box.advance(TEN_MINUTES - 30)
    assert exchange(box, in_time).status_code == 200
    box.advance(31)

    assert message_of(exchange(box, late)) == (403, "Authorization code expired")
    assert message_of(exchange(box, late)) == WRONG


@pytest.mark.parametrize("verifier", ["", "another", CHALLENGE, VERIFIER + " ", "\ud800"])
def test_a_wrong_verifier_is_refused_and_uses_the_code_up(box, verifier):
    code = authorize(box)

    assert message_of(exchange(box, code, code_verifier=verifier)) == WRONG
    assert message_of(exchange(box, code)) == WRONG


def test_a_verifier_for_a_code_without_a_challenge_is_refused(box):
    bare = authorize(box, code_challenge=None, code_challenge_method=None)
    covered = authorize(box, code_challenge=None, code_challenge_method=None)

    assert exchange(box, bare, code_verifier="", code_challenge_method=None).status_code == 200
    assert message_of(exchange(box, covered, code_challenge_method=None)) == WRONG


@pytest.mark.parametrize("method", ["plain", "S512", "s256", 7])
def test_another_method_than_agreed_is_refused_and_the_code_stays(box, method):
    code = authorize(box)

    assert message_of(exchange(box, code, code_challenge_method=method)) == (400, "Invalid code_challenge_method")
    assert exchange(box, code).status_code == 200


@pytest.mark.parametrize("method", ["plain", None])
def test_a_plain_challenge_is_the_verifier_itself(box, method):
    code = authorize(box, code_challenge=VERIFIER, code_challenge_method=method)

    assert exchange(box, code, code_challenge_method="plain").status_code == 200


def test_the_method_may_be_left_out_of_the_exchange(box):
    assert exchange(box, authorize(box), code_challenge_method=None).status_code == 200


@pytest.mark.parametrize("body", [{}, {"code": None}, {"code": ""}, {"code": 7}, {"code": "x", "code_verifier": 7}])
def test_an_exchange_without_a_code_is_refused(box, body):
    assert box.http.post(f"{box.url}/auth/keys", json=body).status_code == 400


def test_a_code_that_nobody_issued_is_refused(box):
    assert message_of(exchange(box, "auth_code_none")) == WRONG


def test_one_code_exchanged_twice_at_once_becomes_one_key(box, manager):
    code = authorize(box, manager.account)
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(answer.status_code for answer in pool.map(lambda _: exchange(box, code), range(8)))

    assert statuses == [200] + [403] * 7
    assert len(manager.listed()) == 1


# Codes for one's own account


def own_code(manager: Manager, key: str = "", **fields: Any) -> httpx.Response:
    body = {"callback_url": CALLBACK, "code_challenge": CHALLENGE, "code_challenge_method": "S256"} | fields
    return manager.send("POST", "/auth/keys/code", key=key, json=body)


def test_a_code_of_ones_own_carries_limits_into_its_key(box, manager):
    ends = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    mine, _ = manager.create()
    limits = {"limit": 2, "usage_limit_type": "monthly", "expires_at": ends, "key_label": "Mine"}

    code = own_code(manager, mine, **limits).json()["data"]["id"]
    key = exchange(box, code).json()["key"]

    shown = manager.shown(key)
    assert (shown["limit"], shown["limit_reset"], shown["name"]) == (2, "monthly", "Mine")
    assert shown["expires_at"].startswith(ends[:-1])
    box.advance(A_DAY + 1)
    assert manager.ask(key).status_code == 401


@pytest.mark.parametrize(
    "fields",
    [
        {"callback_url": ""},
        {"callback_url": "http://app.example"},
        {"limit": -1},
        {"usage_limit_type": "hourly"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"key_label": "x" * 101},
        {"workspace_id": "ed4728ff-ee3a-4393-8dac-4deaef7fb217"},
        {"code_challenge_method": "S512"},
    ],
    ids=str,
)
def test_a_code_of_ones_own_that_cannot_be_is_refused(manager, fields):
    assert own_code(manager, **fields).status_code == 400


def test_a_code_of_ones_own_needs_a_key(manager):
    assert own_code(manager, "sk-or-v1-wrong").status_code == 401


# As the provider's SDK reads it


def test_the_sdk_exchanges_a_code(box, manager):
    with manager.sdk() as sdk:
        code = sdk.o_auth.create_auth_code(
            callback_url=CALLBACK, code_challenge=CHALLENGE, code_challenge_method="S256"
        )
        made = sdk.o_auth.exchange_auth_code_for_api_key(
            code=code.data.id, code_verifier=VERIFIER, code_challenge_method="S256"
        )
        with pytest.raises(errors.ForbiddenResponseError) as again:
            sdk.o_auth.exchange_auth_code_for_api_key(code=code.data.id, code_verifier=VERIFIER)

    assert manager.shown(made.key)["hash"] == hash_of(made.key)
    assert made.user_id.startswith("user_")
    assert again.value.data.error.message == WRONG[1]


def test_no_line_of_the_journal_holds_a_key_or_a_code(box):
    code = authorize(box)
    key = exchange(box, code).json()["key"]

    lines = box.journal_path.read_text()
    assert "/api/v1/auth/keys" in lines
    assert [secret for secret in (key, code, VERIFIER) if secret in lines] == []
