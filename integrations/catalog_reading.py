"""
Reading a provider's catalog. For workers.

Nobody's key is used: the lists are public. What cannot be read changes nothing, so the last good
copy stays; a broken record is left out, counted, and does not spoil the others.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q

from audit.actions import Actor, record
from audit.clock import app_now
from integrations.catalog_keeping import Columns, Lists, keep
from integrations.clients import client_for
from integrations.errors import BadAnswer, UpstreamError
from integrations.facts import VIRTUAL_SUFFIXES
from integrations.models import Call, Catalog, CatalogModel
from integrations.registry import CatalogSource, Integration, get_integration
from integrations.teamless import ask_publicly
from integrations.wire import Request

AGAIN_AFTER = timedelta(minutes=5)
OLD_AFTER = timedelta(hours=1)
MOST_ENDPOINT_LISTS = 40  # of single models in one reading
RECENT_CALLS = 1_000  # whose models count as used
NEVER = datetime.min.replace(tzinfo=UTC)

Named = Callable[[], Iterable[str]]
Read = Callable[[Request], list[Columns]]

_named: list[Named] = []


def also_read_endpoints_of(models: Named) -> None:
    """Read all endpoints of the models that this function names, whenever the catalog is read."""
    _named.append(models)


def models_in_use() -> set[str]:
    """Return the models that teams name, and those of recent calls."""
    # By their ids, which grow with time: no index on started_at has all calls in it.
    recent = Call.objects.exclude(model="").order_by("-id").values_list("model", flat=True)[:RECENT_CALLS]
    return {*recent, *(model for named in _named for model in named())}


def again_at(*, integration: str) -> datetime | None:
    """Return from when on the catalog may be read again; None when it may be now."""
    row = Catalog.objects.filter(integration=integration).first()
    if row is None or row.tried_at is None or row.tried_at <= app_now() - AGAIN_AFTER:
        return None
    return row.tried_at + AGAIN_AFTER


def is_due(*, integration: str, now: datetime) -> bool:
    """Whether the catalog was never read, or is old, and nobody has tried in the last five minutes."""
    row = Catalog.objects.filter(integration=integration).first()
    if row is None:
        return True
    is_old = row.read_at is None or row.read_at <= now - OLD_AFTER
    return is_old and (row.tried_at is None or row.tried_at <= now - AGAIN_AFTER)


def refresh(*, integration: str, wanted: Iterable[str] = (), again_after: timedelta = AGAIN_AFTER) -> bool:
    """
    Read the catalog, and all endpoints of up to 40 `wanted` models; False when somebody has just tried.

    A failure is written on the catalog in words, and the last good copy stays.
    """
    provider = get_integration(integration)
    row = _take(integration, again_after) if provider.catalog else None
    if row is None or provider.catalog is None:
        return False
    try:
        lists = _read(row, provider, provider.catalog, wanted)
    except UpstreamError as error:
        _note_failure(row, error)
    else:
        _keep(row, lists, provider.catalog)
    return True


def _take(integration: str, again_after: timedelta) -> Catalog | None:
    """One conditional UPDATE lets one worker read."""
    now = app_now()
    row, _ = Catalog.objects.get_or_create(integration=integration)
    due = Catalog.objects.filter(pk=row.pk).filter(Q(tried_at=None) | Q(tried_at__lte=now - again_after))
    return row if due.update(tried_at=now) else None


# --- asking -----------------------------------------------------------------------------


def _read(row: Catalog, provider: Integration, source: CatalogSource, wanted: Iterable[str]) -> Lists:
    """Ask for everything. Raises UpstreamError when one of the three whole lists cannot be had."""
    client = client_for(provider)

    def ask(request: Request) -> list[Columns]:
        return source.records(ask_publicly(provider=provider, request=request, part="catalog"))

    models, retaining_none, providers = map(ask, source.lists(client))
    lists = Lists()
    lists.models = _usable(lists, models, source.model_columns)
    if not lists.models:
        raise BadAnswer("The provider listed no models.")
    lists.providers = _usable(lists, providers, source.provider_columns)
    for each in retaining_none:
        lists.retaining_none += [(source.model_of(each), it) for it in _usable(lists, [each], source.endpoint_columns)]
    for model_id in _oldest(row, wanted, lists.models):
        rows = _endpoints(ask, source, client, model_id)
        if rows is not None:
            lists.endpoints[model_id] = _usable(lists, rows, source.endpoint_columns)
    return lists


def _usable(lists: Lists, records: list[Columns], read: Callable[[Columns], Columns | None]) -> list[Columns]:
    found = [columns for columns in map(read, records) if columns]
    lists.skipped += len(records) - len(found)
    return found


def _oldest(row: Catalog, wanted: Iterable[str], models: list[Columns]) -> list[str]:
    """Return the wanted models whose endpoints were read longest ago, as the catalog lists them."""
    aliases = {columns["model_id"]: columns["alias_of"] for columns in models}
    plain = {model if model in aliases else _without_suffix(model) for model in wanted}
    names = {aliases.get(model) or model for model in plain} & aliases.keys()
    known = CatalogModel.objects.filter(catalog=row, model_id__in=names, endpoints_at__isnull=False)
    read_at = dict(known.values_list("model_id", "endpoints_at"))
    return sorted(names, key=lambda name: (read_at.get(name, NEVER), name))[:MOST_ENDPOINT_LISTS]


def _without_suffix(model: str) -> str:
    base, _, suffix = model.rpartition(":")
    return base if suffix in VIRTUAL_SUFFIXES else model


def _endpoints(ask: Read, source: CatalogSource, client: Any, model_id: str) -> list[Columns] | None:
    """All endpoints of a model. What cannot be read now is read next time."""
    try:
        return ask(source.endpoints(client, model_id))
    except UpstreamError:
        return None


# --- what came of it --------------------------------------------------------------------


@transaction.atomic
def _keep(row: Catalog, lists: Lists, source: CatalogSource) -> None:
    now = app_now()
    kept = keep(row, lists, source, now)
    grown = F("version") + (1 if kept.changed or row.read_at is None else 0)
    Catalog.objects.filter(pk=row.pk).update(read_at=now, failure="", version=grown)
    counts = {"models": len(lists.models), "skipped": lists.skipped}
    _record("catalog.read", "done", counts | {"changed": kept.changed, "held_back": kept.held_back})


@transaction.atomic
def _note_failure(row: Catalog, error: UpstreamError) -> None:
    """Write down why; in the log only once while it stays the same."""
    if Catalog.objects.filter(pk=row.pk).exclude(failure=error.message[:300]).update(failure=error.message[:300]):
        _record("catalog.not_read", error.outcome, {"message": error.message[:500]})


def _record(action: str, outcome: str, details: dict[str, Any]) -> None:
    actor = Actor.system("catalog")
    record(action, actor=actor, team_id=None, target="catalog", outcome=outcome, details=details)
