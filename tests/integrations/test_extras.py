"""What a call costs beside tokens: counted where it has a bound, refused under a cap where it has none."""

from decimal import Decimal

import pytest

from integrations.openrouter.arguments.extras import extras, with_bounded_steps
from integrations.openrouter.tools import OPENROUTER
from integrations.pricing import SLACK, Extras, limit, most_usd
from integrations.registry import parse_arguments
from tests.integrations.builders import make_facts, prices

CHAT = OPENROUTER.tool("create_chat_completion")
MESSAGE = OPENROUTER.tool("create_message")
PLAIN = make_facts()
PDF = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}


def arguments(tool=CHAT, **more):
    return parse_arguments(tool, {"model": "maker/model", "messages": [{"role": "user", "content": "Hello"}]} | more)


def search(**parameters):
    return {"tools": [{"type": "openrouter:web_search", "parameters": {"engine": "exa"} | parameters}]}


def fetch(**parameters):
    return {"tools": [{"type": "openrouter:web_fetch", "parameters": parameters}]}


def found(given, *, model=PLAIN, name="maker/model") -> Extras:
    return extras(given, {name: model})


def test_an_ordinary_question_costs_its_tokens_alone():
    assert found(arguments()) == found(arguments(MESSAGE, max_tokens=5)) == Extras()


@pytest.mark.requirement("BUD-4")
@pytest.mark.parametrize(
    ("more", "usd", "rounds"),
    [
        (search(max_uses=1), "0.007", 2),
        (search(), "0.021", 4),
        (search(max_uses=2, max_results=25), "0.044", 3),
        (search(max_uses=1, mode="deep"), "0.012", 2),
        (search(max_uses=2, mode="deep-reasoning", engine="exa"), "0.03", 3),
        (fetch(engine="exa", max_uses=4), "0.004", 5),
        ({"tools": [{"type": "openrouter:datetime"}]}, "0", 2),
        (search() | {"stop_server_tools_when": [{"type": "step_count_is", "step_count": 2}]}, "0.021", 3),
        ({"plugins": [{"id": "web", "engine": "exa"}]}, "0.007", 1),
        ({"plugins": [{"id": "web", "engine": "parallel", "max_uses": 3, "max_results": 12}]}, "0.027", 1),
        ({"plugins": [{"id": "web", "enabled": False}]}, "0", 1),
    ],
)
@pytest.mark.parametrize("tool", [CHAT, MESSAGE])
def test_what_is_priced_by_the_piece_is_counted_as_often_as_it_may_happen(tool, more, usd, rounds):
    assert found(arguments(tool, **more)) == Extras(Decimal(usd), rounds)


@pytest.mark.requirement("BUD-3")
@pytest.mark.parametrize(
    ("more", "advice"),
    [
        (search(engine="native"), 'Set the engine of openrouter:web_search to "exa".'),
        ({"tools": [{"type": "openrouter:web_search"}]}, 'Set the engine of openrouter:web_search to "exa".'),
        (fetch(), 'Set the engine of openrouter:web_fetch to "openrouter".'),
        ({"plugins": [{"id": "web"}]}, 'Set the engine of the plugin web to "exa".'),
        ({"plugins": [{"id": "web-fetch"}]}, "Use the tool openrouter:web_fetch"),
    ],
)
def test_a_search_at_the_models_own_provider_has_no_bound(more, advice):
    assert advice in found(arguments(**more)).unknown


def test_online_is_a_search_whichever_model_of_the_request_has_it():
    assert "Leave :online out" in found(arguments(), name="maker/model:free:online").unknown


def test_a_model_that_always_searches_is_held_for_that_too():
    assert found(arguments(), name="perplexity/sonar") == found(arguments(), name="openai/gpt-4o-search-preview")
    assert found(arguments(), name="perplexity/sonar").usd >= Decimal("0.035")
    assert (
        "How often perplexity/sonar-deep-research searches"
        in found(arguments(), name="perplexity/sonar-deep-research").unknown
    )


def test_a_file_is_read_by_the_page_where_the_model_reads_none():
    asks = {"messages": [{"role": "user", "content": [PDF]}]}
    reader = make_facts(input_modalities=frozenset({"text", "file"}))

    def by(engine):
        return asks | {"plugins": [{"id": "file-parser", "pdf": {"engine": engine}}]}

    assert "cloudflare-ai" in found(arguments(**asks)).unknown
    assert "cloudflare-ai" in found(arguments(**asks), model=None).unknown
    assert "cloudflare-ai" in found(arguments(**by("mistral-ocr")), model=reader).unknown
    for fine, model in ((asks, reader), (by("cloudflare-ai"), PLAIN), (by("native"), PLAIN)):
        assert not found(arguments(**fine), model=model).unknown


@pytest.mark.parametrize(("outputs", "able"), [({"text", "image"}, True), ({"text", "audio"}, False)])
def test_pictures_and_sounds_in_an_answer_have_no_bound(outputs, able):
    model = make_facts(output_modalities=frozenset(outputs))
    assert "pictures and sounds in an answer of maker/model" in found(arguments(), model=model).unknown
    assert (
        "pictures and sounds in an answer of maker/model"
        in found(arguments(MESSAGE, max_tokens=5), model=model).unknown
    )
    assert (not found(arguments(modalities=["text"]), model=model).unknown) is able


def test_the_steps_of_server_tools_end_where_they_are_counted():
    given = with_bounded_steps(arguments(**search(max_uses=2)))
    assert [stop.model_dump() for stop in given.stop_server_tools_when] == [{"type": "step_count_is", "step_count": 2}]
    assert found(given).rounds == 3
    assert with_bounded_steps(given) is given
    plain = arguments()
    assert with_bounded_steps(plain) is plain


def test_the_text_that_searches_bring_counts_by_the_characters_that_were_asked_for():
    usual, long = (CHAT.tokens(arguments(**search(**more)))[0] for more in ({}, {"max_characters": 100_000}))
    assert long - usual > 3 * (5 * 100_000 - 60_000) - 100


def test_every_round_reads_what_the_earlier_ones_said_and_is_paid_for():
    model, beside = make_facts(endpoints=()), Extras(Decimal("0.5"), 3)
    assert most_usd([model], tokens_in=10, tokens_out=5, extras=beside) == Decimal("0.5") + 3 * (
        Decimal("0.000001") * (10 + 2 * 5) + Decimal("0.000002") * 5
    )
    assert most_usd([model], tokens_in=10, tokens_out=5, extras=Extras(unknown="By the page.")) is None


def test_the_limit_for_endpoints_that_nobody_has_read_is_the_price_that_was_counted_with():
    one, other = make_facts(), make_facts(prices=prices("0.000003", "0.000001"))
    assert limit([one]) == prices(str(one.prices.tokens_in + SLACK), str(one.prices.tokens_out + SLACK))
    assert limit([one, other]).tokens_in == other.prices.tokens_in + SLACK
    assert most_usd([one, other], tokens_in=1, tokens_out=1) >= Decimal("0.000005")  # an endpoint may ask both
    assert limit([make_facts(endpoints=())]) == one.prices
    assert limit([one, None]) is limit([]) is None
