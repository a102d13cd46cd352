"""The catalog as this process knows it: built from the tables once, and again when they have changed."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache

from django.db import connection as database

from integrations.facts import Catalog, EndpointFacts, ModelFacts, Prices, ProviderFacts
from integrations.models import CatalogEndpoint, CatalogModel, CatalogProvider
from integrations.registry import get_integration, integrations

LOOK_AGAIN = 1.0  # seconds between two looks at the version
FRESH = timedelta(days=1)  # how long the endpoints of one model count as all of them
UNKNOWN = Catalog(0, None, {}, {}, {})

Tiers = Callable[[CatalogModel | CatalogEndpoint], tuple[Prices, ...]]


@dataclass(slots=True)
class _Kept:
    catalog: Catalog = UNKNOWN
    looked_at: float = 0.0


_kept: dict[str, _Kept] = {}
_lock = threading.Lock()


def current(integration: str = "") -> Catalog:
    """
    Return what is known of an integration's models: of the first that lists any, unless one is named.

    An empty catalog is no error: `is_known` says so.

    Asks the database once a second at most, and reads the tables only when their version changed.
    Measured with 386 models and 595 endpoints: 0.5 µs remembered, 0.3 ms to look, 0.1 s to build.
    """
    integration = integration or _first_listed()
    kept = _kept.get(integration)
    if kept and time.monotonic() - kept.looked_at < LOOK_AGAIN:
        return kept.catalog
    if kept and kept.catalog.is_known and _lock.locked():
        return kept.catalog  # another thread is looking: what is known is good enough until it is done
    with _lock:
        return _look(integration, _kept.setdefault(integration, _Kept()))


@cache
def _first_listed() -> str:
    return next(each.slug for each in integrations() if each.catalog)


def forget() -> None:
    """Look at the tables at the next call, whatever is remembered."""
    _kept.clear()


def _look(integration: str, kept: _Kept) -> Catalog:
    if kept.looked_at and time.monotonic() - kept.looked_at < LOOK_AGAIN:
        return kept.catalog  # another thread has looked meanwhile
    version, read_at = _version(integration)
    if version != kept.catalog.version:
        kept.catalog = _build(integration, version, read_at)
    elif read_at != kept.catalog.read_at:
        kept.catalog = replace(kept.catalog, read_at=read_at)
    kept.looked_at = time.monotonic()
    return kept.catalog


def _version(integration: str) -> tuple[int, datetime | None]:
    with database.cursor() as cursor:
        cursor.execute("SELECT version, read_at FROM integrations_catalog WHERE integration = %s", [integration])
        return cursor.fetchone() or (0, None)


# --- from rows to facts -----------------------------------------------------------------


def _build(integration: str, version: int, read_at: datetime | None) -> Catalog:
    rows = CatalogModel.objects.filter(catalog__integration=integration).order_by("model_id")
    endpoints = _by_model(CatalogEndpoint.objects.filter(model__catalog__integration=integration).order_by("tag"))
    source = get_integration(integration).catalog

    def tiers(row: CatalogModel | CatalogEndpoint) -> tuple[Prices, ...]:
        return source.tiers_of(row.data, _prices(row)) if source else ()

    models = {row.model_id: _model(row, endpoints.get(row.pk, []), tiers, read_at) for row in rows}
    aliases = {row.model_id: row.alias_of for row in rows if row.alias_of}
    providers = CatalogProvider.objects.filter(catalog__integration=integration)
    return Catalog(version, read_at, models, aliases, {row.slug: _provider(row) for row in providers})


def _by_model(rows: Iterable[CatalogEndpoint]) -> dict[int, list[CatalogEndpoint]]:
    found: dict[int, list[CatalogEndpoint]] = {}
    for row in rows:
        found.setdefault(row.model_id, []).append(row)
    return found


def _model(row: CatalogModel, rows: list[CatalogEndpoint], tiers: Tiers, read_at: datetime | None) -> ModelFacts:
    endpoints = tuple(_endpoint(endpoint, tiers) for endpoint in rows)
    is_whole = read_at and row.endpoints_at and row.endpoints_at > read_at - FRESH
    return ModelFacts(
        id=row.model_id,
        name=row.name,
        prices=_prices(row),
        context_length=row.context_length,
        max_output=row.max_output,
        input_modalities=frozenset(row.input_modalities),
        output_modalities=frozenset(row.output_modalities),
        parameters=frozenset(row.parameters),
        tiers=tiers(row),
        endpoints=endpoints if is_whole else None,
        zdr_endpoints=tuple(endpoint for endpoint in endpoints if endpoint.is_zdr),
        expires_on=row.expires_on,
        listed_at=row.listed_at,
        is_gone=row.gone_at is not None,
    )


def _endpoint(row: CatalogEndpoint, tiers: Tiers) -> EndpointFacts:
    return EndpointFacts(
        tag=row.tag,
        provider=row.provider_slug,
        prices=_prices(row),
        is_zdr=row.is_zdr,
        tiers=tiers(row),
        context_length=row.context_length,
        max_output=row.max_output,
        parameters=frozenset(row.parameters),
        latency_ms=row.latency_ms,
        throughput=row.throughput,
        uptime=_number(row.data.get("uptime_last_30m")),
    )


def _number(told: object) -> float | None:
    return float(told) if isinstance(told, int | float) and not isinstance(told, bool) else None


def _prices(row: CatalogModel | CatalogEndpoint) -> Prices:
    return Prices(row.price_in, row.price_out, row.price_request)


def _provider(row: CatalogProvider) -> ProviderFacts:
    return ProviderFacts(row.slug, row.name, row.headquarters, tuple(row.datacenters))
