"""The stand-in's /activity: what was asked on the days that are over, by model and host."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from openrouter import errors

from tests.integrations.management import A_DAY, MODEL, Manager, hash_of
from tests.sandbox_fixture import Sandbox, start_sandbox

OTHER = "google/gemini-2.5-flash"


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


def activity(manager: Manager, **query: Any) -> list[dict[str, Any]]:
    answer = manager.send("GET", "/activity", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_only_management_keys_read_activity(box, manager):
    ordinary, _ = manager.create()

    assert manager.send("GET", "/activity", key=ordinary).status_code == 403
    assert box.http.get(f"{box.url}/activity").status_code == 401


def test_today_is_never_in_it_and_yesterday_is(box, manager):
    key, _ = manager.create()
    today = box.advance(0).date().isoformat()
    usage = manager.ask(key).json()["usage"]
    assert activity(manager) == []

    box.advance(A_DAY)

    (row,) = activity(manager)
    assert (row["date"], row["model"], row["provider_name"], row["requests"]) == (today, MODEL, "OpenAI", 1)
    assert (row["usage"], row["prompt_tokens"]) == (usage["cost"], usage["prompt_tokens"])
    assert row["completion_tokens"] == usage["completion_tokens"]
    assert activity(manager, date=today) == [row]


def test_answers_are_counted_by_day_model_and_host(box, manager):
    key, _ = manager.create()
    costs = [manager.ask(key).json()["usage"]["cost"] for _ in range(3)]
    manager.ask(key, model=OTHER)
    box.advance(A_DAY)
    manager.ask(key)
    box.advance(A_DAY)

    rows = activity(manager)

    assert [(row["model"], row["requests"]) for row in rows] == [(MODEL, 1), (OTHER, 1), (MODEL, 3)]
    assert rows[0]["date"] > rows[1]["date"] == rows[2]["date"]
    assert rows[2]["usage"] == pytest.approx(sum(costs), abs=1e-12)
    assert rows[0]["endpoint_id"] == rows[2]["endpoint_id"] != rows[1]["endpoint_id"]


def test_one_key_is_told_apart_by_its_hash_even_after_its_end(box, manager):
    first, _ = manager.create()
    second, _ = manager.create()
    for key in (first, first, second):
        manager.ask(key)
    manager.send("DELETE", f"/keys/{hash_of(first)}")
    box.advance(A_DAY)

    assert [row["requests"] for row in activity(manager)] == [3]
    assert [row["requests"] for row in activity(manager, api_key_hash=hash_of(first))] == [2]
    assert activity(manager, api_key_hash="none") == []


def test_other_accounts_are_not_in_it(box, manager):
    other = Manager(box)
    other.ask(other.create()[0])
    box.advance(A_DAY)

    assert activity(manager) == []
    assert len(activity(other)) == 1
    assert activity(other, user_id="user_x") == []


def test_what_is_older_than_thirty_days_is_forgotten(box, manager):
    key, _ = manager.create()
    manager.ask(key)

    box.advance(30 * A_DAY)
    assert len(activity(manager)) == 1
    box.advance(A_DAY)
    assert activity(manager) == []


def days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).date().isoformat()


@pytest.mark.parametrize(
    "query",
    [
        {"date": days_ago(0)},
        {"date": days_ago(31)},
        {"date": days_ago(-1)},
        {"date": "yesterday"},
        {"date": ""},
        {"date": "20250824"},
        {"date": "2026-02-30"},
        {"group_by": "model"},
        {"workspace_id": "mine"},
    ],
    ids=str,
)
def test_a_day_or_grouping_that_cannot_be_shown_is_refused(manager, query):
    assert manager.send("GET", "/activity", params=query).status_code == 400


@pytest.mark.parametrize("days", [1, 30])
def test_the_first_and_the_last_day_can_be_asked_for(manager, days):
    assert activity(manager, date=days_ago(days)) == []


def test_a_workspace_is_named_on_request(box, manager):
    key, shown = manager.create()
    manager.ask(key)
    box.advance(A_DAY)

    (plain,), (split,) = activity(manager), activity(manager, group_by="workspace")

    assert split == plain | {"workspace_id": shown["workspace_id"]}
    assert activity(manager, workspace_id=shown["workspace_id"]) == [plain]
    assert manager.send("GET", "/activity", params={"workspace_id": "0" * 32}).status_code == 404


def test_an_empty_answer_is_a_request_without_tokens(box, manager):
    key, _ = manager.create()
    box.rules({"answer": {"kind": "empty"}})
    manager.ask(key)
    box.rules()
    box.advance(A_DAY)

    (row,) = activity(manager)
    assert (row["requests"], row["prompt_tokens"], row["completion_tokens"], row["usage"]) == (1, 0, 0, 0)


def test_activity_survives_a_restart(tmp_path):
    first = start_sandbox(keys=tmp_path / "keys.json")
    manager = Manager(first)
    manager.ask(manager.create()[0])
    first.advance(A_DAY)
    before = activity(manager)
    first.stop()

    manager.box = second = start_sandbox(keys=tmp_path / "keys.json")
    second.advance(A_DAY)
    after = activity(manager)
    second.stop()

    assert after == before != []


def test_the_sdk_reads_activity(box, manager):
    key, _ = manager.create()
    manager.ask(key)
    box.advance(A_DAY)

    with manager.sdk() as sdk:
        (row,) = sdk.analytics.get_user_activity().data
        with pytest.raises(errors.BadRequestResponseError):
            sdk.analytics.get_user_activity(request={"date_": "soon"})

    assert (row.model, row.requests, row.cached_tokens) == (MODEL, 1, 0)
