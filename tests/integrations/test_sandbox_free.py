"""How often free models may be asked, and the clock that tests of it can move."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.sandbox_fixture import Sandbox, start_sandbox

FREE = "openai/gpt-oss-20b:free"
OTHER_FREE = "google/gemma-4-31b-it:free"
PAID = "openai/gpt-4o-mini"
SAY = [{"role": "user", "content": "Reply with exactly: a cup of tea"}]
A_MINUTE, A_DAY, A_DAY_IF_MUCH_BOUGHT = 20, 50, 1000
LOW = "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"
HIGH = "Rate limit exceeded: free-models-per-day-high-balance. "


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    sandbox = start_sandbox()
    yield sandbox
    sandbox.stop()


@pytest.fixture
def box(running) -> Iterator[Sandbox]:
    """A calm one, at a minute's beginning, so that no test is split by the next one."""
    running.rules()
    now = running.advance()
    running.advance(60 - now.second - now.microsecond / 1e6)
    yield running
    running.real_time()


def ask(box: Sandbox, key: str, path: str = "/chat/completions", **body: Any) -> httpx.Response:
    question = {"model": FREE, "messages": SAY, "max_tokens": 20} | body
    return box.http.post(f"{box.url}{path}", json=question, headers={"authorization": f"Bearer {key}"})


def shown(box: Sandbox, key: str) -> dict[str, int]:
    answer = box.http.get(f"{box.url}/key", headers={"authorization": f"Bearer {key}"})
    return answer.json()["data"]["free_model_daily_requests"]


def milliseconds(moment: datetime) -> str:
    return str(int(moment.timestamp()) * 1000)


def test_the_twenty_first_attempt_of_a_minute_is_refused(box):
    key = box.key(balance=5)
    minute = box.advance().replace(second=0, microsecond=0)

    answers = [ask(box, key) for _ in range(A_MINUTE + 1)]

    assert [answer.status_code for answer in answers] == [200] * A_MINUTE + [429]
    error = answers[-1].json()["error"]
    limits = {
        "X-RateLimit-Limit": "20",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": milliseconds(minute + timedelta(minutes=1)),
    }
    assert error["message"] == "Rate limit exceeded: free-models-per-min. "
    assert error["metadata"] == {"error_type": "rate_limit_exceeded", "headers": limits, "provider_name": None}
    assert {name: answers[-1].headers[name] for name in limits} == limits


def test_the_next_minute_begins_again(box):
    key = box.key(balance=5)
    for _ in range(A_MINUTE):
        ask(box, key)

    assert ask(box, key).status_code == 429
    box.advance(60)
    assert ask(box, key).status_code == 200


@pytest.mark.parametrize(
    ("bought", "limit", "message"), [(9.99, A_DAY, LOW), (10, A_DAY_IF_MUCH_BOUGHT, HIGH), (0, A_DAY, LOW)]
)
def test_a_day_has_a_limit_that_depends_on_what_was_bought(box, bought, limit, message):
    key = box.key(balance=bought, free_used=limit - 1)
    midnight = box.advance().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)

    assert ask(box, key).status_code == 200
    refused = ask(box, key)

    assert (refused.status_code, refused.json()["error"]["message"]) == (429, message)
    assert refused.headers["X-RateLimit-Limit"] == str(limit)
    assert refused.headers["X-RateLimit-Reset"] == milliseconds(midnight)
    assert refused.json()["error"]["metadata"]["headers"]["X-RateLimit-Reset"] == milliseconds(midnight)


def test_a_day_ends_at_midnight_utc(box):
    key = box.key(balance=5, free_used=A_DAY)
    now = box.advance()
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)

    assert ask(box, key).status_code == 429
    box.advance((midnight - now).total_seconds())
    assert ask(box, key).status_code == 200
    assert shown(box, key) == {"limit": A_DAY, "used": 1, "remaining": A_DAY - 1}


def test_what_is_spent_does_not_lower_what_was_bought(box):
    key = box.key(balance=10)
    ask(box, key, model=PAID)

    assert shown(box, key)["limit"] == A_DAY_IF_MUCH_BOUGHT


def test_another_key_of_the_account_helps_nobody(box):
    keys = [box.key(balance=5, account="two keys"), box.key(account="two keys")]
    for turn in range(A_MINUTE):
        ask(box, keys[turn % 2], model=FREE if turn % 3 else OTHER_FREE)

    assert [ask(box, key).status_code for key in keys] == [429, 429]
    assert [shown(box, key)["used"] for key in keys] == [A_MINUTE, A_MINUTE]


@pytest.mark.parametrize(
    ("rule", "body", "status"),
    [
        ({"match": {"model": FREE}, "answer": {"kind": "status", "status": 503}}, {}, 503),
        ({"match": {"model": FREE}, "answer": {"kind": "empty"}}, {}, 200),
        (None, {"provider": {"zdr": True}}, 404),
    ],
)
def test_attempts_that_fail_count_too(box, rule, body, status):
    key = box.key(balance=5)
    box.rules(*([rule] if rule else []))

    assert ask(box, key, **body).status_code == status
    assert shown(box, key) == {"limit": A_DAY, "used": 1, "remaining": A_DAY - 1}


def test_refused_and_malformed_requests_do_not_count(box):
    key = box.key(balance=5, free_used=A_DAY)

    assert ask(box, key).status_code == 429
    assert ask(box, key, messages=[]).status_code == 400
    assert shown(box, key) == {"limit": A_DAY, "used": A_DAY, "remaining": 0}


def test_paid_models_are_neither_counted_nor_limited(box):
    key = box.key(balance=5, free_used=A_DAY)

    assert ask(box, key, model=PAID).status_code == 200
    assert shown(box, key)["used"] == A_DAY


def test_the_router_for_free_models_counts(box):
    key = box.key(balance=5)

    assert ask(box, key, model="openrouter/free").json()["model"].endswith(":free")
    assert shown(box, key)["used"] == 1


def test_a_paid_model_answers_when_the_free_one_is_used_up(box):
    key = box.key(balance=5, free_used=A_DAY)

    assert ask(box, key, models=[FREE, PAID]).json()["model"] == PAID


def test_messages_are_limited_in_their_own_shape(box):
    key = box.key(balance=5, free_used=A_DAY)

    answer = ask(box, key, "/messages")

    assert answer.status_code == 429
    assert answer.json()["error"] == {
        "type": "rate_limit_error",
        "message": LOW,
        "error_type": "rate_limit_exceeded",
    }
    assert answer.json()["metadata"]["headers"]["X-RateLimit-Limit"] == "50"
    assert answer.headers["X-RateLimit-Limit"] == "50"


def test_a_negative_balance_is_402_before_anything_is_counted(box):
    key = box.key(balance=-0.01)

    assert ask(box, key).status_code == 402
    assert shown(box, key)["used"] == 0


def test_the_count_of_a_day_survives_a_restart(tmp_path):
    first = start_sandbox(keys=tmp_path / "keys.json")
    key = first.key(balance=5, free_used=7)
    first.stop()

    second = start_sandbox(keys=tmp_path / "keys.json")
    used = shown(second, key)["used"]
    second.stop()

    assert used == 7


# The clock


def test_the_clock_moves_forward_and_back_to_real_time(box):
    before = box.advance()

    assert box.advance(86_400) - before >= timedelta(days=1)
    box.real_time()
    assert abs(box.advance() - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_daily_cap_is_over_when_the_day_is(box):
    capped = box.key(limit=0.000001, limit_reset="daily")
    ask(box, capped, model=PAID)

    assert ask(box, capped, model=PAID).status_code == 403
    box.advance(86_400)
    assert ask(box, capped, model=PAID).status_code == 200


@pytest.mark.parametrize("body", [{}, {"advance": -1}, {"advance": "soon"}, {"advance": True}, {"advance": 1e12}])
def test_a_malformed_wish_for_the_clock_is_refused(box, body):
    assert box.http.post(f"{box.root}/__sandbox/clock", json=body).status_code == 400


@pytest.mark.parametrize("used", [-1, 1.5, True, "many"])
def test_a_malformed_count_is_refused(box, used):
    assert box.http.post(f"{box.root}/__sandbox/keys", json={"free_used": used}).status_code == 400
