"""Catalog answers made small and exact: one flat row per model, endpoint or provider."""

from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from integrations.openrouter.arguments import ModelFilters
from integrations.openrouter.payload import as_dict, as_text, count, dicts

MILLION = 1_000_000
MOST_DIGITS = 30
# These suffixes choose among a model's endpoints; the catalog has no rows of their own for them.
VIRTUAL_VARIANTS = ("nitro", "floor", "exacto", "online")

Row = dict[str, Any]


# --- prices -------------------------------------------------------------------------------


def exact(value: Any) -> Decimal | None:
    """A number the API sent as text or number, or None when it is neither, or absurd."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) <= MOST_DIGITS else None


def per_million(pricing: dict[str, Any], name: str) -> Decimal | None:
    """A price in USD per million tokens. None when there is none, or when it varies ("-1")."""
    price = exact(pricing.get(name))
    if price is None or price < 0:
        return None
    discount = exact(pricing.get("discount")) or Decimal(0)
    return _short(price * MILLION * (1 - discount))


def _short(number: Decimal) -> Decimal:
    """Without the zeros at the end: 0.30, not 0.300000."""
    return number if number == 0 and number.as_tuple().exponent == 0 else Decimal(format(number.normalize(), "f"))


def _prices(pricing: Any) -> Row:
    prices = as_dict(pricing)
    return {
        "prompt_per_million": per_million(prices, "prompt"),
        "completion_per_million": per_million(prices, "completion"),
        "cache_read_per_million": per_million(prices, "input_cache_read"),
        "request": _not_negative(exact(prices.get("request"))),
    }


def _not_negative(price: Decimal | None) -> Decimal | None:
    return price if price is not None and price >= 0 else None


# --- models -------------------------------------------------------------------------------


def model_row(model: dict[str, Any]) -> Row:
    architecture, supported = as_dict(model.get("architecture")), _texts(model.get("supported_parameters"))
    return {
        "id": as_text(model.get("id")),
        "name": as_text(model.get("name")),
        "context_length": count(model.get("context_length")),
        "max_completion_tokens": count(as_dict(model.get("top_provider")).get("max_completion_tokens")),
        **_prices(model.get("pricing")),
        "input_modalities": _texts(architecture.get("input_modalities")),
        "output_modalities": _texts(architecture.get("output_modalities")),
        "supports": {
            "tools": "tools" in supported,
            "structured_outputs": "structured_outputs" in supported,
            "reasoning": "reasoning" in supported,
        },
        "expiration_date": as_text(model.get("expiration_date")) or None,
    }


def embedding_row(model: dict[str, Any]) -> Row:
    row = model_row(model)
    kept = ("id", "name", "context_length", "prompt_per_million", "input_modalities", "expiration_date")
    return {name: row[name] for name in kept}


def fits(model: dict[str, Any], filters: ModelFilters) -> bool:
    """Whether a model is what the filters ask for, where the API cannot be asked to filter."""
    row = model_row(model)
    return (
        mentions(model, filters.q)
        and (not filters.free_only or row["id"].endswith(":free"))
        and set(filters.supported_parameters or ()) <= set(_texts(model.get("supported_parameters")))
        and set(filters.input_modalities or ()) <= set(row["input_modalities"])
        and set(filters.output_modalities or ("text",)) <= set(row["output_modalities"])
        and (row["context_length"] or 0) >= (filters.min_context or 0)
        and _at_most(row["prompt_per_million"], filters.max_prompt_price)
        and _at_most(row["completion_per_million"], filters.max_output_price)
        and (filters.authors is None or row["id"].split("/")[0] in filters.authors)
    )


def mentions(model: dict[str, Any], q: str | None) -> bool:
    return q is None or q.casefold() in f"{model.get('id')} {model.get('name')}".casefold()


def _at_most(price: Decimal | None, limit: Decimal | None) -> bool:
    return limit is None or (price is not None and price <= limit)


def in_order(models: list[dict[str, Any]], sort: str | None) -> list[dict[str, Any]]:
    """Sort models the way the catalog would; what has no such figure goes last."""
    match sort:
        case "newest":
            return _ordered(models, lambda model: exact(model.get("created")), largest_first=True)
        case "context-high-to-low":
            return _ordered(models, lambda model: exact(model.get("context_length")), largest_first=True)
        case "pricing-low-to-high" | "pricing-high-to-low":
            return _ordered(models, _prompt_price, largest_first=sort == "pricing-high-to-low")
        case _:
            return models


def _prompt_price(model: dict[str, Any]) -> Decimal | None:
    return per_million(as_dict(model.get("pricing")), "prompt")


def _ordered(rows: list[Any], figure: Any, *, largest_first: bool) -> list[Any]:
    known = [row for row in rows if figure(row) is not None]
    unknown = [row for row in rows if figure(row) is None]
    return [*sorted(known, key=figure, reverse=largest_first), *unknown]


# --- endpoints ----------------------------------------------------------------------------


def endpoint_row(endpoint: dict[str, Any]) -> Row:
    status = endpoint.get("status")
    return {
        "provider": as_text(endpoint.get("provider_name")),
        "tag": as_text(endpoint.get("tag")),
        "provider_slug": provider_slug(endpoint),
        "context_length": count(endpoint.get("context_length")),
        "max_completion_tokens": count(endpoint.get("max_completion_tokens")),
        "quantization": as_text(endpoint.get("quantization")) or None,
        **_prices(endpoint.get("pricing")),
        "status": "unknown" if status is None else "operational" if status == 0 else "degraded",
        "uptime_last_30m": exact(endpoint.get("uptime_last_30m")),
        "uptime_last_1d": exact(endpoint.get("uptime_last_1d")),
        "latency_p50_ms": exact(as_dict(endpoint.get("latency_last_30m")).get("p50")),
        "throughput_p50": exact(as_dict(endpoint.get("throughput_last_30m")).get("p50")),
        "supported_parameters": _texts(endpoint.get("supported_parameters")),
        "supports_implicit_caching": endpoint.get("supports_implicit_caching") is True,
    }


def provider_slug(endpoint: dict[str, Any]) -> str:
    """Display names differ between lists, so providers are joined on the first part of the tag."""
    return as_text(endpoint.get("tag")).split("/")[0]


_BEST = {
    "price": ("prompt_per_million", False),
    "latency": ("latency_p50_ms", False),
    "throughput": ("throughput_p50", True),
    "uptime": ("uptime_last_1d", True),
}


def best_first(rows: list[Row], sort: str | None) -> list[Row]:
    if sort is None:
        return rows
    name, largest_first = _BEST[sort]
    return _ordered(rows, lambda row: row[name], largest_first=largest_first)


# --- endpoints that retain nothing -----------------------------------------------------------


def by_model(endpoints: Iterable[dict[str, Any]]) -> dict[str, Row]:
    """One row per model that has such endpoints, in the order of first mention."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for endpoint in endpoints:
        groups.setdefault(as_text(endpoint.get("model_id")), []).append(endpoint)
    return {model: _zdr_row(model, group) for model, group in groups.items() if model}


def _zdr_row(model: str, endpoints: Sequence[dict[str, Any]]) -> Row:
    rows = [endpoint_row(endpoint) for endpoint in endpoints]
    cheapest = best_first(rows, "price")[0]
    return {
        "model": model,
        "endpoints": len(rows),
        "providers": sorted({row["provider_slug"] or row["provider"] for row in rows}),
        "cheapest_prompt_per_million": cheapest["prompt_per_million"],
        "cheapest_completion_per_million": cheapest["completion_per_million"],
    }


def impact(models: Sequence[str], groups: dict[str, Row]) -> Row:
    """Which of the models would still be served if nothing may be retained, and which would not."""
    kept = [{**groups[catalog_id(model)], "asked": model} for model in models if catalog_id(model) in groups]
    return {"kept": kept, "lost": [model for model in models if catalog_id(model) not in groups]}


def catalog_id(model: str) -> str:
    """The id under which the catalog lists a model."""
    base, _, variant = model.partition(":")
    return base if variant in VIRTUAL_VARIANTS else model


def served_by(endpoint: dict[str, Any], provider: str) -> bool:
    return provider.casefold() in (provider_slug(endpoint), as_text(endpoint.get("provider_name")).casefold())


# --- providers ------------------------------------------------------------------------------


def provider_row(provider: dict[str, Any]) -> Row:
    texts = ("privacy_policy_url", "terms_of_service_url", "status_page_url", "headquarters")
    return {
        "slug": as_text(provider.get("slug")),
        "name": as_text(provider.get("name")),
        **{name: as_text(provider.get(name)) or None for name in texts},
        "datacenters": _texts(provider.get("datacenters")),
    }


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def listed(data: Any) -> list[dict[str, Any]]:
    """The objects under `data` in a list answer."""
    return dicts(as_dict(data).get("data"))
