"""
What was read of a catalog, into its tables: new and changed rows only, and prices only when they are plausible.

A price that moves more than ten times, or is suddenly known or unknown, is held back: the old one
stays in use until the same new one is read again, an hour later. Whoever asks for the most that a
call can cost counts with both.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import models

from integrations.facts import Prices
from integrations.models import Catalog, CatalogEndpoint, CatalogModel, CatalogProvider
from integrations.registry import CatalogSource

CONFIRMED_AFTER = timedelta(hours=1)
MOST_CHANGE = 10  # times
PRICES = ("price_in", "price_out", "price_request")
HELD_SINCE = "held_back_since"  # in the data of an endpoint

Columns = dict[str, Any]
Place = tuple[int, str]  # a model's key and an endpoint's tag


@dataclass(slots=True)
class Lists:
    """What one reading found, as columns: `endpoints` holds all of some models, by their ids."""

    models: list[Columns] = field(default_factory=list)
    retaining_none: list[tuple[str, Columns]] = field(default_factory=list)
    providers: list[Columns] = field(default_factory=list)
    endpoints: dict[str, list[Columns]] = field(default_factory=dict)
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """How many rows a reading changed, and of how many models it holds prices back."""

    changed: int
    held_back: int


def keep(row: Catalog, lists: Lists, source: CatalogSource, now: datetime) -> Kept:
    """Write what was read. For the caller's transaction."""
    changed = _keep_models(row, lists.models, source, now)
    changed += _keep_endpoints(row, lists, source, now)
    changed += _upsert(CatalogProvider, {"catalog": row}, ["slug"], lists.providers, now)
    return Kept(changed, CatalogModel.objects.filter(catalog=row, gone_at=None).exclude(held_back="").count())


# --- models -----------------------------------------------------------------------------


def _keep_models(row: Catalog, read: list[Columns], source: CatalogSource, now: datetime) -> int:
    known = {model.model_id: model for model in CatalogModel.objects.filter(catalog=row)}
    found = [_model(columns, known.get(columns["model_id"]), source, now) for columns in read]
    changed = _upsert(CatalogModel, {"catalog": row}, ["model_id"], found, now)
    here = {columns["model_id"] for columns in found}
    gone = [model.pk for name, model in known.items() if name not in here and model.gone_at is None]
    return changed + CatalogModel.objects.filter(pk__in=gone).update(gone_at=now)


def _model(columns: Columns, known: CatalogModel | None, source: CatalogSource, now: datetime) -> Columns:
    written = known.held_back.partition(" ")[0] if known else ""
    prices, since = _plausible(columns, known, written, source, now)
    return columns | prices | {"held_back": _why(columns, since), "gone_at": None}


def _why(columns: Columns, since: datetime | None) -> str:
    if since is None:
        return ""
    asked = ", ".join("unknown" if columns[name] is None else f"${columns[name]:f}" for name in PRICES)
    return f"{since.isoformat()} Now {asked} for a token in, a token out, a request: used when read again in an hour."


def _plausible(
    columns: Columns, known: CatalogModel | CatalogEndpoint | None, written: str, source: CatalogSource, now: datetime
) -> tuple[Columns, datetime | None]:
    """Return the prices to use, and since when others are held back. `written` is when they were first seen."""
    if known is None or not any(_is_leap(getattr(known, name), columns[name]) for name in PRICES):
        return {}, None
    same = source.prices_of(known.data.get("pricing")) == Prices(*(columns[name] for name in PRICES))
    since = datetime.fromisoformat(written) if written and same else now
    if since <= now - CONFIRMED_AFTER:
        return {}, None
    return {name: getattr(known, name) for name in PRICES}, since


def _is_leap(old: Decimal | None, new: Decimal | None) -> bool:
    if old is None or new is None:
        return old is not new
    return max(old, new) > MOST_CHANGE * min(old, new)


# --- endpoints --------------------------------------------------------------------------


def _keep_endpoints(row: Catalog, lists: Lists, source: CatalogSource, now: datetime) -> int:
    ids = dict(CatalogModel.objects.filter(catalog=row).values_list("model_id", "pk"))
    known = {(each.model_id, each.tag): each for each in CatalogEndpoint.objects.filter(model__catalog=row)}
    found = {
        place: _endpoint(columns, known.get(place), source, now) | {"model_id": place[0]}
        for place, columns in _by_place(lists, ids).items()
    }
    whole = {ids[name] for name in lists.endpoints if name in ids}
    before = set(CatalogModel.objects.filter(catalog=row, endpoints_at__isnull=False).values_list("pk", flat=True))
    changed = _upsert(CatalogEndpoint, {}, ["model_id", "tag"], found.values(), now)
    changed += _forget([each for place, each in known.items() if place not in found], whole, before)
    CatalogModel.objects.filter(pk__in=whole).update(endpoints_at=now)
    return changed + len(whole - before)


def _by_place(lists: Lists, ids: Mapping[str, int]) -> dict[Place, Columns]:
    retaining_none = {(ids[name], columns["tag"]): columns for name, columns in lists.retaining_none if name in ids}
    found = {place: columns | {"is_zdr": True} for place, columns in retaining_none.items()}
    for name, rows in lists.endpoints.items():
        for columns in rows if name in ids else ():
            place = (ids[name], columns["tag"])
            found[place] = columns | {"is_zdr": place in retaining_none}
    return found


def _endpoint(columns: Columns, known: CatalogEndpoint | None, source: CatalogSource, now: datetime) -> Columns:
    prices, since = _plausible(columns, known, known.data.get(HELD_SINCE, "") if known else "", source, now)
    return columns | prices | ({"data": columns["data"] | {HELD_SINCE: since.isoformat()}} if since else {})


def _forget(missing: list[CatalogEndpoint], whole: set[int], before: set[int]) -> int:
    """Drop endpoints that are listed no more. Of models whose list was not read now, those left only retain."""
    retaining = [each.pk for each in missing if each.is_zdr and each.model_id in before - whole]
    gone = [each.pk for each in missing if each.model_id in whole or (each.is_zdr and each.model_id not in before)]
    changed = CatalogEndpoint.objects.filter(pk__in=retaining).update(is_zdr=False)
    return changed + CatalogEndpoint.objects.filter(pk__in=gone).delete()[0]


# --- any of them ------------------------------------------------------------------------


def _upsert(table: type[models.Model], same: Columns, key: list[str], rows: Iterable[Columns], now: datetime) -> int:
    """Write the rows that are new or changed; return how many those were."""
    found = {tuple(columns[name] for name in key): columns for columns in rows}
    fields = [*same, *next(iter(found.values()), {})]
    known = {
        tuple(getattr(row, name) for name in key): row
        for row in table._default_manager.filter(**same)
        if tuple(getattr(row, name) for name in key) in found
    }
    changed = [columns for place, columns in found.items() if not _is_same(known.get(place), columns)]
    table._default_manager.bulk_create(
        [table(**same, **columns, seen_at=now) for columns in changed],
        update_conflicts=True,
        unique_fields=[*same, *key],
        update_fields=[name for name in [*fields, "seen_at"] if name not in {*same, *key}],
    )
    return len(changed)


def _is_same(row: Any, columns: Columns) -> bool:
    return row is not None and all(getattr(row, name) == value for name, value in columns.items())
