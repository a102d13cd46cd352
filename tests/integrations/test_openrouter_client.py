"""The client on the wire: what leaves, what never does, and how long and how large an answer may be."""

import copy
import gzip
import json
import logging
import pickle
import threading
import time
import traceback
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from urllib.parse import parse_qsl, urlsplit

import pytest

from integrations import errors
from integrations.envelope import build_result
from integrations.openrouter import connections
from integrations.openrouter.client import OpenRouter
from integrations.openrouter.connections import Timeouts
from integrations.wire import Answer
from tests.canaries import Canary
from tests.integrations.scripted import CLOSE, CUT, ScriptedServer, answer, stream
from tests.integrations.upstream import (
    CHAT,
    CHAT_STREAM,
    GENERATION,
    MESSAGE,
    PATIENT,
    PLAIN_KEY,
    QUESTION,
    REQUEST_ID,
    SILENCE,
    ask,
    chunk,
    completion,
    error_body,
    failure,
)
from vault.secret import Secret

HASH = "9f" * 32
CODE, VERIFIER = "auth_code_" + "5e1c" * 8, "v" + "7ad3" * 12
EVERY_REQUEST = {
    "POST /chat/completions": OpenRouter.chat_completions(QUESTION),
    "POST /messages": OpenRouter.messages(QUESTION),
    "GET /credits": OpenRouter.credits(),
    "GET /key": OpenRouter.key(),
    "GET /generation?id=gen-1%2F2": OpenRouter.generation("gen-1/2"),
    "GET /models/user": OpenRouter.user_models(),
    "GET /models?q=a%20b&supported_parameters=tools%2Cseed&max_price=0.5&zdr=true": OpenRouter.models(
        q="a b", supported_parameters=["tools", "seed"], max_price=Decimal("0.5"), zdr=True, region=None
    ),
    "GET /models/count?output_modalities=all": OpenRouter.models_count(output_modalities="all"),
    "GET /embeddings/models": OpenRouter.embedding_models(),
    "GET /models/openai/gpt-4o%2Fmini/endpoints": OpenRouter.endpoints("openai", "gpt-4o/mini"),
    "GET /providers": OpenRouter.providers(),
    "GET /endpoints/zdr": OpenRouter.zdr_endpoints(),
    "POST /credits/coinbase": OpenRouter.coinbase_charge({"amount": 5}),
    "GET /keys?offset=100&include_disabled=true": OpenRouter.list_keys(offset=100, include_disabled=True),
    "POST /keys": OpenRouter.create_key("Worker", limit=Decimal("2.5"), limit_reset="daily"),
    f"GET /keys/{HASH}": OpenRouter.get_key(HASH),
    f"PATCH /keys/{HASH}": OpenRouter.update_key(HASH, disabled=True, limit=None),
    f"DELETE /keys/{HASH}": OpenRouter.delete_key(HASH),
    "POST /auth/keys/code": OpenRouter.create_code("https://app.example/back", code_challenge="c" * 43),
    "POST /auth/keys": OpenRouter.exchange_code(Secret(CODE), verifier=Secret(VERIFIER)),
    "GET /activity?date=2026-11-22": OpenRouter.activity(date="2026-11-22"),
    "GET /guardrails?offset=0&limit=100": OpenRouter.list_guardrails(offset=0, limit=100),
    "GET /guardrails/g%2F1": OpenRouter.get_guardrail("g/1"),
    "GET /guardrails/assignments/keys?limit=100": OpenRouter.list_key_assignments(limit=100),
    "GET /guardrails/g1/assignments/keys": OpenRouter.list_guardrail_keys("g1"),
    "POST /guardrails/g1/assignments/keys": OpenRouter.assign_guardrail_keys("g1", [HASH]),
    "POST /guardrails/g1/assignments/keys/remove": OpenRouter.unassign_guardrail_keys("g1", [HASH]),
}


@pytest.fixture
def server():
    body = completion(data={}, key="sk-or-v1-new", content=[{"type": "text", "text": "Hello there!"}])
    with ScriptedServer([answer(body)]) as running:
        yield running


def send(server, request=CHAT, key=PLAIN_KEY, **options):
    client = OpenRouter(server.url, timeouts=options.pop("timeouts", PATIENT), **options)
    return client.send(request, key=Secret(key) if key else None, request_id=REQUEST_ID)


# --- what leaves ------------------------------------------------------------------------


@pytest.mark.parametrize("line", EVERY_REQUEST)
def test_every_endpoint_is_asked_by_its_method_path_and_query(server, line):
    request = EVERY_REQUEST[line]

    send(server, request)

    seen = server.seen[0]
    assert f"{seen.method} {seen.target.removeprefix('/api/v1')}" == line
    assert seen.body == request.body


def test_only_models_are_billable_and_only_the_catalog_is_public():
    billable = [line for line, request in EVERY_REQUEST.items() if request.billable]
    public = [request.path for request in EVERY_REQUEST.values() if not request.needs_key]

    assert billable == ["POST /chat/completions", "POST /messages"]
    assert public == [
        "/models",
        "/models/count",
        "/embeddings/models",
        "/models/openai/gpt-4o%2Fmini/endpoints",
        "/providers",
        "/endpoints/zdr",
        "/credits/coinbase",
        "/auth/keys",
    ]


def test_a_request_carries_its_id_and_names_the_installation(server):
    send(server, referer="https://definable.example", title="Definable")

    headers = server.seen[0].headers
    assert headers["x-request-id"] == str(REQUEST_ID)
    assert (headers["http-referer"], headers["x-openrouter-title"]) == ("https://definable.example", "Definable")
    assert (headers["accept-encoding"], headers["content-type"]) == ("identity", "application/json")


def test_a_stranger_may_ask_what_is_public_and_nothing_else(server):
    send(server, OpenRouter.models(), key=None)
    with pytest.raises(errors.KeyRefused) as refused:
        send(server, OpenRouter.key(), key=None)

    assert refused.value.sent is False
    assert [seen.headers.get("authorization") for seen in server.seen] == [None]


@pytest.mark.parametrize(("author", "slug"), [("..", "x"), ("x", "."), ("", "x"), ("x", "")])
def test_a_model_name_cannot_climb_out_of_its_path(author, slug):
    with pytest.raises(errors.InvalidRequest):
        OpenRouter.endpoints(author, slug)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_json_cannot_carry_is_refused_before_it_leaves(value):
    with pytest.raises(errors.InvalidRequest) as refused:
        OpenRouter.messages(QUESTION | {"temperature": value})

    assert refused.value.sent is False


@pytest.mark.parametrize("build", [OpenRouter.get_key, OpenRouter.delete_key, OpenRouter.get_guardrail])
@pytest.mark.parametrize("name", ["", ".", ".."])
def test_no_id_climbs_out_of_its_path(build, name):
    with pytest.raises(errors.InvalidRequest) as refused:
        build(name)

    assert refused.value.sent is False


def test_a_new_key_is_asked_for_with_only_what_was_said():
    ends = datetime(2027, 1, 1, 1, 30, 0, 999, tzinfo=timezone(timedelta(hours=2)))
    request = OpenRouter.create_key("Worker", limit=Decimal("0.10"), expires_at=ends)

    assert json.loads(request.body) == {"name": "Worker", "limit": 0.1, "expires_at": "2026-12-31T23:30:00Z"}


def test_a_change_says_null_where_a_limit_ends():
    assert json.loads(OpenRouter.update_key(HASH, limit=None, name="x").body) == {"limit": None, "name": "x"}


def test_consent_is_asked_beside_the_api_and_the_callback_stays_whole():
    client = OpenRouter("https://openrouter.ai/api/v1")
    back = "https://app.example/back?state=a%2Fb&x=1"

    where = urlsplit(client.consent_url(code_challenge="abc", callback_url=back))

    assert (where.netloc, where.path) == ("openrouter.ai", "/auth")
    asked = {"callback_url": back, "code_challenge": "abc", "code_challenge_method": "S256"}
    assert dict(parse_qsl(where.query)) == asked
    assert "callback_url" not in client.consent_url(code_challenge="abc")


def test_decimals_leave_as_numbers():
    assert json.loads(OpenRouter.messages({"temperature": Decimal("0.7")}).body) == {"temperature": 0.7}


def test_connections_are_kept_for_the_next_client_in_the_same_thread(server):
    for _ in range(3):
        OpenRouter(server.url, timeouts=PATIENT).send(CHAT, key=Secret(PLAIN_KEY), request_id=REQUEST_ID)

    assert (len(server.seen), server.connections) == (3, 1)


def test_a_stream_read_to_its_end_leaves_its_connection_for_the_next():
    with ScriptedServer([stream(chunk("Hi", finish="stop"))]) as server:
        client = OpenRouter(server.url, timeouts=PATIENT)
        for _ in range(3):
            client.send(CHAT_STREAM, key=Secret(PLAIN_KEY), request_id=REQUEST_ID)

        assert (len(server.seen), server.connections) == (3, 1)


def test_threads_share_a_client_without_sharing_connections(server):
    client = OpenRouter(server.url, timeouts=PATIENT)
    texts: list[str] = []

    def work() -> None:
        texts.extend(client.send(CHAT, key=Secret(PLAIN_KEY), request_id=REQUEST_ID).text for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert texts == ["Hello there!"] * 20
    assert server.connections == 4


def test_cookies_of_the_service_are_not_kept():
    with ScriptedServer([answer(completion(), set_cookie="team=theirs; Path=/")]) as server:
        client = OpenRouter(server.url, timeouts=PATIENT)
        for _ in range(2):
            client.send(CHAT, key=Secret(PLAIN_KEY), request_id=REQUEST_ID)

        assert [seen.headers.get("cookie") for seen in server.seen] == [None, None]


# --- keys -------------------------------------------------------------------------------


@pytest.mark.requirement("RED-3")
@pytest.mark.parametrize("line", EVERY_REQUEST)
def test_the_key_travels_in_the_authorization_header_alone(server, line, caplog):
    caplog.set_level(logging.DEBUG)

    send(server, EVERY_REQUEST[line])

    seen = server.seen[0]
    holding = [name for name, value in seen.headers.items() if PLAIN_KEY in value]
    assert (holding, seen.headers["authorization"]) == (["authorization"], f"Bearer {PLAIN_KEY}")
    assert PLAIN_KEY not in seen.target
    assert PLAIN_KEY.encode() not in seen.body
    assert PLAIN_KEY not in caplog.text


def everything_said(error: BaseException) -> str:
    """An error as any sink could show it: its fields, its chain, and the variables of our frames."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if "/tests/" not in frame.f_code.co_filename]
    assert frames
    return f"{error!r} {vars(error)} {error.__cause__!r} {error.__context__!r} {[frame.f_locals for frame in frames]}"


ECHO = f"bad key {PLAIN_KEY} or sk-or-v1-{'0b1c' * 16} or {PLAIN_KEY[20:40]}"
ECHOES = {
    "401": answer(error_body(401, ECHO, {"raw": json.dumps({"error": {"message": ECHO}}), ECHO: [ECHO]}), 401),
    "400": answer(error_body(400, ECHO, {"provider_name": ECHO, "error_type": ECHO}), 400),
    "text as metadata": answer(error_body(400, "no", ECHO), 400),
    "availability": answer(error_body(404, ECHO, availability={"code": "no_endpoints", "docs_url": ECHO}), 404),
    "anthropic": answer({"type": "error", "error": {"type": "api_error", "message": ECHO}, "request_id": ECHO}, 500),
    "inside a success": answer(error_body(502, ECHO) | {"id": PLAIN_KEY}),
    "stream": stream(error_body(502, ECHO, ECHO) | {"id": PLAIN_KEY}),
    "header": answer(error_body(500), 500, x_generation_id=PLAIN_KEY, retry_after=PLAIN_KEY),
    "not JSON": answer(ECHO.encode(), 401),
    "cut": [answer(error_body(502, ECHO), 200)[0][:-5], CUT],
}


@pytest.mark.requirement("RED-4")
@pytest.mark.parametrize("place", ECHOES)
def test_a_key_echoed_by_the_service_is_taken_out(place, caplog):
    caplog.set_level(logging.DEBUG)

    error = failure(ECHOES[place], CHAT_STREAM)

    shown = everything_said(error) + caplog.text
    assert "0b1c0b1c" not in shown
    assert [at for at in range(9, len(PLAIN_KEY) - 8) if PLAIN_KEY[at : at + 9] in shown] == []


def test_no_frame_of_the_exchange_outlives_its_error():
    error = failure([CUT])

    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert frames == ["failure", "ask", "send"]
    assert (error.__cause__, error.__context__) == (None, None)


# --- keys that an answer brings -----------------------------------------------------------

NEW_KEY = "sk-or-v1-" + "b61d" * 16
NEW = Canary("new key", NEW_KEY[12:-4])
LABEL = f"{NEW_KEY[:12]}...{NEW_KEY[-4:]}"
MINTING = {
    "create_key": OpenRouter.create_key("Worker"),
    "exchange_code": OpenRouter.exchange_code(Secret(CODE), verifier=Secret(VERIFIER)),
}
minting = pytest.mark.parametrize("request_", MINTING.values(), ids=MINTING)


def shown(answer: Answer) -> str:
    """An answer as any sink could show it."""
    sealed = json.dumps(build_result(answer.data, answer))
    return f"{sealed} {answer!r} {answer.data} {[getattr(answer, name) for name in Answer.__slots__]}"


@pytest.mark.requirement("RED-1")
@pytest.mark.parametrize(
    "body",
    [
        {"key": NEW_KEY, "data": {"hash": HASH, "label": LABEL}},
        {"data": {"hash": HASH, "label": LABEL, "key": NEW_KEY}},
        {"key": NEW_KEY, "data": {"hash": HASH, "label": LABEL, "key": NEW_KEY}},
        {"key": NEW_KEY, "user_id": f"user of {NEW_KEY}", "data": [{NEW_KEY: f"x{NEW_KEY[20:50]}"}]},
        {"key": NEW_KEY, "debug": PLAIN_KEY},
    ],
    ids=["as specified", "one floor down", "twice", "echoed", "beside the one that asked"],
)
@minting
def test_a_new_key_is_in_the_answers_secret_and_nowhere_else(request_, body, caplog):
    caplog.set_level(logging.DEBUG)

    got = ask(answer(body, 201), request_)

    assert got.secret is not None
    assert got.secret.use() == NEW_KEY
    assert not NEW.found_in(shown(got) + caplog.text)
    assert PLAIN_KEY[12:] not in shown(got)


@minting
def test_what_is_said_about_a_new_key_stays_readable(request_):
    body = {"key": NEW_KEY, "data": {"hash": HASH, "label": LABEL, "limit": 2.5}}

    got = ask(answer(body, 201), request_)

    assert got.data == {"data": {"hash": HASH, "label": LABEL, "limit": Decimal("2.5")}}


@minting
def test_an_answer_with_a_secret_cannot_be_copied_into_a_record(request_):
    got = ask(answer({"key": NEW_KEY, "data": {}}, 201), request_)

    for copying in (asdict, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            copying(got)


@pytest.mark.parametrize(
    "body", [{}, {"data": {}}, {"key": None}, {"key": ""}, {"key": 7}, {"key": [NEW_KEY]}], ids=str
)
@minting
def test_an_answer_that_should_bring_a_key_and_does_not_is_bad(request_, body):
    error = failure(answer(body, 201), request_)

    assert type(error) is errors.BadAnswer
    assert not NEW.found_in(everything_said(error))


@pytest.mark.requirement("RED-4")
@pytest.mark.parametrize(
    "reply",
    [
        answer({"key": NEW_KEY} | error_body(500, f"made {NEW_KEY}", {"raw": NEW_KEY, NEW_KEY: [NEW_KEY]}), 500),
        answer({"key": NEW_KEY} | error_body(500, f"made {NEW_KEY}")),
        answer({"key": NEW_KEY}, 302, location=f"https://x.example/{NEW_KEY}"),
        answer(f"made {NEW_KEY}".encode(), 201),
        [answer({"key": NEW_KEY, "data": {"label": LABEL}}, 201)[0][:-5], CUT],
    ],
    ids=["refused", "inside a success", "redirect", "not JSON", "cut"],
)
@minting
def test_a_new_key_in_a_failure_is_taken_out(reply, request_, caplog):
    caplog.set_level(logging.DEBUG)

    error = failure(reply, request_)

    assert not NEW.found_in(everything_said(error) + caplog.text)


@pytest.mark.requirement("RED-4")
def test_a_code_and_its_verifier_are_not_sent_back_in_an_error(caplog):
    caplog.set_level(logging.DEBUG)
    echo = f"Invalid code {CODE} or code_verifier {VERIFIER}"

    error = failure(answer(error_body(403, echo, {"raw": echo, CODE: VERIFIER}), 403), MINTING["exchange_code"])

    said = everything_said(error) + caplog.text + repr(MINTING["exchange_code"])
    assert type(error) is errors.InvalidRequest
    for secret in (CODE, VERIFIER):
        assert not Canary("code", secret[10:]).found_in(said)


@pytest.mark.parametrize(
    ("request_", "status", "kind"),
    [
        (OpenRouter.get_key(HASH), 404, errors.NotFound),
        (OpenRouter.delete_key(HASH), 404, errors.NotFound),
        (OpenRouter.list_guardrail_keys("g1"), 404, errors.NotFound),
        (OpenRouter.create_key("x"), 403, errors.ManagementKeyNeeded),
        (OpenRouter.activity(), 403, errors.ManagementKeyNeeded),
        (OpenRouter.create_key("x"), 400, errors.InvalidRequest),
        (OpenRouter.create_key("x"), 429, errors.RateLimited),
        (OpenRouter.update_key(HASH), 409, errors.InvalidRequest),
        (MINTING["exchange_code"], 400, errors.InvalidRequest),
        (MINTING["exchange_code"], 403, errors.InvalidRequest),
    ],
)
def test_a_refusal_to_manage_is_told_by_what_to_do_next(request_, status, kind):
    error = failure(answer(error_body(status, "no"), status), request_)

    assert (type(error), error.code, error.maybe_billed) == (kind, status, False)


@pytest.mark.parametrize("key", [f"{PLAIN_KEY}\n", f"{PLAIN_KEY}é", f"{PLAIN_KEY} x", " "])
def test_a_key_that_no_header_can_hold_is_refused_without_being_quoted(server, key):
    with pytest.raises(errors.KeyRefused) as refused:
        send(server, key=key)

    assert refused.value.sent is False
    assert PLAIN_KEY not in everything_said(refused.value)
    assert server.seen == []


def test_a_generation_id_that_is_no_id_is_dropped():
    got = ask(answer(completion(id="<b>x</b>"), x_generation_id="gen-1 DROP TABLE"))

    assert got.generation_id == ""


def test_the_generation_id_is_found_in_header_body_or_error():
    message = {"type": "error", "error": {"type": "api_error", "message": "no"}, "request_id": GENERATION}

    assert ask(answer(completion(id="msg_1"), x_generation_id=GENERATION)).generation_id == GENERATION
    assert ask(answer(completion())).generation_id == GENERATION
    assert failure(answer(message, 500), MESSAGE).generation_id == GENERATION


# --- where it goes ----------------------------------------------------------------------


@pytest.mark.requirement("SSRF-3")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server, status):
    error = failure(answer(b"", status, location=f"{server.url}/elsewhere"))

    assert (type(error), error.code, error.maybe_billed) == (errors.BadAnswer, status, False)
    assert server.seen == []


@pytest.mark.requirement("SSRF-7")
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_is_ignored(server, monkeypatch, name):
    with ScriptedServer([answer(b"diverted")]) as proxy:
        monkeypatch.setenv(name, proxy.url.removesuffix("/api/v1"))
        monkeypatch.delenv("NO_PROXY", raising=False)

        assert send(server).text == "Hello there!"
        assert proxy.seen == []


# --- limits -----------------------------------------------------------------------------


@pytest.mark.requirement("SSRF-10")
def test_the_limits_are_those_of_the_security_rules():
    assert Timeouts() == Timeouts(connect=5, read=60, total=900)
    assert connections.MOST_BYTES == 32 * 1024 * 1024


DRIP = [step for _ in range(100) for step in (b": still here\n\n", 0.05)]


@pytest.mark.requirement("SSRF-10")
@pytest.mark.parametrize(
    "reply",
    [
        stream(chunk("Once"), *DRIP),
        [b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", *[step for _ in range(100) for step in (b" ", 0.05)]],
        [b"HTTP/1.1 200 OK\r\n", *[step for _ in range(100) for step in (b"X", 0.05)]],
    ],
    ids=["stream", "body", "headers"],
)
def test_a_slow_drip_ends_at_the_deadline(reply):
    began = time.monotonic()

    error = failure(reply, CHAT_STREAM, timeouts=Timeouts(connect=1, read=5, total=0.5))

    assert 0.45 < time.monotonic() - began < 4
    assert (type(error), error.sent, error.maybe_billed) == (errors.TimedOut, True, True)


@pytest.mark.requirement("SSRF-10")
@pytest.mark.parametrize(
    "reply", [answer(b"[" + b" " * 3000), stream(*[chunk("x" * 100)] * 30)], ids=["body", "stream"]
)
def test_an_answer_past_the_size_limit_is_cut_off(reply, monkeypatch):
    monkeypatch.setattr(connections, "MOST_BYTES", 2000)

    error = failure(reply, CHAT_STREAM)

    assert (type(error), error.maybe_billed) == (errors.BadAnswer, True)


@pytest.mark.requirement("SSRF-10")
def test_a_compressed_answer_is_not_unfolded():
    bomb = gzip.compress(json.dumps(completion({"content": "0" * 1_000_000})).encode())

    error = failure(answer(bomb, content_encoding="gzip"))

    assert (type(error), error.maybe_billed) == (errors.BadAnswer, True)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000])
def test_an_answer_nested_without_end_is_a_bad_answer(body):
    assert type(failure(answer(body))) is errors.BadAnswer


def test_an_answer_nested_deeply_but_correctly_is_no_crash():
    for depth in (200, 400, 600, 900):
        nested = b"[" * depth + b'"\\u0000"' + b"]" * depth
        kind = type(failure(answer(b'{"error": {"code": 400, "metadata": {"a": ' + nested + b"}}}", 400)))
        assert kind in (errors.InvalidRequest, errors.BadAnswer)


# --- what was sent, and may be billed ---------------------------------------------------


@pytest.mark.parametrize("request_", [CHAT, OpenRouter.key()], ids=["billable", "free"])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ([SILENCE], errors.TimedOut),
        ([CUT], errors.Unreachable),
        ([CLOSE], errors.Unreachable),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", CUT], errors.Unreachable),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", SILENCE], errors.TimedOut),
        ([b"\x00\x01 not HTTP at all\r\n\r\n"], errors.Unreachable),
        (answer(b"<html>hello</html>"), errors.BadAnswer),
        (answer(b'{"id": "gen-1", "choi'), errors.BadAnswer),
        (answer(b"[]"), errors.BadAnswer),
        (answer(b""), errors.BadAnswer),
        (answer(b'{"a": NaN}'), errors.BadAnswer),
        (answer(b"\xff\xfe\x00"), errors.BadAnswer),
    ],
)
def test_what_is_lost_after_sending_may_be_billed_where_anything_is(reply, kind, request_):
    error = failure(reply, request_)

    assert type(error) is kind
    assert (error.sent, error.maybe_billed) == (True, request_.billable)


def test_what_never_left_is_neither_sent_nor_billed():
    with ScriptedServer([]) as gone:
        url = gone.url

    with pytest.raises(errors.Unreachable) as lost:
        OpenRouter(url, timeouts=PATIENT).send(CHAT, key=Secret(PLAIN_KEY), request_id=REQUEST_ID)

    assert (lost.value.sent, lost.value.maybe_billed) == (False, False)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 413, 429, 500, 502, 503, 524, 529])
def test_what_was_refused_by_status_is_not_billed_even_if_its_reason_got_lost(status):
    cut_off = [answer(error_body(status), status)[0][:-5], CUT]

    assert failure(answer(error_body(status), status)).maybe_billed is False
    assert failure(cut_off).maybe_billed is False


def test_a_catalog_answer_without_data_is_a_bad_answer():
    assert type(failure(answer({"hello": 1}), OpenRouter.models())) is errors.BadAnswer


def test_requests_and_answers_print_without_prompt_or_text():
    got = ask(answer(completion()))

    assert "Hello?" not in repr(CHAT)
    assert "Hello there!" not in repr(got)
