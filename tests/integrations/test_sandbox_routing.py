"""Which host of a model answers, at whose price, and what is said when none may."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.sandbox_fixture import Sandbox, start_sandbox

MODEL = "openai/gpt-5.4"  # OpenAI and Azure (which keeps nothing), and OpenAI's flex and priority tiers
OPEN = "google/gemma-4-31b-it"  # together/fp8, phala/fp8, novita/fp8, deepinfra/bf16, deepinfra/turbo
FREE = "openai/gpt-oss-20b:free"  # OpenInference alone, which trains on what it reads
TOOL = {"type": "function", "function": {"name": "get_weather"}}
SAY = [{"role": "user", "content": "Reply with exactly: a cup of tea"}]
CHAT, MESSAGES = "/chat/completions", "/messages"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    running = start_sandbox()
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
    def send(path: str = CHAT, **body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}", "x-openrouter-metadata": "enabled"}
        question = {"model": MODEL, "messages": SAY, "max_tokens": 100} | body
        return box.http.post(f"{box.url}{path}", json=question, headers=headers)

    return send


@pytest.fixture
def hosts(box, key):
    """The endpoint records of a model by tag, as anybody can read them."""

    def read(model: str) -> dict[str, dict[str, Any]]:
        answer = box.http.get(f"{box.url}/models/{model}/endpoints", headers={"authorization": f"Bearer {key}"})
        return {row["tag"]: row for row in answer.json()["data"]["endpoints"]}

    return read


def cost_of(answer: httpx.Response) -> Decimal:
    return json.loads(answer.text, parse_float=Decimal)["usage"]["cost"]


def availability(answer: httpx.Response) -> dict[str, Any]:
    return answer.json()["error"]["availability"]


def priced(row: dict[str, Any], usage: dict[str, int]) -> Decimal:
    prices = row["pricing"]
    return (
        Decimal(prices["prompt"]) * usage["prompt_tokens"] + Decimal(prices["completion"]) * usage["completion_tokens"]
    )


# Who answers


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize(
    ("model", "provider", "answered_by"),
    [
        (MODEL, None, "OpenAI"),
        (MODEL, {}, "OpenAI"),
        (MODEL, {"only": ["azure"]}, "Azure"),
        (MODEL, {"only": ["Azure"]}, "Azure"),
        (MODEL, {"only": []}, "OpenAI"),
        (MODEL, {"ignore": ["openai"]}, "Azure"),
        (MODEL, {"order": ["azure", "openai"]}, "Azure"),
        (MODEL, {"order": ["groq", "azure"]}, "Azure"),
        (MODEL, {"order": ["groq"]}, "OpenAI"),
        (MODEL, {"order": ["groq", "azure"], "allow_fallbacks": False}, "Azure"),
        (MODEL, {"zdr": True}, "Azure"),
        (MODEL, {"zdr": False}, "OpenAI"),
        (MODEL, {"only": ["openai", "azure"], "ignore": ["openai"], "zdr": True}, "Azure"),
        (OPEN, {"quantizations": ["bf16"]}, "DeepInfra"),
        (OPEN, {"quantizations": ["unknown"]}, "DeepInfra"),
        (OPEN, {"only": ["deepinfra/turbo"]}, "DeepInfra"),
        ("deepseek/deepseek-v3.2", {}, "DeepSeek"),
        ("deepseek/deepseek-v3.2", {"data_collection": "deny"}, "Novita"),
        ("deepseek/deepseek-v3.2", {"data_collection": "allow"}, "DeepSeek"),
        (MODEL, {"only": ["azure"], "enforce_distillable_text": None, "no_such_preference": [1]}, "Azure"),
    ],
)
def test_preferences_decide_who_answers(post, path, model, provider, answered_by):
    answer = post(path, model=model, provider=provider)

    assert (answer.status_code, answer.json()["provider"]) == (200, answered_by)


@pytest.mark.parametrize(
    ("provider", "tags"),
    [
        ({"only": ["deepinfra"]}, ["deepinfra/bf16", "deepinfra/turbo"]),
        ({"only": ["deepinfra/turbo"]}, ["deepinfra/turbo"]),
        ({"ignore": ["deepinfra", "phala"]}, ["together/fp8", "novita/fp8"]),
        ({"ignore": ["deepinfra/bf16", "phala/fp8", "novita"]}, ["together/fp8", "deepinfra/turbo"]),
        ({"quantizations": ["bf16", "unknown"]}, ["deepinfra/bf16", "deepinfra/turbo"]),
        (
            {"order": ["novita", "deepinfra/turbo"], "ignore": ["phala"]},
            ["novita/fp8", "deepinfra/turbo", "together/fp8"],
        ),
        ({"order": ["novita", "phala"], "allow_fallbacks": False}, ["novita/fp8"]),
        ({"allow_fallbacks": False}, ["together/fp8"]),
    ],
)
def test_a_slug_means_all_its_hosts_and_a_full_tag_one(post, hosts, provider, tags):
    answer = post(model=OPEN, provider=provider)

    names = [hosts(OPEN)[tag]["provider_name"] for tag in tags]
    shown = answer.json()["openrouter_metadata"]["endpoints"]
    assert [row["provider"] for row in shown["available"]][: len(names)] == names
    assert cost_of(answer) == priced(hosts(OPEN)[tags[0]], answer.json()["usage"])


@pytest.mark.parametrize(
    ("provider", "tag"),
    [
        ({"only": ["openai/flex"]}, "openai/flex"),
        ({"only": ["openai/priority"]}, "openai/priority"),
        ({"order": ["openai/flex"]}, "openai/flex"),
        ({"only": ["openai"], "sort": "price"}, "openai"),
        ({"sort": "price"}, "openai"),
        ({"only": ["OpenAI"], "sort": "price"}, "openai"),
    ],
)
def test_a_service_tier_answers_only_those_who_name_it_in_full(post, hosts, provider, tag):
    answer = post(provider=provider)

    row = hosts(MODEL)[tag]
    assert cost_of(answer) == priced(row, answer.json()["usage"])
    assert answer.json()["service_tier"] in (row["service_tier"], "lunar")


@pytest.mark.parametrize(
    ("sort", "best"),
    [
        ("price", lambda row: Decimal(row["pricing"]["prompt"]) + Decimal(row["pricing"]["completion"])),
        ("throughput", lambda row: -row["throughput_last_30m"]["p50"]),
        ({"by": "latency", "partition": "model"}, lambda row: row["latency_last_30m"]["p50"]),
    ],
)
def test_hosts_are_sorted_by_their_records(post, hosts, sort, best):
    answer = post(model=OPEN, provider={"sort": sort})

    shown = answer.json()["openrouter_metadata"]["endpoints"]["available"]
    assert [row["provider"] for row in shown] == [
        row["provider_name"] for row in sorted(hosts(OPEN).values(), key=best)
    ]
    assert cost_of(answer) == priced(min(hosts(OPEN).values(), key=best), answer.json()["usage"])


@pytest.mark.parametrize("amount", [2.6, "2.6", "2.60"])
def test_a_price_limit_counts_dollars_per_million_tokens(post, amount):
    # OpenAI asks $2.50 for a million prompt tokens, Azure a little more.
    assert post(provider={"max_price": {"prompt": amount}}).json()["provider"] == "OpenAI"
    assert post(provider={"max_price": {"prompt": amount}, "ignore": ["openai"]}).status_code == 404
    assert (
        post(provider={"max_price": {"prompt": amount, "image": None}, "order": ["azure"]}).json()["provider"]
        == "OpenAI"
    )


def test_a_price_limit_holds_for_each_part_of_the_price(post):
    assert post(provider={"max_price": {"prompt": 2.5, "completion": 15, "request": 0}}).status_code == 200
    assert post(provider={"max_price": {"prompt": 2.5, "completion": 14.99}}).status_code == 404


def test_a_price_limit_looks_at_the_price_of_a_prompt_this_long(post):
    long = [{"role": "user", "content": "word " * 273_000}]
    cheap = {"max_price": {"prompt": 3}}

    assert post(provider=cheap).status_code == 200
    assert availability(post(messages=long, provider=cheap))["excluded_by"] == ["max_price"]


@pytest.mark.parametrize(
    ("model", "sent", "status"),
    [
        (MODEL, {"seed": 7}, 200),
        (MODEL, {"top_p": 0.5}, 404),
        (MODEL, {"reasoning_effort": "low"}, 200),
        (OPEN, {"top_p": 0.5, "logit_bias": {}}, 200),
        (OPEN, {"logprobs": True}, 404),
        (
            FREE,
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
            404,
        ),
    ],
)
def test_required_parameters_are_looked_up_in_the_records(post, hosts, model, sent, status):
    answer = post(model=model, provider={"require_parameters": True}, **sent)

    assert answer.status_code == status
    assert post(model=model, provider={"require_parameters": False}, **sent).status_code == 200
    if status == 404:
        assert availability(answer)["excluded_by"] == ["require_parameters"]


def test_messages_require_parameters_under_their_own_names(post):
    strict = {"require_parameters": True}

    assert post(MESSAGES, provider=strict, thinking={"type": "adaptive"}).status_code == 200
    assert post(MESSAGES, provider=strict, stop_sequences=["tea"]).status_code == 404


# Nobody is left


ONLY_GROQ = (
    "No allowed providers are available for the selected model. Providers serving openai/gpt-5.4: openai, azure, "
    "but your request's provider.only preference permits only: groq."
)
PRIVACY = (
    "No endpoints available matching your guardrail restrictions and data policy. "
    "Configure: https://openrouter.ai/settings/privacy"
)


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize(
    ("model", "provider", "code", "words", "message"),
    [
        (MODEL, {"only": ["groq"]}, "constraint_filtered", ["allowed_providers"], ONLY_GROQ),
        (MODEL, {"only": ["openai/eu"]}, "constraint_filtered", ["allowed_providers"], "only: openai/eu."),
        (MODEL, {"ignore": ["openai", "azure"]}, "constraint_filtered", ["allowed_providers"], "have been ignored"),
        (
            MODEL,
            {"order": ["groq"], "allow_fallbacks": False},
            "constraint_filtered",
            ["allowed_providers"],
            "provider.order preference permits only: groq.",
        ),
        (MODEL, {"quantizations": ["int4"]}, "constraint_filtered", ["quantization"], "int4"),
        (MODEL, {"max_price": {"prompt": "0.01"}}, "constraint_filtered", ["max_price"], "$0.01 per million tokens"),
        (FREE, {"zdr": True}, "privacy_restricted", ["data_policy:zdr"], PRIVACY),
        (FREE, {"data_collection": "deny"}, "privacy_restricted", ["data_policy:training"], PRIVACY),
        (
            MODEL,
            {"only": ["openai"], "zdr": True},
            "privacy_restricted",
            ["allowed_providers", "data_policy:zdr"],
            PRIVACY,
        ),
        (
            OPEN,
            {"only": ["deepinfra"], "quantizations": ["bf16"], "max_price": {"prompt": 0}},
            "constraint_filtered",
            ["allowed_providers", "quantization", "max_price"],
            "max_price",
        ),
    ],
)
def test_when_nobody_may_answer_every_reason_is_named(post, path, model, provider, code, words, message):
    answer = post(path, model=model, provider=provider)

    error, reason = answer.json()["error"], availability(answer)
    assert answer.status_code == 404
    assert message in error["message"]
    assert (reason["code"], reason["excluded_by"], reason["retryable"]) == (code, words, False)
    assert reason["requested_models"] == [model]
    assert reason["docs_url"].endswith(f"#{code}")
    if path == CHAT:
        assert (error["code"], error["metadata"]["error_type"]) == (404, "not_found")
    else:
        assert (error["type"], error["error_type"]) == ("not_found_error", "not_found")


def test_a_model_without_tools_has_no_endpoints_for_them(post):
    answer = post(model="cohere/command-a", tools=[TOOL])

    assert answer.status_code == 404
    assert availability(answer)["code"] == "no_endpoints"
    assert answer.json()["error"]["message"] == (
        'No endpoints found that support tool use. Try disabling "get_weather". '
        "To learn more about provider routing, visit: https://openrouter.ai/docs/provider-routing"
    )


def test_a_price_limit_that_nobody_meets_says_which(post):
    constraint = availability(post(provider={"max_price": {"completion": 1}}))["constraint"]

    assert constraint["field"] == "max_price"
    assert "(completion)" in constraint["detail"]


@pytest.mark.parametrize(("path", "field"), [(CHAT, "models"), (MESSAGES, "fallbacks")])
def test_the_next_model_is_asked_when_nobody_may_answer_for_the_first(post, path, field):
    models = [FREE, MODEL] if field == "models" else [{"model": MODEL}]

    answer = post(path, **{"model": FREE, field: models}, provider={"zdr": True}).json()

    assert (answer["model"], answer["provider"]) == ("openai/gpt-5.4-20260305", "Azure")
    assert [attempt["status"] for attempt in answer["openrouter_metadata"]["attempts"]] == [404, 200]


def test_a_router_chooses_among_the_models_that_somebody_may_answer_for(post):
    prompts = [[{"role": "user", "content": f"Question {number}"}] for number in range(12)]

    answers = [post(model="openrouter/auto", messages=each, provider={"only": ["mistral"]}) for each in prompts]

    assert {answer.json()["provider"] for answer in answers} == {"Mistral"}
    nobody = post(model="openrouter/auto", provider={"only": ["no-such-host"]})
    assert nobody.json()["error"]["message"] == "No models match your request and model restrictions"


@pytest.mark.parametrize(
    "provider",
    [
        [],
        {"only": "openai"},
        {"order": [1]},
        {"allow_fallbacks": "no"},
        {"zdr": 1},
        {"data_collection": "perhaps"},
        {"quantizations": ["fp7"]},
        {"sort": "colour"},
        {"sort": {"by": "price", "partition": "some"}},
        {"max_price": 3},
        {"max_price": {"prompt": "cheap"}},
        {"max_price": {"prompt": -1}},
        {"max_price": {"prompt": True}},
    ],
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_malformed_preference_is_refused_by_name(post, path, provider):
    answer = post(path, provider=provider)

    assert answer.status_code == 400
    assert "provider" in answer.json()["error"]["message"] or "max_price" in answer.json()["error"]["message"]


# Recorded catalogs


def test_recorded_providers_say_who_trains(tmp_path):
    provider = {"name": "OpenAI", "slug": "openai", "_policy": {"may_train_on_prompts": True}}
    (tmp_path / "providers.json").write_text(json.dumps({"data": [provider]}))

    answers = ask_another(
        [MODEL, "cohere/command-a"], {"data_collection": "deny"}, providers=tmp_path / "providers.json"
    )

    # Azure keeps nothing; nobody has said what Cohere does, the only host of its model.
    assert answers == ["Azure", None]


def test_recorded_endpoints_of_a_tier_are_known_by_their_tag(box, hosts, tmp_path):
    rows = [{name: row[name] for name in row if name != "service_tier"} for row in reversed(hosts(MODEL).values())]
    (tmp_path / "endpoints.json").write_text(json.dumps(rows))

    recorded = tmp_path / "endpoints.json"
    assert ask_another([MODEL], {}, endpoints=recorded) == ["Azure"]
    assert ask_another([MODEL], {"only": ["openai/priority"]}, endpoints=recorded) == ["OpenAI"]


def ask_another(models: list[str], provider: dict[str, Any], **flags: Any) -> list[str | None]:
    """Who answers for each model in a sandbox of its own; None where nobody may."""
    running = start_sandbox(**flags)
    headers = {"authorization": f"Bearer {running.key()}"}
    questions = [{"model": model, "messages": SAY, "max_tokens": 100, "provider": provider} for model in models]
    answers = [running.http.post(f"{running.url}{CHAT}", json=question, headers=headers) for question in questions]
    running.stop()
    return [answer.json().get("provider") for answer in answers]


# Hosts that fail


def test_a_rule_that_names_a_provider_lets_its_next_host_answer(box, post):
    box.rules({"match": {"provider": "openai"}, "answer": {"kind": "status", "status": 429}})

    answer = post().json()

    route = answer["openrouter_metadata"]
    assert (answer["provider"], route["strategy"], route["attempt"]) == ("Azure", "direct", 2)
    assert route["attempts"] == [
        {"provider": "OpenAI", "model": MODEL, "status": 429},
        {"provider": "Azure", "model": MODEL, "status": 200},
    ]
    assert [(row["provider"], row["selected"]) for row in route["endpoints"]["available"]] == [
        ("OpenAI", False),
        ("Azure", True),
    ]
    assert route["endpoints"]["total"] == 4


def test_hosts_are_asked_in_order_until_one_answers(box, post):
    box.rules({"match": {"provider": "deepinfra/*"}, "answer": {"kind": "status", "status": 502}})

    answer = post(model=OPEN, provider={"order": ["deepinfra", "novita"]}).json()

    tried = [(attempt["provider"], attempt["status"]) for attempt in answer["openrouter_metadata"]["attempts"]]
    assert tried == [("DeepInfra", 502), ("DeepInfra", 502), ("Novita", 200)]


def test_without_fallbacks_the_first_host_has_the_last_word(box, post):
    box.rules({"match": {"provider": "azure"}, "answer": {"kind": "status", "status": 503, "message": "Busy"}})

    answer = post(provider={"order": ["azure", "openai"], "allow_fallbacks": False})

    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "Busy")
    assert answer.json()["error"]["metadata"]["provider_name"] == "Azure"


def test_a_host_that_refuses_the_content_is_not_passed_over(box, post):
    box.rules({"match": {"provider": "OpenAI"}, "answer": {"kind": "status", "status": 403}})

    assert post().status_code == 403


def test_when_all_hosts_fail_the_last_error_tells_of_the_others(box, post):
    box.rules(
        {"match": {"provider": "openai"}, "answer": {"kind": "status", "status": 429}},
        {"match": {"provider": "azure", "model": MODEL}, "answer": {"kind": "status", "status": 503}},
    )

    answer = post()

    assert (answer.status_code, answer.json()["error"]["metadata"]["provider_name"]) == (503, "Azure")
    assert answer.json()["error"]["metadata"]["previous_errors"] == [
        {"provider": "OpenAI", "code": "rate_limit_exceeded", "status": 429}
    ]


def test_a_rule_can_spoil_the_answers_of_one_provider(box, post):
    box.rules({"match": {"provider": "azure"}, "answer": {"kind": "empty"}})

    assert post(provider={"only": ["azure"]}).json()["choices"] == []
    assert post().json()["choices"] != []


def test_the_journal_has_the_price_of_the_host_that_answered(box, post):
    answer = post(provider={"only": ["openai/flex"]})

    assert Decimal(box.journal()[-1]["cost"]) == cost_of(answer)
