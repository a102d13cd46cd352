"""
OpenRouter's catalog: how its lists are asked for, and its records as columns of the tables.

A record is read field by field: what cannot be used is unknown. One without a name gives None.
"""

from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

from integrations.envelope import plain
from integrations.errors import BadAnswer
from integrations.facts import Prices
from integrations.openrouter.client import OpenRouter
from integrations.openrouter.payload import as_dict, as_text, count, dicts
from integrations.openrouter.rows import exact, provider_slug
from integrations.wire import Answer, Request

Columns = dict[str, Any]

NOTHING = Decimal(0)
MOST_USD = Decimal(1_000)  # dollars for one token: no price is that high, and it fits the table
MOST_PLACES = Decimal(10) ** -12
CACHE_WRITES = ("input_cache_write", "input_cache_write_1h")
LONGEST_ID = 200


# --- asking -----------------------------------------------------------------------------


def lists(client: OpenRouter) -> tuple[Request, Request, Request]:
    """Build the requests for all models, all endpoints that retain nothing, and all providers."""
    return client.models(output_modalities=("all",)), client.zdr_endpoints(), client.providers()


def endpoints(client: OpenRouter, model_id: str) -> Request:
    """Build the request for all endpoints of one model. Raises InvalidRequest for a name that is no name."""
    author, _, slug = model_id.partition("/")
    return client.endpoints(author, slug)


def records(answer: Answer) -> list[Columns]:
    """Return the records of a list, or the endpoints of a model. Raises BadAnswer when there is no list."""
    data = answer.data.get("data")
    found = data.get("endpoints") if isinstance(data, dict) else data
    if not isinstance(found, list):
        raise BadAnswer("OpenRouter answered without a list.")
    return dicts(found)


# --- prices -----------------------------------------------------------------------------


def prices_of(pricing: Any) -> Prices:
    """
    Return US dollars per token and per request, discounts taken off.

    A price that varies ("-1"), is missing or is no price is None; a price per request that is not
    named is 0, as the service leaves out what does not apply.
    """
    named = as_dict(pricing)
    rest = 1 - (_discount(named) or NOTHING)
    tokens_in, tokens_out = (_times(_price(named.get(name)), rest) for name in ("prompt", "completion"))
    return Prices(tokens_in, tokens_out, _times(_price(named.get("request", "0")), rest))


def tiers_of(record: Any, listed: Prices) -> tuple[Prices, ...]:
    """
    Return every other price that a record may ask, beside the listed one that is in use.

    Those are the ones without its discount, those for long prompts and for some hours, those for
    tokens that are written to a cache or thought, and a new price that is held back: whoever asks
    for the most must count with it.
    """
    pricing = as_dict(as_dict(record).get("pricing"))
    tiers = [pricing | override | {"discount": 0} for override in ({}, *dicts(pricing.get("overrides")))]
    found = [prices_of(pricing), *map(prices_of, tiers), *map(_dearest_tokens, tiers)]
    return tuple(dict.fromkeys(prices for prices in found if pricing and prices != listed))


def _dearest_tokens(pricing: Columns) -> Prices:
    """
    The highest price that a token of text may have, whatever is done with it.

    Audio and pictures are left out: their tokens are counted by the bytes they are sent in, which are many more.
    """
    usual = prices_of(pricing)
    written = [prices_of({"prompt": pricing.get(name)}).tokens_in for name in CACHE_WRITES]
    thought = prices_of({"completion": pricing.get("internal_reasoning")}).tokens_out
    return Prices(_dearer(usual.tokens_in, *written), _dearer(usual.tokens_out, thought), usual.request)


def _dearer(usual: Decimal | None, *others: Decimal | None) -> Decimal | None:
    return None if usual is None else max(usual, *(other for other in others if other is not None), NOTHING)


def _price(value: Any) -> Decimal | None:
    price = exact(value)
    return price if price is not None and 0 <= price < MOST_USD else None


def _discount(pricing: Columns) -> Decimal | None:
    discount = exact(pricing.get("discount"))
    return discount if discount is not None and 0 <= discount <= 1 else None


def _times(price: Decimal | None, share: Decimal) -> Decimal | None:
    # Rounded up: what is too small for the table must not become free.
    return None if price is None else (price * share).quantize(MOST_PLACES, ROUND_CEILING)


def _price_columns(pricing: Any) -> Columns:
    prices = prices_of(pricing)
    return {"price_in": prices.tokens_in, "price_out": prices.tokens_out, "price_request": prices.request}


# --- records ----------------------------------------------------------------------------


def model_columns(record: Columns) -> Columns | None:
    """Return the columns of one model, or None when the record names none."""
    model_id, architecture = as_text(record.get("id")), as_dict(record.get("architecture"))
    if not model_id or len(model_id) > LONGEST_ID:
        return None
    return {
        "model_id": model_id,
        "canonical_slug": as_text(record.get("canonical_slug"))[:LONGEST_ID],
        "name": (as_text(record.get("name")) or model_id)[:LONGEST_ID],
        "alias_of": as_text(as_dict(record.get("alias_target")).get("slug"))[:LONGEST_ID],
        **_price_columns(record.get("pricing")),
        "context_length": count(record.get("context_length")),
        "max_output": count(as_dict(record.get("top_provider")).get("max_completion_tokens")),
        "input_modalities": _words(architecture.get("input_modalities"), 20),
        "output_modalities": _words(architecture.get("output_modalities"), 20),
        "parameters": _words(record.get("supported_parameters"), 40),
        "listed_at": _moment(record.get("created")),
        "expires_on": _day(record.get("expiration_date")),
        "data": plain(record),
    }


def endpoint_columns(record: Columns) -> Columns | None:
    """Return the columns of one endpoint, or None when the record has no tag."""
    tag = as_text(record.get("tag"))
    if not tag or len(tag) > 120:
        return None
    return {
        "tag": tag,
        "provider_slug": provider_slug(record)[:80],
        "provider_name": as_text(record.get("provider_name"))[:80],
        **_price_columns(record.get("pricing")),
        "context_length": count(record.get("context_length")),
        "max_output": count(record.get("max_completion_tokens")),
        "parameters": _words(record.get("supported_parameters"), 40),
        "status": _small(record.get("status")),
        "latency_ms": _figure(as_dict(record.get("latency_last_30m")).get("p50")),
        "throughput": _figure(as_dict(record.get("throughput_last_30m")).get("p50")),
        "data": plain(record),
    }


def provider_columns(record: Columns) -> Columns | None:
    """Return the columns of one provider, or None when the record has no slug."""
    slug = as_text(record.get("slug"))
    if not slug or len(slug) > 80:
        return None
    return {
        "slug": slug,
        "name": (as_text(record.get("name")) or slug)[:80],
        "headquarters": as_text(record.get("headquarters"))[:8],
        "datacenters": _words(record.get("datacenters"), 8),
        "data": plain(record),
    }


def model_of(endpoint: Columns) -> str:
    """Return the id of the model that a record of an endpoint is about."""
    return as_text(endpoint.get("model_id"))


def _words(value: Any, longest: int) -> list[str]:
    words = value if isinstance(value, list) else []
    return [word for word in words if isinstance(word, str) and 0 < len(word) <= longest]


def _moment(value: Any) -> datetime | None:
    seconds = count(value)
    return datetime.fromtimestamp(seconds, UTC) if seconds else None


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(as_text(value)[:10])
    except ValueError:
        return None


def _small(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1000 else None


def _figure(value: Any) -> float | None:
    figure = exact(value)
    return float(figure) if figure is not None and 0 <= figure < 10**9 else None
