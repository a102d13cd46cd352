"""What the list of models finds, in which order, and that every count is what choosing it gives."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.browsing import FACETS, PAGE, SORTS, Choice, age, in_order, is_free, matching, options, stretch
from integrations.facts import EndpointFacts, ModelFacts
from tests.integrations.builders import make_facts, prices

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
TODAY = date(2026, 6, 15)
OFFER = EndpointFacts("zdr", "zdr", prices("0", "0"), is_zdr=True)
DEARER = EndpointFacts(
    "dearer",
    "dearer",
    prices("0.000003", "0.00001"),
    is_zdr=True,
    context_length=200_000,
    parameters=frozenset({"tools"}),
    latency_ms=300.0,
    throughput=70.0,
)

price = st.sampled_from([None, "0", "0.0000001", "0.00000010001", "0.000003", "0.00001", "1"])
some = st.frozensets(st.sampled_from(["text", "image", "audio"]))
facts = st.builds(
    lambda author, number, tokens_in, tokens_out, **more: make_facts(
        id=f"{author}/{number}", prices=prices(tokens_in, tokens_out), **more
    ),
    st.sampled_from(["a", "~a", "b", "ü"]),
    st.integers(0, 99),
    price,
    price,
    name=st.sampled_from(["", "One", "one", "Two"]),
    input_modalities=some,
    output_modalities=some,
    parameters=st.frozensets(st.sampled_from(["tools", "structured_outputs", "seed"])),
    zdr_endpoints=st.sampled_from([(), (OFFER,), (OFFER, DEARER)]),
    expires_on=st.sampled_from([None, TODAY]),
    context_length=st.sampled_from([None, 0, 8_000, 1_000_000]),
    listed_at=st.sampled_from([None, NOW, NOW - timedelta(days=400)]),
)
catalogs = st.lists(facts, max_size=20, unique_by=lambda model: model.id)
values = st.sampled_from(["a", "b", "text", "image", "1", "0.10", "3", "30", "200000", "zdr", "nobody"])
choices = st.builds(
    Choice,
    words=st.sampled_from(["", "one", "A/", "two 1", "%_"]),
    picked=st.dictionaries(st.sampled_from(list(FACETS)), values, max_size=3),
    sort=st.sampled_from(list(SORTS)),
)


@given(catalogs, choices)
def test_a_count_is_what_choosing_it_gives(models, choice):
    for facet, offered in options(models, choice, TODAY).items():
        for option in offered:
            assert option.count == len(matching(models, choice.including(facet, option.value), TODAY))


@given(catalogs, choices, st.sampled_from(["author", "takes", "gives", "provider"]))
def test_no_value_that_would_leave_something_is_missing(models, choice, facet):
    offered = {option.value for option in options(models, choice, TODAY)[facet]}
    left = matching(models, choice.without(facet), TODAY)
    assert {value for model in left for value in FACETS[facet].values(model, TODAY)} <= offered


@given(catalogs, choices)
def test_the_value_chosen_is_offered_even_when_nothing_has_it(models, choice):
    offered = options(models, choice, TODAY)
    for facet, value in choice.picked.items():
        if not FACETS[facet].options:
            assert value in [option.value for option in offered[facet]]


def test_without_retention_a_model_stands_for_one_offer_that_has_everything():
    model = make_facts(
        parameters=frozenset({"tools"}),
        context_length=1_000_000,
        zdr_endpoints=(OFFER, DEARER),
        prices=prices("0", "0"),
    )
    wanted = Choice(picked={"zdr": "1", "tools": "1", "context": "200000"})
    assert [found.prices for found in matching([model], wanted, TODAY)] == [DEARER.prices]
    assert [found.prices for found in matching([model], Choice(picked={"zdr": "1"}), TODAY)] == [OFFER.prices]
    assert matching([model], wanted.including("most_in", "1"), TODAY) == []


@given(catalogs, st.sampled_from(list(SORTS)))
def test_an_order_keeps_every_model_and_puts_the_unknown_last(models, sort):
    ordered, unknown = in_order(models, sort)
    assert sorted(model.id for model in ordered) == sorted(model.id for model in models)
    keys = [SORTS[sort].key(model) for model in ordered]
    known = keys[: len(keys) - unknown]
    assert keys[len(known) :] == [None] * unknown
    assert None not in known and known == sorted(known)


@given(st.integers(0, 3 * PAGE + 1))
def test_pages_one_after_the_other_show_each_model_once_and_lead_back(count):
    models = [make_facts(id=f"a/{number}") for number in range(count)]
    seen: list[ModelFacts] = []
    after: str | None = ""
    starts = []
    while after is not None:
        page = stretch(models, after)
        assert page.first == len(seen) + 1
        assert page.before == (starts[-1] if starts else None)
        starts.append(after)
        seen += page.models
        after = page.after
    assert seen == models


def test_a_cursor_that_names_nothing_leads_to_the_first_page():
    models = [make_facts(id=f"a/{number}") for number in range(PAGE + 1)]
    assert stretch(models, "b/gone") == stretch(models, "")


def test_words_are_looked_for_in_id_and_name_whatever_their_case():
    models = [make_facts(id="maker/Big-1", name="The Great"), make_facts(id="maker/small", name="The Less")]
    assert matching(models, Choice(words="GREAT big"), TODAY) == models[:1]
    assert matching(models, Choice(words="great small"), TODAY) == []


def test_an_alias_counts_under_its_author():
    assert matching([make_facts(id="~maker/latest")], Choice(picked={"author": "maker"}), TODAY)


@pytest.mark.parametrize(
    ("tokens_in", "ceiling", "is_shown"),
    [("0.0000001", "0.10", True), ("0.000000100000000001", "0.10", False), (None, "10", False), ("0", "0.10", True)],
)
def test_a_ceiling_includes_itself_and_no_unknown_price(tokens_in, ceiling, is_shown):
    model = make_facts(prices=prices(tokens_in, "0"))
    assert bool(matching([model], Choice(picked={"most_in": ceiling}), TODAY)) is is_shown


@pytest.mark.parametrize(
    ("asked", "free"),
    [(("0", "0", "0"), True), (("0", "0", "0.01"), False), (("0", "0", None), False), ((None, None, "0"), False)],
)
def test_free_means_that_nothing_is_charged_at_all(asked, free):
    assert is_free(prices(*asked)) is free


@pytest.mark.parametrize(
    ("days", "said"),
    [(-1, "today"), (0, "today"), (1, "1 day"), (30, "30 days"), (31, "1 month"), (729, "23 months"), (730, "2 years")],
)
def test_an_age_is_told_in_the_unit_that_fits(days, said):
    assert age(NOW - timedelta(days=days), TODAY) == said


def test_an_unknown_age_is_not_told():
    assert age(None, TODAY) == ""
