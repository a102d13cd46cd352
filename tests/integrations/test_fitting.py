"""Which models can serve a request, and in which order they are tried."""

import pytest

from integrations.facts import EndpointFacts
from integrations.fitting import Needs, misfit, needs_of, ranked
from integrations.openrouter.tools import OPENROUTER
from integrations.registry import parse_arguments, tokens_upper_bound
from tests.integrations.builders import make_facts, prices

CHAT = OPENROUTER.tool("create_chat_completion")
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}


def needs(**given) -> Needs:
    question = {"model": "a/b", "messages": [{"role": "user", "content": "Hi"}]} | given
    arguments = parse_arguments(CHAT, question)
    return needs_of(arguments, tokens_upper_bound(CHAT, arguments))


def test_needs_are_read_from_the_arguments():
    weather = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    said = {"role": "user", "content": [{"type": "text", "text": "Look"}, PICTURE]}
    wanted = needs(tools=[weather], response_format=schema, messages=[said], max_completion_tokens=99)
    assert wanted.tools and wanted.structured
    assert wanted.input_modalities == {"text", "image"}
    assert wanted.tokens_out == 99


@pytest.mark.parametrize(
    ("facts", "wanted", "why"),
    [
        ({}, {}, ""),
        ({"is_gone": True}, {}, "does not list it"),
        ({"output_modalities": {"image"}}, {}, "does not answer with text"),
        ({}, {"input_modalities": {"text", "image"}}, "no image input"),
        ({}, {"tools": True}, "cannot call tools"),
        ({"parameters": {"tools"}}, {"tools": True}, ""),
        ({}, {"structured": True}, "schema"),
        ({"parameters": {"tools"}}, {"parameters": {"seed"}}, "does not know seed"),
        ({"max_output": 100}, {"tokens_out": 101}, "longest answer is 100 tokens"),
        ({"max_output": None, "context_length": None}, {"tokens_out": 10**6}, ""),
        ({"context_length": 1000}, {"tokens_in": 4000, "tokens_out": 1}, "too short"),
        ({"context_length": 1000}, {"tokens_in": 3996, "tokens_out": 1}, ""),
        ({"context_length": None}, {"tokens_in": 10**9}, ""),
    ],
)
def test_what_does_not_fit_says_why(facts, wanted, why):
    held = {name: frozenset(value) if isinstance(value, set) else value for name, value in facts.items()}
    asked = {name: frozenset(value) if isinstance(value, set) else value for name, value in wanted.items()}
    said = misfit(make_facts(**held), Needs(**asked))
    assert why in said and bool(said) is bool(why)


def fast(tokens_a_second: float | None) -> tuple[EndpointFacts, ...]:
    return (EndpointFacts("t", "t", prices("1", "1"), False, throughput=tokens_a_second),)


@pytest.mark.parametrize(
    ("rule", "best_first"),
    [("cheapest", ["a/two", "a/one", "a/three"]), ("largest", ["a/one", "a/three", "a/two"])],
)
def test_models_are_ranked_by_the_rule_with_unknown_figures_last(rule, best_first):
    models = [
        make_facts(id="a/one", prices=prices("2", "2"), context_length=300),
        make_facts(id="a/two", prices=prices("1", "1"), context_length=None),
        make_facts(id="a/three", prices=prices(None, "1"), context_length=200),
    ]
    assert [model.id for model in ranked(models, rule, Needs())] == best_first


def test_the_fastest_is_the_one_with_the_fastest_endpoint():
    models = [
        make_facts(id="a/slow", endpoints=fast(10)),
        make_facts(id="a/unknown", endpoints=fast(None)),
        make_facts(id="a/fast", endpoints=fast(90)),
        make_facts(id="a/part", endpoints=None),
    ]
    assert [model.id for model in ranked(models, "fastest", Needs())] == ["a/fast", "a/slow", "a/part", "a/unknown"]
