"""Server time, questions to the database and bytes of pages, asked through all middleware without a network."""

import gzip
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

VISITS, WARM = 60, 5
MOST_QUERIES, MOST_BYTES = 12, 30_000

Visit = Callable[[str, Mapping[str, str]], Any]


@contextmanager
def served() -> Iterator[None]:
    """Let pages be asked for by a test client, with files that nobody collected."""
    from django.conf import settings
    from django.test import override_settings

    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    with override_settings(STORAGES=settings.STORAGES | {"staticfiles": plain}, ALLOWED_HOSTS=["testserver"]):
        yield


def visitor(team: Any, name: str) -> Visit:
    """Sign the team's owner in; what is returned asks for a page of this name with a query and headers."""
    from django.test import Client
    from django.urls import reverse

    from tests.factories import owner_of

    client, address = Client(), reverse(name, args=[team.slug])
    client.force_login(owner_of(team))
    return lambda query, headers: client.get(address + query, headers=dict(headers))


def measure(visit: Visit, query: str = "", headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Visit and return p50_ms, p95_ms, queries, and bytes compressed."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    times = sorted([_taken(visit, query, headers or {}) for _ in range(WARM + VISITS)][WARM:])
    with CaptureQueriesContext(connection) as asked:
        answer = visit(query, headers or {})
    assert answer.status_code == 200, answer.status_code
    return {
        "p50_ms": round(times[len(times) // 2], 1),
        "p95_ms": round(times[int(len(times) * 0.95)], 1),
        "queries": len(asked),
        "bytes": len(gzip.compress(answer.content, 6)),
    }


def tell(name: str, figures: dict[str, Any], aim: int) -> None:
    """Print a line. `aim` in ms, for 95 of 100 visits."""
    print(
        f"{name:22} p50 {figures['p50_ms']:6.1f} ms, p95 {figures['p95_ms']:6.1f} ms (aim {aim}),"
        f" {figures['queries']} queries (at most {MOST_QUERIES}),"
        f" {figures['bytes']:,} bytes compressed (at most {MOST_BYTES:,})",
        flush=True,
    )


def _taken(visit: Visit, query: str, headers: Mapping[str, str]) -> float:
    began = time.perf_counter()
    visit(query, headers)
    return (time.perf_counter() - began) * 1000
