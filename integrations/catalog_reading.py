"""
Reading a provider's catalog into the tables. For workers.

Nobody's key is used: the lists are public. What cannot be read changes nothing, so the last good
copy stays; a broken record is left out and does not spoil the others.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import Q

from audit.actions import Actor, record
from audit.clock import app_now
from audit.ids import uuid7
from integrations.clients import client_for
from integrations.errors import UpstreamError
from integrations.facts import Prices
from integrations.models import Catalog, CatalogEndpoint, CatalogModel, CatalogProvider
from integrations.openrouter import catalog as reading
from integrations.openrouter.rows import listed
from integrations.registry import get_integration
from integrations.wire import Request

AGAIN_AFTER = timedelta(minutes=5)
OLD_AFTER = timedelta(hours=1)
CONFIRMED_AFTER = timedelta(hours=1)
MOST_CHANGE = 10  # times; a larger change of a price is believed only when it is read again later
MOST_ENDPOINT_LISTS = 40  # of single models in one reading

Columns = dict[str, Any]
Read = Callable[[Request], list[Columns]]


def is_due(*, integration: str, now: datetime) -> bool:
    """Whether the catalog was never read, or is old, and nobody has tried in the last five minutes."""
    row = Catalog.objects.filter(integration=integration).first()
    if row is None:
        return True
    is_old = row.read_at is None or row.read_at < now - OLD_AFTER
    return is_old and (row.tried_at is None or row.tried_at < now - AGAIN_AFTER)


def refresh(*, integration: str, wanted: Iterable[str] = (), again_after: timedelta = AGAIN_AFTER) -> bool:
    """
    Read the catalog, and all endpoints of the `wanted` models; False when somebody has just tried.

    A failure is written on the catalog in words, and the last good copy stays.
    """
    row = _take(integration, again_after)
    if row is None:
        return False
    try:
        lists = _read(integration, wanted)
    except UpstreamError as error:
        _note_failure(row, error)
        return True
    _keep(row, *lists)
    return True


def _take(integration: str, again_after: timedelta) -> Catalog | None:
    """One conditional UPDATE lets one worker read."""
    now = app_now()
    row, _ = Catalog.objects.get_or_create(integration=integration)
    due = Catalog.objects.filter(pk=row.pk).filter(Q(tried_at=None) | Q(tried_at__lte=now - again_after))
    return row if due.update(tried_at=now) else None


def _read(integration: str, wanted: Iterable[str]) -> tuple[list[Columns], list[Columns], list[Columns], dict]:
    client = client_for(get_integration(integration))

    def read(request: Request) -> list[Columns]:
        return listed(client.send(request, key=None, request_id=uuid7()).data)

    found = read(client.models(output_modalities=("all",))), read(client.zdr_endpoints()), read(client.providers())
    return *found, dict(_endpoint_lists(client, wanted))


def _endpoint_lists(client: Any, wanted: Iterable[str]) -> Iterable[tuple[str, list[Columns]]]:
    """All endpoints of some models. One that cannot be read now is read next time."""
    for model_id in list(dict.fromkeys(wanted))[:MOST_ENDPOINT_LISTS]:
        author, _, slug = model_id.partition("/")
        try:
            answer = client.send(client.endpoints(author, slug), key=None, request_id=uuid7())
        except UpstreamError:
            continue
        data = answer.data.get("data")
        yield model_id, (data if isinstance(data, dict) else {}).get("endpoints") or []


def _note_failure(row: Catalog, error: UpstreamError) -> None:
    with transaction.atomic():
        Catalog.objects.filter(pk=row.pk).update(failure=error.message[:300])
        _record("catalog.not_read", error.outcome, {"message": error.message[:500]})


def _record(action: str, outcome: str, details: Mapping[str, Any]) -> None:
    actor = Actor.system("catalog")
    record(action, actor=actor, team_id=None, target="catalog", outcome=outcome, details=dict(details))


# --- into the tables --------------------------------------------------------------------


@transaction.atomic
def _keep(
    row: Catalog, model_list: list[Columns], zdr: list[Columns], provider_list: list[Columns], endpoints: dict
) -> None:
    now = app_now()
    changed = _keep_models(row, model_list, now)
    changed += _keep_endpoints(row, zdr, endpoints, now)
    found = filter(None, map(reading.provider_columns, provider_list))
    changed += _upsert(CatalogProvider, {"catalog": row}, ["slug"], found, now)
    version = models.F("version") + (1 if changed or row.read_at is None else 0)
    Catalog.objects.filter(pk=row.pk).update(read_at=now, failure="", version=version)
    _record("catalog.read", "done", {"models": len(model_list), "changed": changed})


def _keep_models(row: Catalog, records: list[Columns], now: datetime) -> int:
    found = [columns for columns in map(reading.model_columns, records) if columns]
    known = {model.model_id: model for model in CatalogModel.objects.filter(catalog=row)}
    found = [_checked(columns, known.get(columns["model_id"]), now) | {"gone_at": None} for columns in found]
    changed = _upsert(CatalogModel, {"catalog": row}, ["model_id"], found, now)
    here = {columns["model_id"] for columns in found}
    gone = [model.pk for name, model in known.items() if name not in here and model.gone_at is None]
    return changed + CatalogModel.objects.filter(pk__in=gone).update(gone_at=now)


def _checked(columns: Columns, known: CatalogModel | None, now: datetime) -> Columns:
    """Hold back prices that moved too far, until they have been read twice, an hour apart."""
    names = ["price_in", "price_out", "price_request"]
    if known is None or not any(_is_leap(getattr(known, name), columns[name]) for name in names):
        return columns | {"held_back": ""}
    old = {name: getattr(known, name) for name in names}
    since = _held_since(known, columns)
    if since and since <= now - CONFIRMED_AFTER:
        return columns | {"held_back": ""}
    return columns | old | {"held_back": (since or now).isoformat()}


def _held_since(known: CatalogModel, columns: Columns) -> datetime | None:
    """When these very prices were first seen, if they have been held back since then."""
    same = reading.prices_of(known.data.get("pricing")) == _prices(columns)
    return datetime.fromisoformat(known.held_back) if known.held_back and same else None


def _prices(columns: Columns) -> Prices:
    return Prices(columns["price_in"], columns["price_out"], columns["price_request"])


def _is_leap(old: Any, new: Any) -> bool:
    if old is None or new is None or old == new:
        return False
    return not new or not old or max(old, new) > MOST_CHANGE * min(old, new)


def _keep_endpoints(row: Catalog, zdr: list[Columns], lists: dict[str, list[Columns]], now: datetime) -> int:
    ids = dict(CatalogModel.objects.filter(catalog=row).values_list("model_id", "pk"))
    listed_as_zdr = {(ids[name], columns["tag"]): columns for name, columns in reading.zdr_columns(zdr) if name in ids}
    found = {place: columns | {"is_zdr": True} for place, columns in listed_as_zdr.items()}
    for name, records in lists.items():
        for columns in filter(None, map(reading.endpoint_columns, records)) if name in ids else ():
            place = (ids[name], columns["tag"])
            found[place] = columns | {"is_zdr": place in listed_as_zdr}
    whole = {ids[name] for name in lists if name in ids}
    CatalogModel.objects.filter(pk__in=whole).update(endpoints_at=now)
    rows = [columns | {"model_id": model} for (model, _), columns in found.items()]
    return _upsert(CatalogEndpoint, {}, ["model_id", "tag"], rows, now) + _forget_endpoints(row, found, whole)


def _forget_endpoints(row: Catalog, found: Mapping[tuple[int, str], Columns], whole: set[int]) -> int:
    """Drop endpoints that are listed no more; of models that were listed whole before, keep those that only retain."""
    known = CatalogEndpoint.objects.filter(model__catalog=row).select_related("model")
    missing = [endpoint for endpoint in known if (endpoint.model_id, endpoint.tag) not in found]
    retaining = [each.pk for each in missing if each.is_zdr and each.model.endpoints_at and each.model_id not in whole]
    gone = [each.pk for each in missing if each.model_id in whole or (each.is_zdr and not each.model.endpoints_at)]
    changed = CatalogEndpoint.objects.filter(pk__in=retaining).update(is_zdr=False)
    return changed + CatalogEndpoint.objects.filter(pk__in=gone).delete()[0]


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
