"""Who offers a model, at which price and how well, and what use would cost: rows of the catalog for a page."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from integrations.browsing import is_free, per_million
from integrations.facts import Prices
from integrations.models import CatalogEndpoint, CatalogModel

DAYS = 30
MOST_FIGURE = 10**9


@dataclass(frozen=True, slots=True)
class Usage:
    """What somebody expects: tokens of one call, and calls a day."""

    tokens_in: int
    tokens_out: int
    calls: int


@dataclass(frozen=True, slots=True)
class Priced:
    """
    What one row of the catalog asks: US dollars per million tokens, and per request.

    `unpriced` says why one of them is None; a `month` is 30 days of the expected use, None without all prices.
    """

    tokens_in: Decimal | None
    tokens_out: Decimal | None
    request: Decimal | None
    unpriced: str
    is_free: bool
    call: Decimal | None
    day: Decimal | None
    month: Decimal | None


@dataclass(frozen=True, slots=True)
class Offer:
    """One endpoint. Figures are of the last 30 minutes; times in ms, speed in tokens a second; None: not told."""

    row: CatalogEndpoint
    priced: Priced
    quantization: str
    uptime: Decimal | None
    latency: tuple[Decimal | None, Decimal | None]  # half of all calls, nine of ten
    throughput: tuple[Decimal | None, Decimal | None]
    parameters: list[str]


def price(row: CatalogModel | CatalogEndpoint, usage: Usage) -> Priced:
    """Return what a row asks, and what the expected use would cost there. Tiers for long prompts are left out."""
    prices = Prices(row.price_in, row.price_out, row.price_request)
    call = cost(prices, usage)
    day = None if call is None else call * usage.calls
    return Priced(
        per_million(prices.tokens_in),
        per_million(prices.tokens_out),
        prices.request,
        "varies" if is_varying(row.data.get("pricing")) else "not told",
        is_free(prices),
        call,
        day,
        None if day is None else day * DAYS,
    )


def cost(prices: Prices, usage: Usage) -> Decimal | None:
    """Return US dollars of one call; None when one of the prices is not known."""
    if prices.tokens_in is None or prices.tokens_out is None or prices.request is None:
        return None
    return prices.tokens_in * usage.tokens_in + prices.tokens_out * usage.tokens_out + prices.request


def is_varying(pricing: object) -> bool:
    """Whether a record of prices names one below nothing, which is how the provider writes that it varies."""
    return isinstance(pricing, dict) and any(str(value).startswith("-") for value in pricing.values())


def offers_of(model: CatalogModel, usage: Usage) -> list[Offer]:
    """Return a model's endpoints that are known, the cheapest for this use first and those without prices last."""
    offers = [_offer(row, usage) for row in model.endpoints.order_by("provider_name", "tag")]
    return sorted(offers, key=lambda offer: (offer.priced.call is None, offer.priced.call or 0))


def _offer(row: CatalogEndpoint, usage: Usage) -> Offer:
    data: Mapping[str, Any] = row.data
    quantization = data.get("quantization")
    return Offer(
        row,
        price(row, usage),
        quantization if isinstance(quantization, str) else "",
        _figure(data.get("uptime_last_30m")),
        _half_and_most(data.get("latency_last_30m")),
        _half_and_most(data.get("throughput_last_30m")),
        sorted(row.parameters),
    )


def _half_and_most(percentiles: object) -> tuple[Decimal | None, Decimal | None]:
    told = percentiles if isinstance(percentiles, dict) else {}
    return _figure(told.get("p50")), _figure(told.get("p90"))


def _figure(value: object) -> Decimal | None:
    """Read a figure as the tables keep it: a whole number, or text of an exact one."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    try:
        figure = Decimal(value)
    except InvalidOperation:
        return None
    return figure if figure.is_finite() and 0 <= figure < MOST_FIGURE else None
