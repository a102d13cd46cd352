"""The stand-in's /keys: who may manage which keys, and that what is asked of a key really holds."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from openrouter import errors

from tests.integrations.management import A_DAY, Manager, hash_of, message_of
from tests.sandbox_fixture import Sandbox, start_sandbox

NOT_YOURS = (403, "Only management keys can perform this operation")
NOT_THERE = (404, "Resource not found")


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


def in_utc(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


# Who may


EVERY = [("GET", "/keys"), ("POST", "/keys"), ("GET", "/keys/x"), ("PATCH", "/keys/x"), ("DELETE", "/keys/x")]


@pytest.mark.parametrize(("method", "path"), EVERY)
def test_only_management_keys_manage_keys(box, manager, method, path):
    ordinary, _ = manager.create()

    assert message_of(manager.send(method, path, key=ordinary, json={"name": "x"})) == NOT_YOURS
    assert manager.send(method, path, key="sk-or-v1-wrong").status_code == 401
    assert box.http.request(method, f"{box.url}{path}").status_code == 401


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_keys_of_another_account_and_management_keys_are_not_there(box, manager, method):
    theirs, _ = Manager(box).create(name="theirs")

    for key in (theirs, manager.key, "sk-or-v1-nobodys"):
        assert message_of(manager.send(method, f"/keys/{hash_of(key)}", json={})) == NOT_THERE
    assert manager.listed() == []


# Making


def test_a_new_key_is_shown_once_and_its_hash_is_its_name(manager):
    text, shown = manager.create(name="Worker", limit=2.5, limit_reset="weekly", include_byok_in_limit=True)

    assert shown["hash"] == hash_of(text)
    assert shown["label"] == f"{text[:12]}...{text[-4:]}"
    assert (shown["limit"], shown["limit_remaining"], shown["limit_reset"]) == (2.5, 2.5, "weekly")
    assert (shown["include_byok_in_limit"], shown["disabled"], shown["usage"]) == (True, False, 0)
    assert (shown["updated_at"], shown["expires_at"], shown["last_used_at"]) == (None, None, None)
    for answer in (manager.send("GET", "/keys"), manager.send("GET", f"/keys/{shown['hash']}")):
        assert answer.status_code == 200
        assert text not in answer.text


BAD = [
    {"name": None},
    {"name": ""},
    {"name": 7},
    {"limit": -1},
    {"limit": -0.01},
    {"limit": "5"},
    {"limit": True},
    {"limit_reset": "hourly"},
    {"limit_reset": ["daily"]},
    {"include_byok_in_limit": "yes"},
    {"expires_at": "2020-01-01T00:00:00Z"},
    {"expires_at": "2090-01-01T00:00:00+02:00"},
    {"expires_at": "2090-01-01T00:00:00"},
    {"expires_at": "2090-01-01T00:00Z"},
    {"expires_at": "2090-13-01T00:00:00Z"},
    {"expires_at": 4000000000},
    {"creator_user_id": ""},
    {"workspace_id": "mine"},
    {"workspace_id": "00000000-0000-4000-8000-000000000000"},
    {"external": "partner"},
    {"external": {"user": ""}},
]


@pytest.mark.parametrize("fields", BAD, ids=str)
def test_a_key_that_cannot_be_is_refused_and_not_made(manager, fields):
    answer = manager.send("POST", "/keys", json={"name": "Worker"} | fields)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("Invalid request parameters: ")
    assert manager.listed(include_disabled="true", include_expired="true") == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"name": "x", "limit": NaN}', b'{"name": "x", "limit": 1e999}', b"{"])
def test_a_body_that_is_no_wish_is_refused(manager, body):
    assert manager.send("POST", "/keys", content=body).status_code == 400
    assert manager.listed() == []


def test_unknown_fields_are_ignored(manager):
    _, shown = manager.create(colour="red", hash="mine", key="sk-or-v1-chosen")

    assert "colour" not in shown
    assert shown["hash"] != "mine"


def test_two_keys_made_at_once_under_one_name_are_two_keys(manager):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: manager.create(name="twin"), range(8)))

    assert len({text for text, _ in made}) == len({shown["hash"] for _, shown in made}) == 8
    assert manager.listed() == ["twin"] * 8


def test_a_key_whose_answer_got_lost_was_made_all_the_same(box, manager):
    box.rules({"match": {"path": "/keys", "method": "POST"}, "answer": {"kind": "cut", "at": "head"}})

    with pytest.raises(httpx.RemoteProtocolError):
        manager.create(name="orphan")

    assert manager.listed() == ["orphan"]


# Listing


def test_keys_are_listed_newest_first_by_the_hundred(manager):
    for number in range(101):
        manager.create(name=str(number))

    assert manager.listed() == [str(number) for number in range(100, 0, -1)]
    assert manager.listed(offset=100) == ["0"]
    assert manager.listed(offset=101) == manager.listed(offset=999_999) == []
    assert manager.listed(offset=1)[-1] == "0"


@pytest.mark.parametrize("query", [{"offset": -1}, {"offset": "x"}, {"offset": "9" * 5000}, {"include_disabled": "1"}])
def test_a_page_that_cannot_be_is_refused(manager, query):
    assert manager.send("GET", "/keys", params=query).status_code == 400


def test_disabled_and_expired_keys_are_listed_on_request_only(box, manager):
    manager.create(name="expired", expires_at=in_utc(60))
    disabled, _ = manager.create(name="disabled")
    manager.create(name="live")
    manager.change(disabled, disabled=True)
    box.advance(61)

    assert manager.listed() == ["live"]
    assert manager.listed(include_disabled="true") == ["live", "disabled"]
    assert manager.listed(include_expired="true") == ["live", "expired"]
    assert manager.listed(include_expired="true", include_disabled="true") == ["live", "disabled", "expired"]


def test_only_the_default_workspace_is_there(manager):
    _, shown = manager.create(name="here")

    assert manager.listed(workspace_id=shown["workspace_id"]) == ["here"]
    assert manager.create(name="too", workspace_id=shown["workspace_id"])[1]["workspace_id"] == shown["workspace_id"]
    assert message_of(manager.send("GET", "/keys", params={"workspace_id": "0" * 32})) == NOT_THERE


# Changing


def test_a_change_leaves_what_it_does_not_name(manager):
    key, before = manager.create(name="before", limit=3, limit_reset="daily", expires_at=in_utc(600))

    after = manager.change(key, name="after")

    assert after["updated_at"] is not None
    assert after | {"name": "before", "updated_at": None} == before


def test_null_takes_a_limit_away(manager):
    key, _ = manager.create(limit=3, limit_reset="daily")

    changed = manager.change(key, limit=None, limit_reset=None)

    assert (changed["limit"], changed["limit_remaining"], changed["limit_reset"]) == (None, None, None)


@pytest.mark.parametrize(
    "fields", [{}, {"colour": "red"}, {"expires_at": None}, {"expires_at": "2090-01-01T00:00:00Z"}]
)
def test_what_cannot_be_changed_is_ignored_and_the_key_stays_as_it_was(manager, fields):
    key, before = manager.create(expires_at=in_utc(600))

    assert manager.change(key, **fields) == before


BAD_CHANGES = [field for field in BAD if "limit" in str(field) and "byok" not in str(field)] + [
    {"disabled": "yes"},
    {"disabled": None},
    {"name": None},
    {"include_byok_in_limit": None},
    {"workspace_id": "mine"},
]


@pytest.mark.parametrize("fields", BAD_CHANGES, ids=str)
def test_a_change_that_cannot_be_changes_nothing(manager, fields):
    key, before = manager.create(limit=3)

    answer = manager.send("PATCH", f"/keys/{hash_of(key)}", json={"name": "after"} | fields)

    assert answer.status_code == 400
    assert manager.shown(key) == before


# What holds for a key that was made


def test_a_minted_key_answers_and_counts_its_usage(manager):
    key, _ = manager.create(limit=1)

    cost = manager.ask(key).json()["usage"]["cost"]

    shown = manager.shown(key)
    assert cost > 0
    assert [shown[name] for name in ("usage", "usage_daily", "usage_weekly", "usage_monthly")] == [cost] * 4
    assert shown["limit_remaining"] == pytest.approx(1 - cost, abs=1e-12)
    assert shown["last_used_at"] is not None
    assert shown["byok_usage"] == 0
    assert manager.send("GET", "/key", key=key).json()["data"]["usage"] == cost


def test_usage_of_a_day_ends_with_it_and_the_whole_stays(box, manager):
    key, _ = manager.create()
    cost = manager.ask(key).json()["usage"]["cost"]

    box.advance(40 * A_DAY)

    shown = manager.shown(key)
    assert [shown[name] for name in ("usage_daily", "usage_weekly", "usage_monthly", "usage")] == [0, 0, 0, cost]


def test_a_limit_below_what_was_spent_stops_the_key(manager):
    key, _ = manager.create()
    assert manager.ask(key).status_code == 200

    changed = manager.change(key, limit=0)

    assert changed["limit_remaining"] < 0
    assert message_of(manager.ask(key))[0] == 403
    assert message_of(manager.ask(key))[1].startswith("Key limit exceeded (total limit)")
    manager.change(key, limit=1)
    assert manager.ask(key).status_code == 200


def test_a_limit_of_zero_allows_nothing(manager):
    key, _ = manager.create(limit=0)

    assert manager.ask(key).status_code == 403


def test_a_daily_limit_starts_again_the_next_day(box, manager):
    key, _ = manager.create(limit=0.0000001, limit_reset="daily")

    assert [manager.ask(key).status_code for _ in range(2)] == [200, 403]
    box.advance(A_DAY)
    assert manager.ask(key).status_code == 200


def test_a_key_ends_when_it_was_said_to(box, manager):
    key, shown = manager.create(expires_at=in_utc(600))
    assert shown["expires_at"].endswith("Z")
    assert manager.ask(key).status_code == 200

    box.advance(601)

    assert message_of(manager.ask(key)) == (401, "This API key has expired.")
    assert manager.shown(key)["disabled"] is False


def test_a_disabled_key_is_refused_until_it_is_enabled_again(manager):
    key, _ = manager.create()

    manager.change(key, disabled=True)
    assert message_of(manager.ask(key)) == (401, "This API key is disabled.")
    manager.change(key, disabled=False)
    assert manager.ask(key).status_code == 200


def test_a_deleted_key_is_nobodys(manager):
    key, _ = manager.create()

    assert manager.send("DELETE", f"/keys/{hash_of(key)}").json() == {"deleted": True}

    assert message_of(manager.ask(key)) == (401, "User not found.")
    assert message_of(manager.send("GET", f"/keys/{hash_of(key)}")) == NOT_THERE
    assert message_of(manager.send("DELETE", f"/keys/{hash_of(key)}")) == NOT_THERE
    assert manager.listed(include_disabled="true") == []


def test_what_a_deleted_key_spent_stays_spent(manager):
    key, _ = manager.create()
    cost = manager.ask(key).json()["usage"]["cost"]
    manager.send("DELETE", f"/keys/{hash_of(key)}")

    assert manager.send("GET", "/credits").json()["data"]["total_usage"] == cost


def test_minted_keys_survive_a_crash_and_their_text_is_nowhere(tmp_path):
    first = start_sandbox(keys=tmp_path / "keys.json")
    before = Manager(first)
    key, shown = before.create(limit=2, expires_at=in_utc(600))
    gone, _ = before.create(name="gone")
    before.send("DELETE", f"/keys/{hash_of(gone)}")
    first.process.kill()
    first.stop()

    second = start_sandbox(keys=tmp_path / "keys.json")
    before.box = second
    after = before.send("GET", "/keys").json()["data"]
    second.stop()

    assert after == [shown]
    assert key not in (tmp_path / "keys.json").read_text()


def test_a_file_from_before_keys_had_names_is_still_read(tmp_path):
    text = "sk-or-v1-of-long-ago"
    account = {"total_credits": "5", "total_usage": "1"}
    row = {"sha256": hash_of(text), "label": "old", "account": "a", "management": True, "limit": None}
    row |= {"limit_reset": None, "disabled": False, "expires_at": None, "usage": "1", "spent": {"2026-01-01": "1"}}
    (tmp_path / "keys.json").write_text(json.dumps({"accounts": {"a": account}, "keys": [row]}))

    box = start_sandbox(keys=tmp_path / "keys.json")
    headers = {"authorization": f"Bearer {text}"}
    made = box.http.post(f"{box.url}/keys", headers=headers, json={"name": "new"})
    usage = box.http.get(f"{box.url}/credits", headers=headers).json()["data"]["total_usage"]
    box.stop()

    assert (made.status_code, usage) == (201, 1)


@pytest.mark.parametrize(("method", "path"), [("PUT", "/keys"), ("POST", "/keys/x"), ("GET", "/auth/keys")])
def test_a_known_path_refuses_other_methods(manager, method, path):
    assert manager.send(method, path).status_code == 405


# As the provider's SDK reads it


def test_the_sdk_makes_reads_changes_and_deletes_a_key(manager):
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    with manager.sdk() as sdk:
        made = sdk.api_keys.create(name="By the SDK", limit=5, limit_reset="monthly", expires_at=ends)
        read = sdk.api_keys.get(hash=made.data.hash).data
        changed = sdk.api_keys.update(hash=made.data.hash, name="Changed", disabled=True, limit=None).data
        listed = sdk.api_keys.list(include_disabled=True, include_expired=True, offset=0).data
        deleted = sdk.api_keys.delete(hash=made.data.hash)

    assert (read.name, read.limit, read.limit_reset, read.expires_at) == ("By the SDK", 5, "monthly", ends)
    assert made.data.hash == hash_of(made.key)
    assert (changed.name, changed.disabled, changed.limit) == ("Changed", True, None)
    assert [row.hash for row in listed] == [made.data.hash]
    assert deleted.DELETED is True


def refusals() -> list[Any]:
    return [
        pytest.param(lambda sdk: sdk.api_keys.create(name=""), errors.BadRequestResponseError, id="400"),
        pytest.param(lambda sdk: sdk.api_keys.get(hash="none"), errors.NotFoundResponseError, id="get"),
        pytest.param(lambda sdk: sdk.api_keys.update(hash="none"), errors.NotFoundResponseError, id="update"),
        pytest.param(lambda sdk: sdk.api_keys.delete(hash="none"), errors.NotFoundResponseError, id="delete"),
    ]


@pytest.mark.parametrize(("act", "kind"), refusals())
def test_the_sdk_knows_the_refusals(manager, act, kind):
    with manager.sdk() as sdk, pytest.raises(kind):
        act(sdk)


def test_the_sdk_is_told_that_a_management_key_is_needed(manager):
    ordinary, _ = manager.create()

    with manager.sdk(ordinary) as sdk, pytest.raises(errors.ForbiddenResponseError) as refused:
        sdk.api_keys.create(name="more")

    assert refused.value.data.error.message == NOT_YOURS[1]
