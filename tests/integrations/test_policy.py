"""The rules of policies: reading them, merging them, and what they do to one call."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from integrations.facts import Catalog, EndpointFacts, ModelFacts, Prices, ProviderFacts
from integrations.openrouter.tools import OPENROUTER
from integrations.policy import (
    BadRules,
    PolicyRefuses,
    Reach,
    Rules,
    constrain,
    merge,
    reachable,
    read_rules,
    widens,
)
from integrations.policy.endpoints import Limits
from integrations.policy.names import any_covers, common, covers, shortest
from integrations.policy.rules import tightest
from integrations.registry import get_tool, parse_arguments

CHAT, MESSAGE = "create_chat_completion", "create_message"
FLOOR = "the team's floor"
SAY = [{"role": "user", "content": "Hello"}]
ZDR_FOR_ALL = {"retention": dict.fromkeys(("anthropic", "openai", "google", "xai", "other"), "zdr")}


def usd(per_million: str) -> Decimal:
    return Decimal(per_million) / 1_000_000


def endpoint(tag: str, *, zdr: bool = False, price: str = "1") -> EndpointFacts:
    return EndpointFacts(tag, tag.partition("/")[0], Prices(usd(price), usd(price)), zdr)


def model(
    name: str, *endpoints: EndpointFacts, price: str | None = "1", whole: bool = True, **facts: Any
) -> ModelFacts:
    prices = Prices(price and usd(price), price and usd(price))
    keep_nothing = tuple(offer for offer in endpoints if offer.is_zdr)
    text = frozenset({"text"})
    known = {"input_modalities": text, "output_modalities": text, "parameters": frozenset()} | facts
    return ModelFacts(
        name, name, prices, 100_000, 8_000, endpoints=endpoints if whole else None, zdr_endpoints=keep_nothing, **known
    )


MODELS = [
    model("anthropic/claude", endpoint("anthropic"), endpoint("amazon-bedrock", zdr=True, price="3")),
    model("anthropic/claude-old", endpoint("anthropic")),
    model(
        "openai/gpt",
        endpoint("openai"),
        endpoint("azure", zdr=True, price="2"),
        endpoint("azure/eastus2", zdr=True, price="4"),
        endpoint("openai/priority", price="2"),
    ),
    model("google/gemini", endpoint("google-vertex/europe-west1", zdr=True), endpoint("google-vertex", zdr=True)),
    model("x-ai/grok", endpoint("xai")),
    model("meta/llama", endpoint("deepinfra/fp8"), endpoint("deepinfra-turbo", zdr=True), endpoint("parasail")),
    model("meta/half-known", endpoint("parasail", zdr=True), whole=False),
    model("meta/dear", price=None, whole=False),
    model("meta/gone", endpoint("parasail", zdr=True), is_gone=True),
    model("meta/reader", endpoint("parasail", zdr=True), input_modalities=frozenset({"text", "file"})),
    model("openrouter/auto", price=None, whole=False),
]
PROVIDERS = [
    ProviderFacts("anthropic", "Anthropic", "US"),
    ProviderFacts("azure", "Azure", "US", ("US", "SE")),
    ProviderFacts("deepinfra", "DeepInfra", "US", ("US",)),
    ProviderFacts("deepinfra-turbo", "DeepInfra Turbo", "US", ("US",)),
    ProviderFacts("google-vertex", "Google Vertex", "US", ("US", "DE")),
    ProviderFacts("openai", "OpenAI", "US"),
    ProviderFacts("parasail", "Parasail", "US", ("DE",)),
    ProviderFacts("amazon-bedrock", "Amazon Bedrock", "US", ("US", "DE")),
]
KNOWN = Catalog(
    1,
    datetime(2026, 11, 1, tzinfo=UTC),
    {facts.id: facts for facts in MODELS},
    {"~anthropic/claude-latest": "anthropic/claude"},
    {provider.slug: provider for provider in PROVIDERS},
)
UNKNOWN = Catalog(0, None, {}, {}, {})


def ask(tool: str = CHAT, model: str = "openai/gpt", **more: Any) -> BaseModel:
    return parse_arguments(get_tool("openrouter", tool), {"model": model, "messages": SAY} | more)


def sources(*rules: dict[str, Any]) -> list[tuple[str, Rules]]:
    return [(words, read_rules(said)) for words, said in zip((FLOOR, "the persona Ada"), rules, strict=False)]


def body(arguments: BaseModel, *rules: dict[str, Any], catalog: Catalog = KNOWN) -> dict[str, Any]:
    return constrain(arguments, sources(*rules), catalog).arguments.body()


def refusal(arguments: BaseModel, *rules: dict[str, Any], catalog: Catalog = KNOWN) -> PolicyRefuses:
    with pytest.raises(PolicyRefuses) as caught:
        constrain(arguments, sources(*rules), catalog)
    return caught.value


# --- what cannot be read --------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        {"max_price_in": "-1"},
        {"max_price_in": -1},
        {"max_price_in": "NaN"},
        {"max_price_in": float("nan")},
        {"max_price_in": float("inf")},
        {"max_price_in": "1e400"},
        {"max_price_in": "1e3"},
        {"max_price_in": "1_000"},
        {"max_price_in": True},
        {"max_price_out": "1000000.01"},
        {"max_price_out": "9" * 400},
        {"retention": {"anthropic": "forever"}},
        {"retention": {"mistral": "zdr"}},
        {"retention": "zdr"},
        {"data_collection": "maybe"},
        {"providers_only": "azure"},
        {"providers_only": ["*"]},
        {"providers_only": ["az*re"]},
        {"providers_only": ["azure/*"]},
        {"providers_never": ["azure\nopenai"]},
        {"providers_never": [1]},
        {"providers_never": [f"provider-{number}" for number in range(1_001)]},
        {"regions": ["D"]},
        {"regions": ["fp8"]},
        {"regions": ["flex"]},
        {"regions": [["DE"]]},
        {"surprise": 1},
        {"retention": {"anthropic": {"deep": []}}},
        [],
        None,
    ],
)
def test_what_is_no_rule_is_refused_in_words_and_not_overlooked(data):
    with pytest.raises(BadRules) as caught:
        read_rules(data)
    assert "999" not in str(caught.value)
    assert caught.value.rule == "unreadable"


def test_rules_come_back_from_the_database_as_they_were():
    said = {
        "retention": {"openai": "safety", "other": "zdr"},
        "data_collection": "deny",
        "providers_only": ["azure", "deepinfra*"],
        "providers_never": ["azure/eastus2"],
        "max_price_in": "0.000000000000000001",
        "max_price_out": "15",
        "regions": ["de"],
    }
    assert read_rules(said).as_json() == said
    assert read_rules(read_rules(said).as_json()) == read_rules(said)
    assert Rules().as_json() == {}


def test_names_are_kept_in_one_spelling_and_the_shortest_list():
    assert read_rules({"providers_never": [" Azure ", "azure/EastUS2", "azure"]}).providers_never == ("azure",)
    assert read_rules({"regions": ["DE", "de "]}).regions == ("de",)


def test_empty_lists_of_what_is_allowed_allow_nothing():
    assert refusal(ask(), {"providers_only": []}).rule == "providers_only"
    assert refusal(ask(), {"regions": []}).rule == "regions"


def test_a_thousand_providers_are_merged_and_asked_quickly():
    many = {"providers_never": [f"provider-{number}" for number in range(1_000)]}
    sent = body(ask(), many, {"providers_never": [f"other-{number}" for number in range(1_000)]})
    assert len(set(sent["provider"]["ignore"])) == 2_000 * 6  # each with its service tiers


# --- names, merging -----------------------------------------------------------------------

SLUGS = st.sampled_from(["a", "ab", "abc", "b", "azure"])
NAMES = st.one_of(
    SLUGS, SLUGS.map(lambda slug: f"{slug}*"), st.tuples(SLUGS, st.sampled_from(["x", "y"])).map("/".join)
)
LISTS = st.lists(NAMES, max_size=5).map(shortest)
PRICES = st.none() | st.decimals(0, 100, places=2)
LEVELS = st.dictionaries(
    st.sampled_from(["anthropic", "openai", "google", "xai", "other"]), st.sampled_from(["any", "safety", "zdr"])
)


@st.composite
def rules(draw) -> Rules:
    return Rules(
        retention=draw(LEVELS),
        data_collection=draw(st.sampled_from([None, "allow", "deny"])),
        providers_only=draw(st.none() | LISTS),
        providers_never=draw(LISTS),
        max_price_in=draw(PRICES),
        max_price_out=draw(PRICES),
        regions=draw(st.none() | st.lists(st.sampled_from(["de", "us", "eu-west1"]), max_size=3).map(tuple)),
    )


def everything() -> Iterator[str]:
    for slug in ("a", "ab", "abc", "abcd", "b", "azure", "z"):
        yield slug
        yield from (f"{slug}/x", f"{slug}/y")


def meant(names: tuple[str, ...]) -> set[str]:
    return {name for name in everything() if any_covers(names, name)}


@given(LISTS, LISTS)
def test_what_two_lists_have_in_common_is_what_both_mean(one, other):
    assert meant(common(one, other)) == meant(one) & meant(other)
    assert meant(shortest([*one, *other])) == meant(one) | meant(other)


def test_a_slug_means_all_its_endpoints_and_a_tag_one():
    assert covers("google-vertex", "google-vertex/us-east5")
    assert not covers("google-vertex/us-east5", "google-vertex")
    assert not covers("google", "google-vertex")
    assert covers("google*", "google-vertex/us-east5")


@given(rules(), rules(), rules())
def test_merging_does_not_depend_on_the_order(one, two, three):
    assert tightest(one, two) == tightest(two, one)
    assert tightest(tightest(one, two), three) == tightest(one, tightest(two, three))
    assert tightest(one, one) == one
    assert tightest(one, Rules()) == one


@given(rules(), rules())
def test_what_merged_rules_ask_for_widens_neither_of_them(one, two):
    assert widens(one, tightest(one, two)) == []
    assert widens(two, tightest(one, two)) == []


def test_each_rule_is_named_after_the_source_that_set_it():
    merged = merge(
        sources(
            {"retention": {"openai": "safety"}, "providers_never": ["azure"], "max_price_in": "5"},
            {"retention": {"openai": "zdr"}, "providers_never": ["groq"], "max_price_in": "9"},
        )
    )
    assert merged.by == {
        "retention": "the team's floor and the persona Ada",
        "retention.openai": "the persona Ada",
        "providers_never": "the team's floor and the persona Ada",
        "max_price_in": "the team's floor",
    }


@pytest.mark.parametrize(
    ("floor", "own", "named"),
    [
        ({"retention": {"openai": "zdr"}}, {"retention": {"openai": "safety"}}, "OpenAI"),
        ({"retention": {"openai": "zdr"}}, {"retention": {"openai": "any"}}, "OpenAI"),
        ({"data_collection": "deny"}, {"data_collection": "allow"}, "Training"),
        ({"providers_only": ["azure"]}, {"providers_only": ["azure", "groq"]}, "groq"),
        ({"providers_only": []}, {"providers_only": ["groq"]}, "groq"),
        ({"providers_only": ["azure/eastus2"]}, {"providers_only": ["azure"]}, "azure"),
        ({"max_price_in": "1"}, {"max_price_in": "1.01"}, "$1.01"),
        ({"max_price_out": "1"}, {"max_price_out": "2"}, "tokens out"),
        ({"regions": ["de"]}, {"regions": ["de", "us"]}, "us"),
        ({"regions": []}, {"regions": ["us"]}, "us"),
    ],
)
def test_what_asks_for_less_than_the_floor_is_named(floor, own, named):
    (words,) = widens(read_rules(floor), read_rules(own))
    assert named in words


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"retention": {"openai": "zdr", "google": "any"}},
        {"providers_only": ["azure/eastus2"]},
        {"providers_never": ["openai"]},
        {"max_price_in": "1"},
    ],
)
def test_what_is_as_tight_as_the_floor_or_tighter_is_fine(own):
    floor = {"retention": {"openai": "safety"}, "providers_only": ["azure"], "max_price_in": "1"}
    assert widens(read_rules(floor), read_rules(own)) == []


# --- retention -----------------------------------------------------------------------------


@pytest.mark.requirement("LLM-10")
@pytest.mark.parametrize("level", ["safety", "zdr"])
@pytest.mark.parametrize("tool", [CHAT, MESSAGE])
def test_a_retention_rule_is_in_the_request(tool, level):
    assert body(ask(tool), {"retention": {"openai": level}})["provider"]["zdr"] is True


def test_a_retention_rule_for_other_models_leaves_the_request_alone():
    assert "provider" not in body(ask(), {"retention": {"anthropic": "zdr", "openai": "any"}})


def test_without_rules_arguments_come_back_as_they_were():
    arguments = ask(provider={"zdr": False})
    assert constrain(arguments, (), UNKNOWN).arguments is arguments
    assert constrain(arguments, sources({"data_collection": "allow"}), UNKNOWN).arguments is arguments


@pytest.mark.requirement("LLM-10")
@pytest.mark.parametrize(
    ("name", "catalog", "words"),
    [
        ("x-ai/grok", KNOWN, "no endpoint of x-ai/grok has it"),
        ("anthropic/claude-old", KNOWN, "Choose another model, such as anthropic/claude or "),
        ("meta/not-listed", KNOWN, "is not in the catalog"),
        ("meta/gone", KNOWN, "is not in the catalog"),
        ("~anthropic/no-alias", KNOWN, "is not in the catalog"),
        ("openai/gpt", UNKNOWN, "has not been read yet"),
        ("@preset/mine", KNOWN, "preset"),
        ("openai/gpt@preset/mine", KNOWN, "preset"),
        ("openrouter/fusion", KNOWN, "cannot be limited"),
        ("openai/gpt:online", KNOWN, ":online"),
        ("anthropic/claude:thinking", KNOWN, "is not in the catalog"),
    ],
)
def test_a_model_that_may_keep_something_is_refused_with_rule_source_and_way_out(name, catalog, words):
    refused = refusal(ask(model=name), ZDR_FOR_ALL, catalog=catalog)
    assert refused.rule == "retention"
    assert str(refused).startswith("The team's floor asks for zero data retention")
    assert words in str(refused)


@pytest.mark.requirement("LLM-10")
@pytest.mark.parametrize("field", ["models", "fallbacks"])
def test_no_fallback_leaves_the_limits(field):
    assert refusal(ask(MESSAGE, **{field: ["x-ai/grok"]}), ZDR_FOR_ALL).rule == "retention"
    assert refusal(ask(MESSAGE, **{field: ["@preset/mine"]}), {"data_collection": "deny"}).rule == "data_collection"


@pytest.mark.parametrize("name", ["openai/gpt:nitro", "~anthropic/claude-latest", "meta/half-known", "openrouter/auto"])
def test_suffixes_aliases_and_known_routers_are_held_by_the_request(name):
    assert body(ask(model=name), ZDR_FOR_ALL)["provider"]["zdr"] is True


def test_an_alias_counts_for_its_own_author_and_for_the_one_it_means():
    moved = Catalog(1, KNOWN.read_at, KNOWN.models, {"~meta/llama-latest": "anthropic/claude"}, KNOWN.providers)
    asked = ask(model="~meta/llama-latest")
    assert body(asked, {"retention": {"anthropic": "zdr"}}, catalog=moved)["provider"]["zdr"] is True
    assert body(asked, {"retention": {"other": "zdr"}}, catalog=moved)["provider"]["zdr"] is True


@pytest.mark.requirement("LLM-10")
@pytest.mark.parametrize(
    "more",
    [
        {"plugins": [{"id": "web"}]},
        {"plugins": [{"id": "web", "enabled": True}]},
        {"plugins": [{"id": "web-fetch"}]},
        {"plugins": [{"id": "moderation"}]},
        {"plugins": [{"id": "file-parser"}]},
        {"plugins": [{"id": "file-parser", "pdf": {"engine": "mistral-ocr"}}]},
        {"tools": [{"type": "openrouter:web_search"}]},
        {"tools": [{"type": "openrouter:web_fetch"}]},
        {"prompt_cache_options": {"mode": "explicit", "ttl": "24h"}},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_data": "https://x.test/a.pdf"}}]}]},
    ],
)
@pytest.mark.parametrize("rule", [ZDR_FOR_ALL, {"data_collection": "deny"}, {"regions": ["us", "se"]}])
def test_what_carries_text_past_the_endpoints_is_refused(more, rule):
    assert "that rule does not reach" in str(refusal(ask(**more), rule))


@pytest.mark.parametrize(
    "more",
    [
        {"plugins": [{"id": "web", "enabled": False}, {"id": "response-healing"}]},
        {"plugins": [{"id": "file-parser", "pdf": {"engine": "native"}}]},
        {"tools": [{"type": "openrouter:datetime"}]},
        {"tools": [{"type": "function", "function": {"name": "look_up"}}]},
    ],
)
def test_what_stays_inside_the_request_is_let_through(more):
    assert body(ask(**more), ZDR_FOR_ALL)["provider"]["zdr"] is True


def test_a_model_that_reads_files_itself_may_be_given_some():
    file = {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}}
    said = [{"role": "user", "content": [file]}]
    assert body(ask(MESSAGE, model="meta/reader", messages=said), ZDR_FOR_ALL)["provider"]["zdr"] is True
    assert refusal(ask(MESSAGE, messages=said), ZDR_FOR_ALL).rule == "retention"


# --- providers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "rule", "sent"),
    [
        (None, {"providers_only": ["azure"]}, {"only": ["azure"]}),
        ({"only": ["Azure"]}, {"providers_only": ["azure", "openai"]}, {"only": ["azure"]}),
        ({"only": ["azure/eastus2", "groq"]}, {"providers_only": ["azure"]}, {"only": ["azure/eastus2"]}),
        ({"only": ["azure"]}, {"providers_only": ["azure/eastus2"]}, {"only": ["azure/eastus2"]}),
        ({"only": ["openai/priority"]}, {"providers_only": ["openai"]}, {"only": ["openai/priority"]}),
        (None, {"providers_only": ["azure", "openai/priority"]}, {"only": ["azure"]}),
        ({"order": ["openai", "azure"]}, {"providers_only": ["azure"]}, {"only": ["azure"], "order": ["azure"]}),
        ({"order": ["openai"]}, {"providers_only": ["azure"]}, {"only": ["azure"]}),
        ({"order": ["openai/priority", "azure"]}, {"providers_never": ["openai"]}, {"order": ["azure"]}),
        ({"only": ["openai/priority", "azure"]}, {"providers_never": ["openai"]}, {"only": ["azure"]}),
    ],
)
def test_lists_of_providers_only_get_shorter(wish, rule, sent):
    provider = body(ask(provider=wish), rule)["provider"]
    assert {name: value for name, value in provider.items() if name != "ignore"} == sent


def test_a_denied_provider_is_denied_with_its_service_tiers():
    ignored = body(ask(provider={"ignore": ["groq"]}), {"providers_never": ["openai"]})["provider"]["ignore"]
    assert ignored[:2] == ["groq", "openai"]
    assert "openai/flex" in ignored and "openai/priority" in ignored


@pytest.mark.parametrize(
    ("wish", "rule", "named"),
    [
        ({"only": ["groq"]}, {"providers_only": ["azure"]}, "providers_only"),
        ({"only": ["openai/priority"]}, {"providers_never": ["openai"]}, "providers_never"),
        (None, {"providers_only": ["openai/priority"]}, "providers_only"),
        ({"only": ["openai"]}, {"providers_never": ["openai"]}, "providers_never"),
        ({"order": ["openai"], "allow_fallbacks": False}, {"providers_only": ["azure"]}, "providers_only"),
        (None, {"providers_only": ["groq"]}, "providers_only"),
        (None, {"providers_never": ["openai", "azure"]}, "providers_never"),
        ({"only": ["openai"]}, {"retention": {"openai": "zdr"}}, "retention"),
        ({"ignore": ["azure"]}, {"retention": {"openai": "zdr"}}, "retention"),
        (None, {"retention": {"openai": "zdr"}, "providers_never": ["azure"]}, "providers_never"),
    ],
)
def test_a_wish_that_has_nothing_in_common_with_the_rules_is_refused(wish, rule, named):
    assert refusal(ask(provider=wish), rule).rule == named


def test_a_star_needs_the_catalog_that_says_who_begins_so():
    sent = body(ask(model="meta/llama"), {"providers_only": ["deepinfra*"]})
    assert sent["provider"]["only"] == ["deepinfra", "deepinfra-turbo"]
    assert refusal(ask(), {"providers_only": ["deepinfra*"]}, catalog=UNKNOWN).rule == "providers_only"
    assert refusal(ask(), {"providers_never": ["deepinfra*"]}, catalog=UNKNOWN).rule == "providers_never"


def test_rules_that_the_request_carries_by_itself_need_no_catalog():
    sent = body(ask(model="new/model"), {"data_collection": "deny", "providers_only": ["azure"]}, catalog=UNKNOWN)
    assert sent["provider"] == {"data_collection": "deny", "only": ["azure"]}


# --- prices and regions ---------------------------------------------------------------------


def test_the_lower_price_is_sent_as_text():
    wish = {"max_price": {"prompt": "5", "completion": "1.50", "request": "0.1"}}
    sent = body(ask(provider=wish), {"max_price_in": "2.50", "max_price_out": "9"})
    assert sent["provider"]["max_price"] == {"prompt": "2.50", "completion": "1.50", "request": "0.1"}


@pytest.mark.parametrize(
    ("name", "rule", "catalog", "words"),
    [
        ("openai/gpt", {"max_price_in": "0.99"}, KNOWN, "no endpoint of openai/gpt is inside it"),
        ("meta/half-known", {"max_price_out": "0.99"}, KNOWN, "costs more"),
        ("meta/dear", {"max_price_in": "1000000"}, KNOWN, "has no known price"),
        ("meta/not-listed", {"max_price_in": "5"}, KNOWN, "is not in the catalog"),
        ("openai/gpt", {"max_price_in": "5"}, UNKNOWN, "has not been read yet"),
        ("openai/gpt:nitro", {"max_price_in": "5"}, KNOWN, ":nitro"),
        ("openai/gpt", {"retention": {"openai": "zdr"}, "max_price_in": "1.50"}, KNOWN, "at most $1.50"),
    ],
)
def test_a_price_that_is_too_high_or_unknown_is_refused(name, rule, catalog, words):
    refused = refusal(ask(model=name), rule, catalog=catalog)
    assert refused.rule in ("max_price_in", "max_price_out")
    assert words in str(refused)


@pytest.mark.parametrize(
    ("tool", "more"),
    [
        (CHAT, {"service_tier": "priority"}),
        (CHAT, {"service_tier": "auto"}),
        (MESSAGE, {"service_tier": "priority"}),
        (MESSAGE, {"speed": "fast"}),
    ],
)
def test_dearer_service_is_refused_under_a_price_rule(tool, more):
    assert refusal(ask(tool, **more), {"max_price_in": "100"}).rule == "max_price_in"
    assert body(ask(tool, **more), {"data_collection": "deny"})["provider"] == {"data_collection": "deny"}


def test_regions_let_through_only_what_is_known_to_be_inside():
    sent = body(ask(model="openai/gpt"), {"regions": ["US", "SE"]})
    assert sent["provider"]["only"] == ["azure", "deepinfra", "deepinfra-turbo"]
    sent = body(ask(model="google/gemini"), {"regions": ["europe-west1"]})
    assert sent["provider"]["only"] == ["google-vertex/europe-west1"]
    sent = body(ask(model="google/gemini"), {"regions": ["europe-west1"]}, {"providers_never": ["azure"]})
    assert sent["provider"]["only"] == ["google-vertex/europe-west1"]


@pytest.mark.parametrize(
    ("name", "regions", "catalog", "words"),
    [
        ("anthropic/claude-old", ["us"], KNOWN, "no endpoint of anthropic/claude-old is inside it"),
        ("openai/gpt", ["us"], KNOWN, "no endpoint"),  # Azure also computes in Sweden
        ("openai/gpt", ["fr"], KNOWN, "no provider is known to compute only there"),
        ("openai/gpt", ["us"], UNKNOWN, "has not been read yet"),
    ],
)
def test_where_nobody_says_where_it_computes_a_region_refuses(name, regions, catalog, words):
    refused = refusal(ask(model=name), {"regions": regions}, catalog=catalog)
    assert (refused.rule, words in str(refused)) == ("regions", True), refused


# --- never looser --------------------------------------------------------------------------

PROVIDER_NAMES = st.sampled_from(["azure", "azure/eastus2", "openai", "openai/priority", "google-vertex", "parasail"])
WISHES = st.fixed_dictionaries(
    {},
    optional={
        "only": st.lists(PROVIDER_NAMES, min_size=1, max_size=3),
        "order": st.lists(PROVIDER_NAMES, min_size=1, max_size=3),
        "ignore": st.lists(PROVIDER_NAMES, min_size=1, max_size=3),
        "allow_fallbacks": st.booleans(),
        "zdr": st.booleans(),
        "data_collection": st.sampled_from(["allow", "deny"]),
        "max_price": st.fixed_dictionaries({}, optional={"prompt": st.sampled_from(["0.5", "2", "9"])}),
    },
)
REAL_NAMES = st.lists(PROVIDER_NAMES, max_size=3).map(shortest)


@st.composite
def real_rules(draw) -> Rules:
    return draw(rules()).model_copy(
        update={"providers_only": draw(st.none() | REAL_NAMES), "providers_never": draw(REAL_NAMES)}
    )


def answering(facts: ModelFacts, provider: dict[str, Any]) -> set[str]:
    """The endpoints that may answer, read off a request as the provider would."""
    limits = Limits(
        only=frozenset(provider["only"]) if provider.get("only") else None,
        ignore=frozenset(provider.get("ignore") or ()),
        max_in=Decimal(provider["max_price"]["prompt"]) if provider.get("max_price", {}).get("prompt") else None,
        max_out=Decimal(provider["max_price"]["completion"])
        if provider.get("max_price", {}).get("completion")
        else None,
        named=frozenset([*(provider.get("only") or ()), *(provider.get("order") or ())]),
    )
    offers = [offer for offer in facts.endpoints or () if limits.reaches(offer)]
    if provider.get("order") and provider.get("allow_fallbacks") is False:
        offers = [offer for offer in offers if any_covers(provider["order"], offer.tag)]
    if provider.get("zdr"):
        offers = [offer for offer in offers if offer.is_zdr]
    for _rule, keeps in limits.sieves():
        offers = [offer for offer in offers if keeps(offer)]
    return {offer.tag for offer in offers}


def allowed_by(rules: Rules, facts: ModelFacts) -> set[str]:
    """The endpoints inside some rules, worked out one by one."""
    places = {provider.slug: {place.lower() for place in provider.datacenters} for provider in PROVIDERS}

    def is_inside(offer: EndpointFacts) -> bool:
        price = offer.prices.tokens_in * 1_000_000
        group = {"openai": "openai", "google": "google"}.get(facts.author, "other")
        where = places.get(offer.provider) or {"nowhere"}
        return (
            (offer.is_zdr or rules.level(group) == "any")
            and (rules.providers_only is None or any_covers(rules.providers_only, offer.tag))
            and not any_covers(rules.providers_never, offer.tag)
            and (rules.max_price_in is None or price <= rules.max_price_in)
            and (rules.max_price_out is None or price <= rules.max_price_out)
            and (rules.regions is None or where <= set(rules.regions) or offer.tag.partition("/")[2] in rules.regions)
        )

    return {offer.tag for offer in facts.endpoints or () if is_inside(offer)}


@pytest.mark.requirement("LLM-10")
@given(st.sampled_from(["openai/gpt", "google/gemini", "meta/llama"]), WISHES, real_rules(), real_rules())
def test_constraining_never_lets_an_endpoint_in(name, wish, floor, own):
    if set(wish.get("only", ["x"])) <= set(wish.get("ignore", ())):
        wish = wish | {"ignore": ["groq"]}
    arguments, facts = ask(model=name, provider=wish), KNOWN.models[name]
    try:
        after = constrain(arguments, [(FLOOR, floor), ("the persona Ada", own)], KNOWN).arguments
    except PolicyRefuses as refused:
        assert refused.rule in tightest(floor, own).names
        return
    served = answering(facts, after.body().get("provider", {}))
    assert served <= answering(facts, arguments.body().get("provider", {}))
    assert served <= allowed_by(floor, facts) & allowed_by(own, facts)
    if own.data_collection == "deny":
        assert after.body()["provider"]["data_collection"] == "deny"


@given(WISHES, real_rules())
def test_constraining_twice_changes_nothing_more(wish, floor):
    if set(wish.get("only", ["x"])) <= set(wish.get("ignore", ())):
        wish = wish | {"ignore": ["groq"]}
    said = [(FLOOR, floor)]
    try:
        once = constrain(ask(provider=wish), said, KNOWN).arguments
    except PolicyRefuses:
        return
    assert constrain(once, said, KNOWN).arguments == once


# --- what is not asked ----------------------------------------------------------------------


@pytest.mark.parametrize("tool", [tool for tool in OPENROUTER.tools if tool.name not in (CHAT, MESSAGE)])
def test_tools_that_ask_no_model_are_untouched(tool):
    arguments = tool.arguments.model_construct()
    assert constrain(arguments, sources(ZDR_FOR_ALL, {"regions": []}), UNKNOWN).arguments is arguments


def test_every_field_that_could_leave_the_limits_has_been_looked_at():
    """A new field of a tool that asks a model must be judged here before it is let through."""
    looked_at = {
        *("model", "models", "fallbacks", "provider", "plugins", "tools", "service_tier", "speed", "messages"),
        *("prompt_cache_options", "prompt_cache_key", "cache_control"),  # warm caches are memory, not retention
    }
    about_the_answer = {
        *("max_completion_tokens", "max_tokens", "temperature", "top_p", "top_k", "min_p", "top_a", "seed", "stop"),
        *("frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs"),
        *("response_format", "tool_choice", "parallel_tool_calls", "reasoning", "reasoning_effort", "verbosity"),
        *("modalities", "image_config", "prediction", "stop_server_tools_when", "system", "stop_sequences", "thinking"),
        *("output_config", "context_management"),
    }
    fields = {name for tool in (CHAT, MESSAGE) for name in get_tool("openrouter", tool).arguments.model_fields}
    assert fields - looked_at - about_the_answer == set()


def test_why_not_says_it_for_every_model_of_a_catalog():
    reach = Reach(merge(sources(ZDR_FOR_ALL)), KNOWN)
    within = {name for name in KNOWN.models if not reach.why_not(name)}
    assert within == {
        *("anthropic/claude", "openai/gpt", "google/gemini", "meta/llama", "meta/half-known", "meta/reader"),
        "openrouter/auto",
    }


def test_rules_of_all_sources_hold_in_every_combination():
    parts = [{"data_collection": "deny"}, {"max_price_in": "4"}, {"providers_never": ["openai"]}]
    for one, other in product(parts, repeat=2):
        assert constrain(ask(), sources(one, other), KNOWN).merged == merge(sources(one, other))


def test_a_model_whose_endpoints_are_not_all_known_is_not_counted_as_within_reach():
    sure, unsure = reachable(merge(sources({"providers_only": ["parasail"]})), KNOWN)
    assert "meta/half-known" in unsure and "meta/llama" in sure
    sure, unsure = reachable(merge(sources({"providers_only": ["parasail"]}, ZDR_FOR_ALL)), KNOWN)
    assert "meta/half-known" in sure and unsure == set()


def test_capitals_do_not_hide_whose_model_it_is():
    rules = Rules(retention={"anthropic": "zdr"})
    reach = Reach(merge([("the team's floor", rules)]), Catalog(1, None, {}, {}, {}))
    assert reach.why_not("Anthropic/claude-sonnet-4.6")
    assert reach.why_not("OpenRouter/fusion")
    assert reach.provider(["Anthropic/claude-sonnet-4.6"]).zdr
