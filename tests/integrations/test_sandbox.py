"""What the stand-in promises to those who script it: faults, money, journal, records, sameness."""

import ast
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from hashlib import sha256
from typing import Any

import httpx
import pytest

from tests.sandbox_fixture import ROOT, Sandbox, start_sandbox

FOLDER = ROOT / "integrations" / "openrouter" / "sandbox"
DELAY = 60
MODEL = "openai/gpt-4o-mini"
OTHER = "google/gemini-2.5-flash"
SAY = [{"role": "user", "content": "Reply with exactly: a cup of tea"}]
CHAT, MESSAGES = "/chat/completions", "/messages"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    running = start_sandbox(generation_delay=DELAY)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def calm(box) -> None:
    box.rules()


@pytest.fixture(scope="module")
def key(box) -> str:
    return box.key()


@pytest.fixture
def post(box, key):
    """Send one question with an ordinary key."""

    def send(path: str = CHAT, *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        return post_with(box, key, path, headers=headers, **body)

    return send


def post_with(box: Sandbox, key: str, path: str = CHAT, *, headers=None, **body: Any) -> httpx.Response:
    question = {"model": MODEL, "messages": SAY, "max_tokens": 100} | body
    allowed = {"authorization": f"Bearer {key}"} | (headers or {})
    return box.http.post(f"{box.url}{path}", json=question, headers=allowed)


def get(box: Sandbox, key: str, path: str, **query: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return box.http.get(f"{box.url}{path}", params=query, headers=headers)


def events(answer: httpx.Response) -> list[str]:
    return [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]


def cost_of(answer: httpx.Response) -> Decimal:
    return json.loads(answer.text, parse_float=Decimal)["usage"]["cost"]


def text_of(answer: httpx.Response) -> str:
    return answer.json()["choices"][0]["message"]["content"]


# Faults


@pytest.mark.parametrize("status", [402, 403, 429, 500, 502, 503, 529])
def test_a_scripted_status_is_answered_in_the_shape_of_the_path(box, post, status):
    box.rules({"answer": {"kind": "status", "status": status, "retry_after": 7, "metadata": {"raw": "busy"}}})

    chat, messages = post(CHAT), post(MESSAGES)

    assert (chat.status_code, chat.json()["error"]["code"], chat.headers["retry-after"]) == (status, status, "7")
    assert chat.json()["error"]["metadata"]["raw"] == "busy"
    assert (messages.status_code, messages.json()["type"]) == (status, "error")


def test_a_scripted_status_without_a_hint_names_no_time(box, post):
    box.rules({"answer": {"kind": "status", "status": 429}})

    assert "retry-after" not in post().headers


def test_a_rule_that_names_a_model_lets_the_next_model_answer(box, post):
    box.rules({"match": {"model": MODEL}, "answer": {"kind": "status", "status": 429}})

    answer = post(models=[MODEL, OTHER], headers={"X-OpenRouter-Metadata": "enabled"}).json()

    assert answer["model"] == OTHER
    assert answer["openrouter_metadata"]["attempts"] == [
        {"provider": "OpenAI", "model": MODEL, "status": 429},
        {"provider": "Google AI Studio", "model": OTHER, "status": 200},
    ]


def test_when_every_model_fails_the_last_error_tells_of_the_others(box, post):
    box.rules(
        {"match": {"model": MODEL}, "answer": {"kind": "status", "status": 429}},
        {"match": {"model": OTHER}, "answer": {"kind": "status", "status": 503}},
    )

    answer = post(models=[MODEL, OTHER])

    assert answer.status_code == 503
    assert answer.json()["error"]["metadata"]["previous_errors"] == [
        {"provider": "OpenAI", "code": "rate_limit_exceeded", "status": 429}
    ]


@pytest.mark.parametrize("match", [{}, {"model": MODEL}])
def test_a_refusal_can_be_slow_to_come(box, post, match):
    box.rules({"match": match, "answer": {"kind": "status", "status": 503, "delay": 0.2}})
    began = time.monotonic()

    assert post().status_code == 503
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("last", [503, None])
def test_slow_refusals_add_up_over_the_models_tried(box, post, last):
    refusals = [(MODEL, 429), (OTHER, last)] if last else [(MODEL, 429)]
    box.rules(
        *(
            {"match": {"model": each}, "answer": {"kind": "status", "status": status, "delay": 0.15}}
            for each, status in refusals
        )
    )
    began = time.monotonic()

    assert post(models=[MODEL, OTHER]).status_code == (last or 200)
    assert time.monotonic() - began >= 0.15 * len(refusals)


def test_a_rule_without_a_model_refuses_the_whole_request(box, post):
    box.rules({"match": {"path": "/api/v1/chat/completions"}, "answer": {"kind": "status", "status": 503}})

    assert post(models=[MODEL, OTHER]).status_code == 503
    assert post(MESSAGES).status_code == 200


@pytest.mark.parametrize(
    ("match", "statuses"),
    [
        ({"nth": 2}, [200, 503, 200, 200, 200, 200]),
        ({"nth": [1, 4]}, [503, 200, 200, 503, 200, 200]),
        ({"every": 3}, [200, 200, 503, 200, 200, 503]),
        ({"every": 3, "model": "openai/*"}, [200, 200, 503, 200, 200, 503]),
    ],
)
def test_a_rule_counts_the_requests_it_fits(box, post, match, statuses):
    box.rules({"match": match, "answer": {"kind": "status", "status": 503}})

    assert [post().status_code for _ in range(6)] == statuses


def test_a_rule_fires_no_more_than_its_times(box, post):
    box.rules({"answer": {"kind": "status", "status": 503, "times": 2}})

    assert [post().status_code for _ in range(4)] == [503, 503, 200, 200]
    assert [(rule["seen"], rule["fired"]) for rule in box.rules_in_force()] == [(4, 2)]


@pytest.mark.parametrize(("method", "statuses"), [("get", (200, 503)), ("POST", (503, 200))])
def test_a_rule_can_ask_for_a_method(box, post, key, method, statuses):
    box.rules({"match": {"method": method}, "answer": {"kind": "status", "status": 503}})

    assert (post().status_code, get(box, key, "/key").status_code) == statuses


@pytest.mark.parametrize("header", [{"X-Persona": "night owl"}, "X-Persona: night owl", "x-persona"])
def test_a_rule_can_ask_for_a_header(box, post, header):
    box.rules({"match": {"header": header}, "answer": {"kind": "status", "status": 503}})

    assert post().status_code == 200
    assert post(headers={"x-persona": "night owl"}).status_code == 503


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"answer": {"kind": "no such kind"}},
        {"match": {"colour": "red"}, "answer": {"kind": "empty"}},
        {"match": {"every": 0}, "answer": {"kind": "empty"}},
        {"match": {"method": ["POST"]}, "answer": {"kind": "empty"}},
        {"answer": {"kind": "status", "status": "busy"}},
        {"answer": {"kind": "silence", "delay": -1}},
        {"answer": {"kind": "dear", "factor": 0.5}},
    ],
)
def test_a_malformed_rule_is_refused(box, rule):
    answer = box.http.post(f"{box.root}/__sandbox/rules", json=rule)

    assert answer.status_code == 400
    assert box.rules_in_force() == []


def test_an_error_in_200_has_no_choices(box, post):
    box.rules({"answer": {"kind": "error_in_200", "status": 502, "message": "Provider returned error"}})

    answer = post()

    assert answer.status_code == 200
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"]["code"] == 502
    assert post(MESSAGES).json()["type"] == "error"


def test_an_empty_answer_costs_nothing(box, post):
    box.rules({"answer": {"kind": "empty"}})

    assert (post().json()["choices"], post().json()["usage"]["cost"]) == ([], 0)
    assert (post(MESSAGES).json()["content"], post(MESSAGES).json()["usage"]["cost"]) == ([], 0)


def test_an_answer_that_breaks_without_streaming_keeps_its_first_half(box, post):
    box.rules({"answer": {"kind": "mid_stream_error", "status": 502}})

    choice = post().json()["choices"][0]

    assert choice["finish_reason"] == "error"
    assert "a cup of tea".startswith(choice["message"]["content"])
    assert choice["error"]["code"] == 502


def test_a_stream_that_breaks_ends_without_done(box, post):
    box.rules({"answer": {"kind": "mid_stream_error", "status": 502}})

    found = events(post(stream=True))

    assert "[DONE]" not in found
    assert json.loads(found[-1])["choices"][0]["finish_reason"] == "error"


def test_silence_lasts_until_the_line_is_cut(box, post):
    box.rules({"answer": {"kind": "silence", "delay": 0.2}})
    began = time.monotonic()

    with pytest.raises(httpx.RemoteProtocolError):
        post()

    assert time.monotonic() - began >= 0.2


def test_silence_without_a_delay_outlasts_the_client(box, key):
    box.rules({"answer": {"kind": "silence"}})

    with pytest.raises(httpx.ReadTimeout):
        box.http.get(f"{box.url}/key", headers={"authorization": f"Bearer {key}"}, timeout=0.3)


@pytest.mark.parametrize("streams", [True, False])
def test_a_slow_answer_arrives_whole(box, post, streams):
    box.rules({"answer": {"kind": "slow", "delay": 0.02}})
    began = time.monotonic()

    answer = post(stream=streams)

    assert time.monotonic() - began >= 0.1
    assert "[DONE]" in answer.text if streams else text_of(answer) == "a cup of tea"


@pytest.mark.parametrize("where", ["head", "body"])
@pytest.mark.parametrize("streams", [True, False])
def test_a_cut_connection_is_noticed(box, post, streams, where):
    box.rules({"answer": {"kind": "cut", "at": where}})

    with pytest.raises(httpx.RemoteProtocolError):
        post(stream=streams)


def test_garbage_is_not_json(box, post):
    box.rules({"answer": {"kind": "garbage"}})

    with pytest.raises(ValueError):
        post().json()
    with pytest.raises(ValueError):
        json.loads(events(post(stream=True))[-1])


def test_a_dear_answer_is_billed_at_ten_times_its_price(box, post):
    usual = cost_of(post())
    box.rules({"answer": {"kind": "dear"}})

    assert cost_of(post()) == usual * 10
    assert Decimal(box.journal()[-1]["cost"]) == usual * 10


@pytest.mark.parametrize("kind", ["error_in_200", "empty", "garbage"])
def test_lists_can_go_wrong_too(box, key, kind):
    box.rules({"match": {"path": "/models"}, "answer": {"kind": kind}})

    answer = get(box, key, "/models")

    assert answer.status_code == 200
    assert '"id":' not in answer.text


# Requests that do not fit


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "role"),
        ({"temperature": 2.1}, 400, "temperature"),
        ({"temperature": "warm"}, 400, "temperature"),
        ({"top_p": -0.1}, 400, "top_p"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 1.5}, 400, "max_tokens"),
        ({"stop": ["1", "2", "3", "4", "5"]}, 400, "stop"),
        ({"top_logprobs": 3}, 400, "logprobs"),
        ({"user": "u" * 257}, 400, "user"),
        ({"tools": [{"type": "function", "function": {}}]}, 400, "tools"),
        ({"tool_choice": "perhaps"}, 400, "tool_choice"),
        ({"model": "no/such-model"}, 400, "no/such-model is not a valid model ID"),
        ({"model": "openai/text-embedding-3-small"}, 400, "embeddings"),
        ({"model": "cohere/command-a", "tools": [{"type": "function", "function": {"name": "f"}}]}, 404, "tool use"),
    ],
)
def test_a_question_that_does_not_fit_is_refused_by_name(post, body, status, word):
    answer = post(**body)

    assert answer.status_code == status
    assert word in answer.json()["error"]["message"]


def test_messages_take_fallbacks_or_models_but_not_both(post):
    answer = post(MESSAGES, fallbacks=[{"model": OTHER}], models=[OTHER])

    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_an_unknown_model_says_why_and_that_trying_again_is_useless(post):
    availability = post(model="no/such-model").json()["error"]["availability"]

    assert availability["code"] == "model_not_found"
    assert availability["retryable"] is False
    assert availability["requested_models"] == ["no/such-model"]


def test_a_prompt_beyond_the_context_is_refused_and_the_next_model_tried(post):
    long = [{"role": "user", "content": "word " * 140_000}]

    answer = post(messages=long)

    assert answer.status_code == 400
    assert answer.json()["error"]["metadata"]["error_type"] == "context_length_exceeded"
    assert post(messages=long, models=[MODEL, OTHER]).json()["model"] == OTHER


def test_fields_nobody_knows_are_ignored(post):
    assert text_of(post(no_such_field={"a": 1})) == "a cup of tea"


def test_answers_now_and_then_carry_what_nobody_announced(post):
    answers = [post().json() for _ in range(8)]

    assert 0 < sum("x_unannounced" in answer for answer in answers) < len(answers)


@pytest.mark.parametrize(
    ("path", "status"), [("/no/such/path", 404), ("/models/openai", 404), ("/chat/completions", 405)]
)
def test_unknown_paths_and_methods_are_refused(box, key, path, status):
    assert get(box, key, path).status_code == status


@pytest.mark.parametrize(("size", "status"), [(2, 200), (11, 413)])
def test_large_bodies_are_read_up_to_a_limit(post, size, status):
    filler = [{"role": "user", "content": "x" * size * 1024 * 1024}]

    assert post(model=OTHER, messages=[*filler, *SAY]).status_code == status


# Money


def test_an_answer_costs_its_tokens_at_the_listed_price(box, post, key):
    pricing = get(box, key, f"/models/{MODEL}/endpoints").json()["data"]["endpoints"][0]["pricing"]
    usage = json.loads(post().text, parse_float=Decimal)["usage"]

    prompt = Decimal(pricing["prompt"]) * usage["prompt_tokens"]
    completion = Decimal(pricing["completion"]) * usage["completion_tokens"]
    assert usage["cost"] == prompt + completion


def test_what_a_key_spends_shows_on_it_and_on_its_account(box):
    spender = box.key(balance=5, account="household")
    manager = box.key(management=True, account="household")
    cost = sum(post_with(box, spender).json()["usage"]["cost"] for _ in range(3))

    shown = get(box, spender, "/key").json()["data"]

    assert shown["usage"] == shown["usage_daily"] == shown["usage_monthly"] == pytest.approx(cost)
    assert get(box, manager, "/credits").json()["data"] == {"total_credits": 5, "total_usage": pytest.approx(cost)}


@pytest.mark.parametrize("reset", [None, "daily"])
def test_a_key_at_its_cap_is_refused_with_403(box, reset):
    capped = box.key(limit=0.000001, limit_reset=reset)
    assert post_with(box, capped).status_code == 200

    answer = post_with(box, capped)

    assert answer.status_code == 403
    assert answer.json()["error"]["message"].startswith(f"Key limit exceeded ({reset or 'total'} limit)")


def test_a_balance_too_small_for_the_longest_answer_is_402_until_max_tokens_is_lower(box):
    poor = box.key(balance=0.001)

    answer = post_with(box, poor, max_tokens=None)

    assert answer.status_code == 402
    assert "or fewer max_tokens. You requested up to 16384 tokens" in answer.json()["error"]["message"]
    assert post_with(box, poor, max_tokens=100).status_code == 200


def test_an_empty_account_still_reaches_free_models_but_a_negative_one_does_not(box):
    free = "openai/gpt-oss-20b:free"

    assert post_with(box, box.key(balance=0)).status_code == 402
    assert post_with(box, box.key(balance=0), model=free).status_code == 200
    assert post_with(box, box.key(balance=-1), model=free).status_code == 402


@pytest.mark.parametrize(
    ("wish", "status", "message"),
    [
        ({"disabled": True}, 401, "This API key is disabled."),
        ({"expired": True}, 401, "This API key has expired."),
        ({"management": True}, 403, "Management keys cannot be used for completions. Use an API key."),
    ],
)
def test_keys_that_may_not_ask_are_told_why(box, wish, status, message):
    answer = post_with(box, box.key(**wish))

    assert (answer.status_code, answer.json()["error"]["message"]) == (status, message)


def test_a_key_can_be_changed_by_its_name(box):
    mine = box.key(limit=3)

    box.key(key=mine, disabled=True)
    assert post_with(box, mine).status_code == 401
    box.key(key=mine, disabled=False)
    assert get(box, mine, "/key").json()["data"]["limit"] == 3


@pytest.mark.parametrize(
    "wish",
    [{"limit": "much"}, {"limit_reset": "hourly"}, {"balance": True}, {"balance": None}, {"key": 7}, {"colour": "red"}],
)
def test_a_malformed_wish_for_a_key_is_refused(box, wish):
    assert box.http.post(f"{box.root}/__sandbox/keys", json=wish).status_code == 400


@pytest.mark.parametrize("path", ["/key", "/credits", "/generation?id=x", "/models/user"])
def test_paths_that_need_a_key_say_so(box, path):
    answer = box.http.get(f"{box.url}{path}")

    assert (answer.status_code, answer.json()["error"]["message"]) == (401, "Missing Authentication header")


def test_keys_and_what_they_spent_survive_a_restart(tmp_path):
    first = start_sandbox(keys=tmp_path / "keys.json")
    spender = first.key(limit=2)
    cost = post_with(first, spender).json()["usage"]["cost"]
    first.stop()

    second = start_sandbox(keys=tmp_path / "keys.json")
    shown = get(second, spender, "/key").json()["data"]
    second.stop()

    assert (shown["usage"], shown["limit"]) == (cost, 2)
    assert spender not in (tmp_path / "keys.json").read_text()


# Journal


def test_the_journal_has_one_line_per_request_written_before_the_answer(box, key):
    body = json.dumps({"model": MODEL, "messages": SAY}).encode()
    headers = {"authorization": f"Bearer {key}", "x-request-id": "request-1"}

    answer = box.http.post(f"{box.url}{CHAT}", content=body, headers=headers)
    line = box.journal()[-1]

    assert line | {"at": ""} == {
        "at": "",
        "request_id": "request-1",
        "method": "POST",
        "path": "/api/v1/chat/completions",
        "key_sha256": sha256(key.encode()).hexdigest(),
        "body_sha256": sha256(body).hexdigest(),
        "model": MODEL,
        "status": 200,
        "generation_id": answer.headers["x-generation-id"],
        "cost": line["cost"],
    }
    assert Decimal(line["cost"]) == json.loads(answer.text, parse_float=Decimal)["usage"]["cost"]


@pytest.mark.parametrize(
    ("rule", "status", "charged"),
    [
        ({"kind": "status", "status": 503}, 503, None),
        ({"kind": "error_in_200"}, 200, False),
        ({"kind": "garbage"}, 200, False),
        ({"kind": "cut"}, 200, True),
        ({"kind": "cut", "at": "head"}, None, True),
        ({"kind": "silence", "delay": 0}, None, False),
    ],
)
def test_the_journal_tells_of_answers_that_went_wrong(box, post, rule, status, charged):
    box.rules({"answer": rule})
    before = len(box.journal())

    try:
        post()
    except httpx.RemoteProtocolError:
        pass
    [line] = box.journal()[before:]

    assert line["status"] == status
    assert (line["cost"] is None) if charged is None else (Decimal(line["cost"]) > 0) == charged


def test_the_journal_has_the_cost_of_a_stream_before_its_first_byte(box, key):
    question = {"model": MODEL, "messages": SAY, "stream": True}
    headers = {"authorization": f"Bearer {key}"}
    box.rules({"answer": {"kind": "slow", "delay": 0.05}})

    with box.http.stream("POST", f"{box.url}{CHAT}", json=question, headers=headers) as answer:
        line = box.journal()[-1]

    assert line["generation_id"] == answer.headers["x-generation-id"]
    assert Decimal(line["cost"]) > 0


def test_the_journal_names_no_secret(box, key, post):
    post()

    assert key not in box.journal_path.read_text()
    assert "cup of tea" not in box.journal_path.read_text()


# Generations


def test_a_record_appears_late_and_only_to_its_own_account(box, key, post):
    made = post().headers["x-generation-id"]

    assert get(box, key, "/generation", id=made).status_code == 404
    box.advance(DELAY)
    assert get(box, key, "/generation", id=made).status_code == 200
    assert get(box, box.key(balance=1), "/generation", id=made).status_code == 404


def test_a_client_that_leaves_a_stream_leaves_a_cancelled_record(box, key):
    question = {"model": MODEL, "messages": SAY, "stream": True}
    headers = {"authorization": f"Bearer {key}"}
    box.rules({"answer": {"kind": "slow", "delay": 0.2}})
    with box.http.stream("POST", f"{box.url}{CHAT}", json=question, headers=headers) as answer:
        made = answer.headers["x-generation-id"]

    box.rules()
    time.sleep(0.2)  # until it has noticed
    box.advance(DELAY)

    assert get(box, key, "/generation", id=made).json()["data"]["cancelled"] is True


def test_generation_ids_have_their_usual_shape_and_never_repeat(post):
    made = [post().headers["x-generation-id"] for _ in range(20)]

    assert len(set(made)) == 20
    assert all(len(each.split("-")) == 3 and len(each.rpartition("-")[2]) == 20 for each in made)


# The model


def test_the_same_question_gets_the_same_answer_in_every_process(post):
    question = [{"role": "user", "content": "Plan a quiet product launch in Oslo."}]
    again = start_sandbox()
    other = start_sandbox(seed=2)
    answers = [text_of(post_with(each, each.key(), messages=question)) for each in (again, other)]
    again.stop()
    other.stop()

    assert text_of(post(messages=question)) == answers[0] != answers[1]


def test_an_answer_speaks_of_what_the_prompt_speaks_of(post):
    text = text_of(post(messages=[{"role": "user", "content": "Three bullet points on renewable energy prices"}]))

    assert "renewable energy prices" in text
    assert text.count("\n- ") == 3


def test_an_answer_ends_at_max_tokens(post):
    answer = post(messages=[{"role": "user", "content": "Plan a launch."}], max_tokens=7).json()

    assert answer["usage"]["completion_tokens"] == 7
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("path", "field", "reason"), [(CHAT, "stop", "stop"), (MESSAGES, "stop_sequences", "stop_sequence")]
)
def test_an_answer_ends_before_a_stop_sequence(post, path, field, reason):
    answer = post(path, **{field: [" of"]}).json()

    text = answer["content"][0]["text"] if path == MESSAGES else answer["choices"][0]["message"]["content"]
    ended = answer["stop_reason"] if path == MESSAGES else answer["choices"][0]["finish_reason"]
    assert (text, ended) == ("a cup", reason)


@pytest.mark.parametrize(
    ("prompt", "choice", "called"),
    [
        ("What is the weather?", "auto", []),
        ("Use get_weather.", "auto", ["get_weather"]),
        ("Use get_weather and send_mail.", "auto", ["get_weather", "send_mail"]),
        ("Use get_weather.", "none", []),
        ("Anything.", "required", ["get_weather"]),
        ("Anything.", {"type": "function", "function": {"name": "send_mail"}}, ["send_mail"]),
    ],
)
def test_tools_are_called_when_named_or_demanded(post, prompt, choice, called):
    tools = [{"type": "function", "function": {"name": name}} for name in ("get_weather", "send_mail")]
    message = post(messages=[{"role": "user", "content": prompt}], tools=tools, tool_choice=choice).json()["choices"][0]

    assert [call["function"]["name"] for call in message["message"].get("tool_calls", [])] == called


def test_a_tool_is_called_with_the_object_written_after_its_name(post):
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    prompt = 'Call get_weather with {"city": "Oslo", "days": 3} please'
    answer = post(messages=[{"role": "user", "content": prompt}], tools=tools).json()

    arguments = answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"city": "Oslo", "days": 3}


@pytest.mark.parametrize(
    "name", ["openrouter/auto", "openrouter/free", "~anthropic/claude-sonnet-latest", f"{MODEL}:nitro"]
)
def test_routers_aliases_and_variants_are_answered_by_a_model_of_the_catalog(box, key, post, name):
    slugs = {model["canonical_slug"] for model in get(box, key, "/models").json()["data"]}

    answered_by = post(model=name).json()["model"]

    assert answered_by.removesuffix(":free") in slugs
    assert not answered_by.startswith(("openrouter/", "~"))


def test_without_a_model_the_default_answers(post):
    assert text_of(post(model=None)) == "a cup of tea"


# The process


def test_two_hundred_connections_are_served_at_once(box, key):
    async def ask_all() -> list[int]:
        limits = httpx.Limits(max_connections=200)
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(trust_env=False, limits=limits, timeout=60, headers=headers) as client:
            question = {"model": MODEL, "messages": SAY, "stream": True}
            answers = [client.post(f"{box.url}{CHAT}", json=question) for _ in range(200)]
            return [answer.status_code for answer in await asyncio.gather(*answers)]

    # Nobody is answered before all have asked.
    box.rules({"answer": {"kind": "slow", "delay": 0.1}})
    with ThreadPoolExecutor(1) as apart:  # in this thread, the browser driver's event loop may be running
        assert apart.submit(asyncio.run, ask_all()).result() == [200] * 200


def test_it_ends_quickly_and_quietly_while_somebody_waits():
    running = start_sandbox()
    running.rules({"answer": {"kind": "silence"}})
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(httpx.get, f"{running.url}/models", trust_env=False, timeout=10)
        time.sleep(0.3)
        began = time.monotonic()
        status = running.stop()
        taken = time.monotonic() - began

        assert (status, taken < 5) == (0, True)
        with pytest.raises(httpx.RemoteProtocolError):
            waiting.result()


def test_a_taken_port_is_one_clear_line(box):
    port = box.root.rpartition(":")[2]

    with pytest.raises(RuntimeError, match=f"sandbox: cannot listen on 127.0.0.1:{port}: Address already in use"):
        start_sandbox(port=port)


def test_it_imports_nothing_but_python_uvicorn_and_itself():
    modules = [(path.name, ast.parse(path.read_text())) for path in FOLDER.glob("*.py")]
    imported = {
        (name, alias.name if isinstance(node, ast.Import) else node.module)
        for name, module in modules
        for node in ast.walk(module)
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and node.level == 0)
        for alias in node.names
    }
    further_up = [name for name, module in modules for node in ast.walk(module) if getattr(node, "level", 0) > 1]

    allowed = {*sys.stdlib_module_names, "uvicorn"}
    assert [pair for pair in imported if pair[1].partition(".")[0] not in allowed] == []
    assert further_up == []
