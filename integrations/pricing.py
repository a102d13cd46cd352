"""
What tokens cost by the catalog, in US dollars. Pure.

A price that varies, is missing or is no price is unknown: nothing is computed with it, and it never
counts as 0. What is not priced by the token (pictures by the piece, searches) is left out: a bill
above the estimate is charged all the same and shown beside it.
"""

from collections.abc import Iterator
from decimal import Decimal

from integrations.facts import ModelFacts, Prices

TOLERANCE = Decimal("0.02")


def most_usd(model: ModelFacts | None, *, tokens_in: int, tokens_out: int) -> Decimal | None:
    """
    Return the most that an answer can cost: at the dearest of the model's own price, of its known endpoints and tiers.

    None when one of these is unknown. Discounts are not counted on. While `endpoints` is None, only
    the model's own price and the endpoints that retain nothing are known: another one may be dearer.
    """
    return _cost(dearest(model), tokens_in, tokens_out) if model else None


def dearest(model: ModelFacts) -> Prices:
    """Return the highest price of each kind that the model's endpoints and tiers ask."""
    asked = list(_asked(model))
    return Prices(
        _highest([prices.tokens_in for prices in asked]),
        _highest([prices.tokens_out for prices in asked]),
        _highest([prices.request for prices in asked]),
    )


def _asked(model: ModelFacts) -> Iterator[Prices]:
    yield model.prices
    yield from model.tiers
    for endpoint in (*(model.endpoints or ()), *model.zdr_endpoints):
        yield endpoint.prices
        yield from endpoint.tiers


def _highest(prices: list[Decimal | None]) -> Decimal | None:
    return None if None in prices else max(prices)


def by_catalog(model: ModelFacts | None, *, tokens_in: int, tokens_out: int) -> Decimal | None:
    """Return what these tokens cost at the model's own listed price, or None when that is unknown."""
    return _cost(model.prices, tokens_in, tokens_out) if model else None


def differs(reported: Decimal, by_catalog: Decimal | None) -> bool:
    """Whether a bill is more than 2 % away from what the catalog says."""
    return by_catalog is not None and abs(reported - by_catalog) > by_catalog * TOLERANCE


def _cost(prices: Prices, tokens_in: int, tokens_out: int) -> Decimal | None:
    if prices.tokens_in is None or prices.tokens_out is None or prices.request is None:
        return None
    return prices.tokens_in * tokens_in + prices.tokens_out * tokens_out + prices.request
