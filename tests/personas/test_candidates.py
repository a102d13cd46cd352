"""Which models may be asked: order, rules and patterns, held against a catalog; and a persona that chooses."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.facts import Catalog, EndpointFacts, ModelFacts, Prices
from integrations.fitting import Needs
from integrations.scopes import ModelPatterns, model_refusal
from personas.candidates import MOST_PICKED, NoCandidates, pick, prefer
from personas.chains import Routing
from personas.choosing import chosen, question
from personas.routing import Candidate

TEXT = frozenset({"text"})
UNKNOWN = Catalog(0, None, {}, {}, {})


def model(name, *, price="1", context=100_000, speed=None, tools=True, **more) -> ModelFacts:
    prices = Prices(Decimal(price) / 1_000_000, Decimal(price) / 1_000_000)
    endpoints = (EndpointFacts("x", "x", prices, False, throughput=speed),) if speed else None
    abilities = frozenset({"tools"} if tools else ())
    given = {"input_modalities": TEXT, "output_modalities": TEXT, "parameters": abilities} | more
    return ModelFacts(name, name, prices, context, 8_000, endpoints=endpoints, **given)


def catalog(*models) -> Catalog:
    return Catalog(1, datetime(2026, 11, 23, tzinfo=UTC), {each.id: each for each in models}, {}, {})


LISTED = catalog(
    model("a/dear", price="9", speed=90.0),
    model("a/cheap", price="1"),
    model("b/large", price="5", context=900_000, speed=10.0),
    model("b/gone", is_gone=True),
    model("b/deaf", tools=False),
    model("c/pictures", output_modalities=frozenset({"image"})),
    model("openrouter/auto"),
)
WITH_TOOLS = Needs(tools=True)


def names(chain, routing="order", needs=WITH_TOOLS, listed=LISTED, refuses=lambda _: ""):
    return [(each.model, each.misfit) for each in pick(chain, routing, listed, needs, refuses).candidates]


def test_a_chain_keeps_its_order_and_says_what_does_not_fit():
    assert names(["b/deaf", "b/gone", "a/cheap"]) == [
        ("b/deaf", "It cannot call tools."),
        ("b/gone", "The provider does not list it any more."),
        ("a/cheap", ""),
    ]


def test_a_model_that_the_catalog_does_not_know_is_asked_all_the_same():
    assert names(["d/brand-new", "@preset/mine"]) == [("d/brand-new", ""), ("@preset/mine", "")]


@pytest.mark.parametrize(
    ("routing", "first"),
    [("cheapest", "a/cheap"), ("fastest", "a/dear"), ("largest", "b/large"), ("choose", "a/cheap")],
)
def test_a_rule_picks_from_every_text_model_that_fits(routing, first):
    found = names([], routing)
    assert found[0] == (first, "")
    assert {name for name, _ in found} == {"a/cheap", "a/dear", "b/large"}


def test_a_pattern_stands_for_the_models_it_describes_and_leaves_its_misfits_out():
    assert names(["b/*"], "cheapest") == [("b/large", "")]


def test_a_model_that_is_named_and_does_not_fit_is_kept_with_its_reason_whatever_the_rule():
    assert names(["b/deaf", "a/*"], "cheapest") == [
        ("b/deaf", "It cannot call tools."),
        ("a/cheap", ""),
        ("a/dear", ""),
    ]


def test_a_router_is_asked_only_where_it_is_named():
    assert ("openrouter/auto", "") in names(["openrouter/auto", "a/*"], "cheapest")
    assert ("openrouter/auto", "") not in names(["*"], "cheapest")


def test_what_our_own_limits_refuse_is_passed_over_with_their_reason():
    def refuses(**limits):
        return partial(model_refusal, ModelPatterns(**limits))

    found = names(["a/dear", "b/large"], refuses=refuses(allow=("b/*",)))
    words = "The model a/dear is not among those allowed in this grant. Choose another one."
    assert found == [("a/dear", words), ("b/large", "")]
    assert names(["a/*"], "cheapest", refuses=refuses(deny=("a/cheap",))) == [("a/dear", "")]
    (_, router) = names(["b/large", "openrouter/auto"], refuses=refuses(deny=("a/*",)))
    assert "leaves the choice of the model to others" in router[1]


def test_without_a_catalog_the_plain_order_is_used_and_the_ledger_says_so():
    picked = pick(["a/dear", "a/cheap"], "cheapest", UNKNOWN, Needs(), lambda _: "")
    assert [each.model for each in picked.candidates] == ["a/dear", "a/cheap"]
    assert picked.words == "The catalog is not known, so the models are asked in the order given."
    with pytest.raises(NoCandidates, match="Name one"):
        pick(["a/*"], "cheapest", UNKNOWN, Needs(), lambda _: "")


def test_a_rule_that_finds_nothing_says_why():
    with pytest.raises(NoCandidates, match="b/gone: The provider does not list it any more"):
        pick(["b/gone"], "cheapest", LISTED, Needs(), lambda _: "")


def test_a_rule_says_among_how_many_it_chose():
    assert pick([], "cheapest", LISTED, WITH_TOOLS, lambda _: "").words == "The cheapest of 3 models that fit."


@given(
    st.lists(st.sampled_from([*LISTED.models, "x/new", "a/*", "*", "b/*"]), max_size=6, unique=True),
    st.sampled_from(Routing.values[1:]),
    st.booleans(),
)
def test_no_rule_ever_offers_what_does_not_fit_or_is_refused(chain, routing, known):
    try:
        picked = pick(
            chain, routing, LISTED if known else UNKNOWN, WITH_TOOLS, lambda n: "No." if n == "a/dear" else ""
        )
    except NoCandidates:
        return
    fitting = [each.model for each in picked.fitting]
    assert len(fitting) <= MOST_PICKED
    assert len(set(fitting)) == len(fitting)
    assert "a/dear" not in fitting
    assert not known or not {"b/gone", "b/deaf", "c/pictures"} & set(fitting)


# --- letting the persona choose ---------------------------------------------------------

OFFERED = [Candidate("a/cheap"), Candidate("b/large")]


@pytest.mark.parametrize(
    "text",
    ["", "0", "3", "-1", "1 or 2", "a/dear", "Use a/cheap", "２", "9" * 5000, "1\n2", "b/large; DROP TABLE", "²"],
)
def test_an_answer_that_is_not_exactly_one_candidate_chooses_nobody(text):
    assert chosen(text, OFFERED) is None


@pytest.mark.parametrize("text", ["2", " 2. \n", "b/large"])
def test_a_number_or_an_exact_id_chooses(text):
    assert chosen(text, OFFERED) == OFFERED[1]


@given(st.text())
def test_whatever_is_said_only_a_candidate_can_be_chosen(text):
    assert chosen(text, OFFERED) in [None, *OFFERED]


def test_the_question_numbers_the_candidates_and_cuts_the_request():
    asked = question(OFFERED, [{"role": "user", "content": "long " * 10_000}], LISTED)
    text = asked["messages"][-1]["content"]
    assert "1. a/cheap, context of 100,000 tokens, $1.00 in and $1.00 out per million tokens" in text
    assert len(text) < 3_000


def test_the_one_that_was_chosen_is_asked_first_and_the_others_after_it():
    picked = prefer(pick([], "choose", LISTED, WITH_TOOLS, lambda _: ""), Candidate("b/large", 900_000))
    assert [each.model for each in picked.candidates] == ["b/large", "a/cheap", "a/dear"]
