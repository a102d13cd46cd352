"""Every method of the client against the stand-in, which is a service of its own."""

import base64
import hashlib
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from audit.ids import uuid7
from integrations import errors
from integrations.openrouter.client import OpenRouter
from integrations.wire import Answer, Request
from vault.secret import Secret

MODEL = "anthropic/claude-sonnet-4.6"
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello in words"}], "max_tokens": 40}
CALL = [{"role": "user", "content": "Please call look_up"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ASKING = {"chat": OpenRouter.chat_completions, "messages": OpenRouter.messages}
OFFERED = {
    "chat": [{"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}],
    "messages": [{"name": "look_up", "input_schema": SCHEMA}],
}

asking = pytest.mark.parametrize("style", ASKING)


class Caller:
    """A client with a key of its own at the sandbox."""

    def __init__(self, sandbox) -> None:
        self.sandbox = sandbox
        self.client = OpenRouter(sandbox.url)
        self.key = Secret(sandbox.key())

    def send(self, request: Request, key: Secret | None = None, request_id: UUID | None = None, **options) -> Answer:
        return self.client.send(request, key=key or self.key, request_id=request_id or uuid7(), **options)


@pytest.fixture
def caller(sandbox):
    yield Caller(sandbox)
    sandbox.rules()


@asking
def test_a_stream_says_what_the_whole_answer_says(caller, style):
    heard: list[str] = []

    whole = caller.send(ASKING[style](QUESTION))
    streamed = caller.send(ASKING[style](QUESTION | {"stream": True}), on_text=heard.append)

    assert streamed.text == whole.text == "".join(heard)
    assert len(heard) > 3
    same = ("status", "model", "provider", "finish_reason", "tokens_in", "tokens_out", "cost_usd")
    assert [getattr(streamed, name) for name in same] == [getattr(whole, name) for name in same]
    assert whole.cost_usd > 0
    assert whole.generation_id.startswith("gen-")
    # Said in whole answers only, the latter in every fourth.
    assert whole.data.keys() - streamed.data.keys() <= {"service_tier", "x_unannounced"}


@asking
def test_tools_are_called_alike_in_stream_and_whole(caller, style):
    body = QUESTION | {"messages": CALL, "tools": OFFERED[style]}

    whole = caller.send(ASKING[style](body)).tool_calls
    streamed = caller.send(ASKING[style](body | {"stream": True})).tool_calls

    assert [call.name for call in whole] == ["look_up"]
    assert [(call.name, call.arguments) for call in streamed] == [(call.name, call.arguments) for call in whole]


@asking
def test_the_journal_of_the_service_knows_the_request_by_our_id_and_bytes(caller, style):
    request, request_id = ASKING[style](QUESTION), uuid7()

    answer = caller.send(request, request_id=request_id)

    (line,) = [line for line in caller.sandbox.journal() if line["request_id"] == str(request_id)]
    assert line["body_sha256"] == hashlib.sha256(request.body).hexdigest()
    assert line["generation_id"] == answer.generation_id


def test_the_record_of_a_generation_appears_a_little_later(caller):
    generation = OpenRouter.generation(caller.send(OpenRouter.chat_completions(QUESTION)).generation_id)

    with pytest.raises(errors.NotReady):
        caller.send(generation)
    time.sleep(0.4)

    assert caller.send(generation).data["data"]["model"]


@pytest.mark.parametrize(
    "request_",
    [
        OpenRouter.key(),
        OpenRouter.models(limit=2, supported_parameters=["tools"], sort="newest"),
        OpenRouter.models_count(output_modalities="all"),
        OpenRouter.embedding_models(offset=0, limit=5),
        OpenRouter.endpoints(*MODEL.split("/")),
        OpenRouter.providers(),
        OpenRouter.user_models(limit=5),
        OpenRouter.zdr_endpoints(),
    ],
    ids=lambda request: request.path,
)
def test_what_can_be_looked_up_is_answered(caller, request_):
    answer = caller.send(request_)

    assert answer.status == 200
    assert answer.data["data"]
    assert answer.cost_usd is None


def test_credits_are_for_management_keys(caller):
    with pytest.raises(errors.ManagementKeyNeeded):
        caller.send(OpenRouter.credits())

    answer = caller.send(OpenRouter.credits(), key=Secret(caller.sandbox.key(management=True)))
    assert answer.data["data"].keys() == {"total_credits", "total_usage"}


def test_the_coinbase_purchase_is_gone(caller):
    with pytest.raises(errors.Gone) as gone:
        caller.send(OpenRouter.coinbase_charge({"amount": 5}))

    assert gone.value.replacement_url == "https://openrouter.ai/settings/credits"


@pytest.mark.parametrize("wish", [{"disabled": True}, {"expired": True}])
def test_a_key_that_ended_is_refused(caller, wish):
    with pytest.raises(errors.KeyRefused):
        caller.send(OpenRouter.key(), key=Secret(caller.sandbox.key(**wish)))


@asking
def test_a_balance_that_ran_out_is_told_from_the_cap_of_a_key(caller, style):
    empty, capped = Secret(caller.sandbox.key(balance=0)), Secret(caller.sandbox.key(limit=0.0000001))

    with pytest.raises(errors.OutOfBalance):
        caller.send(ASKING[style](QUESTION), key=empty)
    caller.send(ASKING[style](QUESTION), key=capped)
    with pytest.raises(errors.LimitReached):
        caller.send(ASKING[style](QUESTION), key=capped)


class Keeper(Caller):
    """A caller whose key manages the other keys of an account of its own."""

    def __init__(self, sandbox) -> None:
        super().__init__(sandbox)
        self.account = f"account {uuid7()}"
        self.key = Secret(sandbox.key(management=True, account=self.account))

    def consent(self, challenge: str, callback: str) -> str:
        """The code that its user agrees to."""
        url = self.client.consent_url(code_challenge=challenge, callback_url=callback)
        return self.sandbox.consent(url, account=self.account)["code"]


@pytest.fixture
def keeper(sandbox):
    yield Keeper(sandbox)
    sandbox.rules()
    sandbox.real_time()


def test_a_key_is_made_used_changed_and_deleted(keeper):
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)

    made = keeper.send(OpenRouter.create_key("Worker", limit=Decimal("0.5"), limit_reset="daily", expires_at=ends))
    data = made.data["data"]
    assert data["hash"] == OpenRouter.hash_of(made.secret)
    assert datetime.fromisoformat(data["expires_at"]) == ends
    assert keeper.send(OpenRouter.chat_completions(QUESTION), key=made.secret).cost_usd > 0
    assert keeper.send(OpenRouter.get_key(data["hash"])).data["data"]["usage"] > 0

    keeper.send(OpenRouter.update_key(data["hash"], disabled=True))
    with pytest.raises(errors.KeyRefused):
        keeper.send(OpenRouter.key(), key=made.secret)
    assert keeper.send(OpenRouter.list_keys()).data["data"] == []
    assert len(keeper.send(OpenRouter.list_keys(include_disabled=True)).data["data"]) == 1

    assert keeper.send(OpenRouter.delete_key(data["hash"])).data == {"deleted": True}
    with pytest.raises(errors.NotFound):
        keeper.send(OpenRouter.delete_key(data["hash"]))


def test_a_code_is_exchanged_once_for_a_key_that_works(keeper):
    verifier = Secret("a-verifier-of-forty-three-characters-0123456")
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.use().encode()).digest()).rstrip(b"=").decode()
    code = Secret(keeper.consent(challenge, "http://localhost:8000/back?state=s"))
    exchange = OpenRouter.exchange_code(code, verifier=verifier)

    made = keeper.client.send(exchange, key=None, request_id=uuid7())

    assert keeper.send(OpenRouter.key(), key=made.secret).data["data"]["is_management_key"] is False
    assert made.data["user_id"].startswith("user_")
    with pytest.raises(errors.InvalidRequest):
        keeper.client.send(exchange, key=None, request_id=uuid7())


def test_a_guardrail_is_given_to_a_key_and_taken_again(keeper):
    made = keeper.send(OpenRouter.create_key("Worker")).data["data"]["hash"]
    body = b'{"name": "Careful", "limit_usd": 0, "reset_interval": "daily"}'
    guardrail = keeper.send(Request("POST", "/guardrails", body=body)).data["data"]["id"]

    assert keeper.send(OpenRouter.assign_guardrail_keys(guardrail, [made, "none"])).data == {"assigned_count": 1}
    for listing in (OpenRouter.list_key_assignments(), OpenRouter.list_guardrail_keys(guardrail, limit=100)):
        assert [row["key_hash"] for row in keeper.send(listing).data["data"]] == [made]
    assert keeper.send(OpenRouter.unassign_guardrail_keys(guardrail, [made])).data == {"unassigned_count": 1}
    assert keeper.send(OpenRouter.get_guardrail(guardrail)).data["data"]["name"] == "Careful"
    assert keeper.send(OpenRouter.list_guardrails()).data["total_count"] == 1


def test_activity_of_a_day_that_is_over_is_read(keeper):
    made = keeper.send(OpenRouter.create_key("Worker"))
    keeper.send(OpenRouter.chat_completions(QUESTION), key=made.secret)
    keeper.sandbox.advance(24 * 3600)

    (row,) = keeper.send(OpenRouter.activity(api_key_hash=made.data["data"]["hash"])).data["data"]

    assert (row["model"], row["requests"]) == (MODEL, 1)


@pytest.mark.parametrize(
    "request_",
    [OpenRouter.list_keys(), OpenRouter.create_key("x"), OpenRouter.activity(), OpenRouter.list_guardrails()],
    ids=lambda request: f"{request.method} {request.path}",
)
def test_an_ordinary_key_manages_nothing(caller, request_):
    with pytest.raises(errors.ManagementKeyNeeded):
        caller.send(request_)


FAULTS = [
    ({"kind": "status", "status": 429, "retry_after": 7}, errors.RateLimited),
    ({"kind": "status", "status": 503}, errors.Overloaded),
    ({"kind": "error_in_200"}, errors.Overloaded),
    ({"kind": "empty"}, errors.EmptyAnswer),
    ({"kind": "mid_stream_error"}, errors.Overloaded),
    ({"kind": "cut"}, errors.Unreachable),
    ({"kind": "garbage"}, errors.BadAnswer),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=[fault["kind"] for fault, _ in FAULTS])
@asking
def test_a_fault_is_told_by_its_kind(caller, style, fault, kind, stream):
    caller.sandbox.rules({"match": {"model": MODEL}, "answer": fault})

    with pytest.raises(errors.UpstreamError) as failed:
        caller.send(ASKING[style](QUESTION | {"stream": stream}))

    assert type(failed.value) is kind
    assert failed.value.retry_after == fault.get("retry_after")
