"""What calls cost by the catalog: an unknown price is never nothing, and the most is really the most."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.facts import EndpointFacts, Prices
from integrations.pricing import by_catalog, dearest, differs, most_usd
from tests.integrations.builders import make_facts, prices

amounts = st.decimals(min_value=0, max_value=1, places=12)
any_prices = st.builds(Prices, amounts, amounts, amounts)


def endpoint(asked: Prices, *tiers: Prices, is_zdr: bool = False) -> EndpointFacts:
    return EndpointFacts("one", "one", asked, is_zdr, tiers)


@given(any_prices, st.lists(any_prices, max_size=3), st.lists(any_prices, max_size=3), st.integers(0, 10**6))
def test_the_most_is_at_least_what_any_endpoint_or_tier_asks(listed, of_endpoints, tiers, tokens):
    model = make_facts(prices=listed, tiers=tuple(tiers), endpoints=tuple(endpoint(asked) for asked in of_endpoints))
    most = most_usd([model], tokens_in=tokens, tokens_out=tokens)
    for asked in (listed, *of_endpoints, *tiers):
        assert most >= asked.tokens_in * tokens + asked.tokens_out * tokens + asked.request


@pytest.mark.requirement("BUD-3")
@pytest.mark.parametrize(
    "unknown", [Prices(None, Decimal(1)), Prices(Decimal(1), None), Prices(Decimal(1), Decimal(1), None)]
)
def test_an_unknown_price_makes_the_whole_cost_unknown(unknown):
    assert most_usd([make_facts(prices=unknown)], tokens_in=1, tokens_out=1) is None
    assert by_catalog(make_facts(prices=unknown), tokens_in=1, tokens_out=1) is None
    known_but_for_one = make_facts(prices=prices("1", "1"), endpoints=(endpoint(unknown),))
    assert most_usd([known_but_for_one], tokens_in=1, tokens_out=1) is None


def test_nothing_is_known_of_an_unknown_model():
    assert most_usd([None], tokens_in=1, tokens_out=1) is None
    assert by_catalog(None, tokens_in=1, tokens_out=1) is None


def test_a_free_model_costs_nothing_and_that_is_known():
    assert most_usd([make_facts(prices=prices("0", "0"), endpoints=())], tokens_in=10**6, tokens_out=10**6) == 0


@pytest.mark.requirement("BUD-4")
def test_the_dearest_tier_of_the_dearest_endpoint_counts():
    cheap, dear = prices("0.000001", "0.000002"), prices("0.000005", "0.000001")
    model = make_facts(prices=cheap, endpoints=(endpoint(cheap, dear), endpoint(prices("0", "0.00001"), is_zdr=True)))
    assert dearest(model) == prices("0.000005", "0.00001")


@pytest.mark.parametrize(
    ("reported", "catalog", "expected"),
    [("1.02", "1", False), ("1.021", "1", True), ("0.979", "1", True), ("0", "0", False), ("0.001", "0", True)],
)
def test_a_bill_differs_beyond_two_percent(reported, catalog, expected):
    assert differs(Decimal(reported), Decimal(catalog)) is expected


def test_a_bill_is_not_held_against_an_unknown_price():
    assert not differs(Decimal(1), None)
