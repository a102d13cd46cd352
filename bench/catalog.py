"""
The list of 371 models: server time, questions to the database and bytes of the page, and of a filter's fragment.

    .venv/bin/python -m bench catalog

Asked through the whole stack of middleware, without a network. The models are those of the stand-in and copies of them.
"""

import gzip
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MODELS, VISITS, WARM = 371, 60, 5
AIMS = {"page": 150, "fragment": 80}  # ms, 95 of 100 visits
MOST_QUERIES, MOST_BYTES = 12, 30_000
FRAGMENT = {"HX-Request": "true", "HX-Request-Type": "partial"}
FILTERED = "?zdr=1&tools=1&context=200000&sort=price_in"


def run() -> dict:
    """Measure, print it beside the aims, and return the figures."""
    with _catalog():
        visit = _visitor()
        found = {
            "page": _measure(visit, "", {}),
            "filtered page": _measure(visit, FILTERED, {}),
            "fragment": _measure(visit, FILTERED, FRAGMENT),
        }
    for name, figures in found.items():
        aim = AIMS[name.split()[-1]]
        print(
            f"{name:14} p50 {figures['p50_ms']:6.1f} ms, p95 {figures['p95_ms']:6.1f} ms (aim {aim}),"
            f" {figures['queries']} queries (at most {MOST_QUERIES}),"
            f" {figures['bytes']:,} bytes compressed (at most {MOST_BYTES:,})"
        )
    return {"name": "catalog", "models": MODELS, "visits": VISITS, **found}


@contextmanager
def _catalog() -> Iterator[None]:
    from django.conf import settings
    from django.test import override_settings

    from integrations import catalog
    from integrations.models import Catalog, CatalogEndpoint, CatalogModel
    from tests.integrations.catalog_fixture import read_catalog
    from tests.sandbox_fixture import start_sandbox

    sandbox = start_sandbox()
    try:
        read_catalog(sandbox)
        rows = list(CatalogModel.objects.order_by("pk").values())
        for number in range(MODELS - len(rows)):
            row = rows[number % len(rows)]
            copy = CatalogModel.objects.create(**row | {"id": None, "model_id": f"{row['model_id']}-{number}"})
            offers = CatalogEndpoint.objects.filter(model_id=row["id"]).values()
            CatalogEndpoint.objects.bulk_create(
                CatalogEndpoint(**offer | {"id": None, "model_id": copy.pk}) for offer in offers
            )
        Catalog.objects.update(version=2)
        catalog.forget()
        plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}  # nobody collected the files
        with override_settings(STORAGES=settings.STORAGES | {"staticfiles": plain}, ALLOWED_HOSTS=["testserver"]):
            yield
    finally:
        sandbox.stop()


def _visitor() -> Any:
    from django.test import Client
    from django.urls import reverse

    from tests.factories import make_team, owner_of

    team, client = make_team(), Client()
    client.force_login(owner_of(team))
    address = reverse("model_list", args=[team.slug])
    return lambda query, headers: client.get(address + query, headers=headers)


def _measure(visit: Any, query: str, headers: dict[str, str]) -> dict[str, Any]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    times = sorted([_taken(visit, query, headers) for _ in range(WARM + VISITS)][WARM:])
    with CaptureQueriesContext(connection) as asked:
        answer = visit(query, headers)
    assert answer.status_code == 200, answer.status_code
    return {
        "p50_ms": round(times[len(times) // 2], 1),
        "p95_ms": round(times[int(len(times) * 0.95)], 1),
        "queries": len(asked),
        "bytes": len(gzip.compress(answer.content, 6)),
    }


def _taken(visit: Any, query: str, headers: dict[str, str]) -> float:
    began = time.perf_counter()
    visit(query, headers)
    return (time.perf_counter() - began) * 1000
