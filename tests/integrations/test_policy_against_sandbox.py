"""What a policy lets through and what it refuses, held against the stand-in's own choice of endpoints."""

from typing import Any

import httpx
import pytest

from integrations.facts import Catalog
from integrations.policy import PolicyRefuses, constrain, read_rules
from integrations.policy.names import any_covers
from integrations.registry import get_tool, parse_arguments
from tests.integrations.catalog_fixture import read_catalog

pytestmark = pytest.mark.django_db
SAY = [{"role": "user", "content": "Reply with exactly: a cup of tea"}]
MODELS = [
    "openai/gpt-5.4",
    "openai/gpt-oss-20b:free",
    "anthropic/claude-sonnet-4.6",
    "google/gemma-4-31b-it",
    "deepseek/deepseek-v3.2",
    "x-ai/grok-4.20",
]
EVERY_GROUP = ("anthropic", "openai", "google", "xai", "other")
# Each rule with the `provider` object that says the same, and the endpoints (by tag) that it may mean.
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"retention": dict.fromkeys(EVERY_GROUP, "zdr")}, {"zdr": True}),
    ({"retention": dict.fromkeys(EVERY_GROUP, "safety")}, {"zdr": True}),
    ({"providers_only": ["azure", "deepinfra/turbo", "novita"]}, {"only": ["azure", "deepinfra/turbo", "novita"]}),
    ({"providers_only": ["groq"]}, {"only": ["groq"]}),
    ({"providers_never": ["openai", "anthropic"]}, {"ignore": ["openai", "anthropic"]}),
    ({"max_price_in": "0.30"}, {"max_price": {"prompt": "0.30"}}),
    ({"max_price_in": "3", "max_price_out": "15"}, {"max_price": {"prompt": "3", "completion": "15"}}),
    ({"max_price_in": "0"}, {"max_price": {"prompt": "0"}}),
    ({"retention": {"openai": "zdr"}, "providers_never": ["azure"]}, {"zdr": True, "ignore": ["azure"]}),
    ({"regions": ["US"]}, {}),
]


@pytest.fixture
def known(sandbox) -> Catalog:
    return read_catalog(sandbox, wanted=MODELS)


@pytest.fixture
def post(sandbox):
    key = sandbox.key()

    def send(body: dict[str, Any]) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return sandbox.http.post(f"{sandbox.url}/chat/completions", json=body, headers=headers)

    return send


@pytest.fixture
def rows(sandbox):
    """The endpoint records of a model, as anybody can read them."""

    def read(model: str) -> list[dict[str, Any]]:
        return sandbox.http.get(f"{sandbox.url}/models/{model}/endpoints").json()["data"]["endpoints"]

    return read


def inside(rules: dict[str, Any], row: dict[str, Any], known: Catalog) -> bool:
    """Whether one endpoint record is inside some rules, worked out from the record."""
    slug = row["tag"].partition("/")[0]
    prices = {"max_price_in": "prompt", "max_price_out": "completion"}
    zdr = {endpoint.tag for endpoint in known.models[row["model_id"]].zdr_endpoints}
    group = row["model_id"].partition("/")[0]
    wants_zdr = rules.get("retention", {}).get(
        {"x-ai": "xai"}.get(group, group), rules.get("retention", {}).get("other")
    )
    where = known.providers[slug].datacenters if slug in known.providers else ()
    return (
        (not wants_zdr or row["tag"] in zdr)
        and ("providers_only" not in rules or any_covers(rules["providers_only"], row["tag"]))
        and not any_covers(rules.get("providers_never", ()), row["tag"])
        and all(
            float(row["pricing"][price]) * 1e6 <= float(rules[name]) for name, price in prices.items() if name in rules
        )
        and ("regions" not in rules or (bool(where) and set(where) <= set(rules["regions"])))
    )


@pytest.mark.requirement("LLM-10")
@pytest.mark.parametrize(("rules", "said"), CASES, ids=[" ".join(rules) for rules, _ in CASES])
def test_what_passes_is_served_inside_the_rules_and_what_is_refused_could_not_be(known, post, rows, rules, said):
    passed = refused = 0
    for model in MODELS:
        asked = {"model": model, "messages": SAY, "max_tokens": 50}
        arguments = parse_arguments(get_tool("openrouter", "create_chat_completion"), asked)
        try:
            body = constrain(arguments, [("the team's floor", read_rules(rules))], known).arguments.body()
        except PolicyRefuses:
            refused += 1
            # Nobody upstream takes a region, so there is nothing to compare a refusal with.
            if "regions" not in rules:
                answer = post(asked | {"provider": said})
                assert answer.status_code == 404, (model, answer.text)
            continue
        passed += 1
        answer = post(body)
        assert answer.status_code == 200, (model, answer.text)
        served = [row for row in rows(model) if row["provider_name"] == answer.json()["provider"]]
        assert any(inside(rules, row, known) for row in served), (model, answer.json()["provider"])
    assert passed + refused == len(MODELS)
    assert refused or passed == len(MODELS)


def test_a_router_is_held_by_the_request_alone(known, post):
    arguments = parse_arguments(
        get_tool("openrouter", "create_chat_completion"), {"model": "openrouter/auto", "messages": SAY}
    )
    floor = read_rules({"retention": dict.fromkeys(EVERY_GROUP, "zdr"), "providers_only": ["azure", "amazon-bedrock"]})
    body = constrain(arguments, [("the team's floor", floor)], known).arguments.body()
    for number in range(10):
        answer = post(body | {"messages": [{"role": "user", "content": f"Question {number}"}]})
        assert answer.json()["provider"] in ("Azure", "Amazon Bedrock")


@pytest.mark.parametrize("tag", ["openai/flex", "openai/priority"])
def test_a_denied_provider_serves_no_tier_either(known, post, tag):
    wish = {"order": [tag, "azure"], "ignore": ["openai"]}
    asked = {"model": "openai/gpt-5.4", "messages": SAY, "max_tokens": 50, "provider": wish}
    assert post(asked).json()["provider"] == "OpenAI"  # which is why the tiers are denied by name
    arguments = parse_arguments(get_tool("openrouter", "create_chat_completion"), asked)
    floor = read_rules({"providers_never": ["openai"]})
    body = constrain(arguments, [("the team's floor", floor)], known).arguments.body()
    assert post(body).json()["provider"] == "Azure"
