"""
What tokens cost by the catalog, in US dollars. Pure.

A price that varies, is missing or is no price is unknown: nothing is computed with it, and it never
counts as 0. What is not priced by the token is in Extras. A bill above the estimate is charged all
the same and shown beside it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from integrations.facts import ModelFacts, Prices

TOLERANCE = Decimal("0.02")
NOTHING = Decimal(0)
SLACK = Decimal(10) ** -12  # dollars a token by which a limit lies above its price, so that no rounding crosses it


@dataclass(frozen=True, slots=True)
class Extras:
    """
    What a call costs beside the tokens of one answer.

    `usd` is the most for everything priced by the piece; the model is asked up to `rounds` times.
    `unknown` says in words why there is no upper bound, and what to do; empty where there is one.
    """

    usd: Decimal = NOTHING
    rounds: int = 1
    unknown: str = ""


NO_EXTRAS = Extras()


def most_usd(
    models: Sequence[ModelFacts | None], *, tokens_in: int, tokens_out: int, extras: Extras = NO_EXTRAS
) -> Decimal | None:
    """
    Return the most that one request to these models can cost; None when something is unknown.

    Of each kind of price the dearest counts: of the models' own, of their known endpoints and tiers.
    Discounts are not counted on. Where not `are_whole`, another endpoint may be dearer: then send
    `limit`, which keeps the call from it.
    """
    prices = limit(models)
    if prices is None or extras.unknown:
        return None
    # Each round reads what the earlier ones have said.
    reads = tokens_in + (extras.rounds - 1) * tokens_out
    cost = _cost(prices, reads, tokens_out)
    return None if cost is None else extras.rounds * cost + extras.usd


def limit(models: Sequence[ModelFacts | None]) -> Prices | None:
    """Return the prices that no endpoint may pass for `most_usd` to hold, or None when one is unknown."""
    known = [dearest(model) for model in models if model]
    if not models or len(known) < len(models):
        return None
    highest = _dearest(known)
    if None in (highest.tokens_in, highest.tokens_out, highest.request):
        return None
    slack = NOTHING if are_whole(models) else SLACK
    return Prices(highest.tokens_in + slack, highest.tokens_out + slack, highest.request)


def are_whole(models: Sequence[ModelFacts | None]) -> bool:
    """Whether all endpoints of all these models are known, with the service tiers among them."""
    return all(model is not None and model.endpoints is not None for model in models)


def dearest(model: ModelFacts) -> Prices:
    """Return the highest price of each kind that the model's endpoints and tiers ask."""
    return _dearest(list(_asked(model)))


def _dearest(asked: Sequence[Prices]) -> Prices:
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
