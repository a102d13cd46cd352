"""Is it alive, and is it ready? For load balancers, container engines and people."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from functools import lru_cache, partial
from pathlib import Path

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from definable.celery import app
from definable.heartbeat import lives, store
from vault import roots

LIMIT = 1  # seconds that one component has to answer
FRESH = 1  # seconds that a report is good for: anybody may ask, nobody may make work

# Nothing here names a host, an address or a version: the page is public.
SILENT = "does not answer"
SLOW = "does not answer in time"


class NotReady(Exception):
    """A component answered, and what it said is not enough. The text is shown to anybody."""


def database() -> str:
    """Ask the database something."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()
    return "answers"


@lru_cache(maxsize=1)
def _known_migrations() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None, ignore_no_migrations=True).disk_migrations)


def migrations() -> str:
    """Compare the schema with the code. A newer schema is fine: it comes first in an update."""
    try:
        applied = MigrationRecorder(connection).applied_migrations()
    finally:
        connection.close()
    if missing := len(_known_migrations() - applied.keys()):
        raise NotReady(f"{missing} to apply")
    return "all applied"


def broker() -> str:
    """Open a connection to the broker."""
    options = settings.CELERY_BROKER_TRANSPORT_OPTIONS | {"socket_connect_timeout": LIMIT, "socket_timeout": LIMIT}
    with app.connection_for_write(settings.CELERY_BROKER_URL, connect_timeout=LIMIT, transport_options=options) as link:
        link.connect()
        link.default_channel.close()
    return "answers"


def streams() -> str:
    """Ask the stream store something."""
    store().ping()
    return "answers"


def process(role: str) -> str:
    """Look for a sign of life of a background process."""
    if not lives(store(), role):
        raise NotReady("no sign of life")
    return "alive"


def vault() -> str:
    """Read the keys that this process needs."""
    try:
        roots.content_root()
        roots.sealing_key()
    except roots.BadKeyFile:
        raise NotReady("keys cannot be read") from None
    return "keys can be read"


def static() -> str:
    """Look for the collected style sheets and scripts."""
    if not (Path(settings.STATIC_ROOT) / "staticfiles.json").exists():
        raise NotReady("not collected")
    return "collected"


class Readiness:
    """
    Asks all components at once and remembers the answer for a moment.

    Components named in `required` decide; the others are reported, since pages work without them.
    """

    def __init__(
        self,
        components: Mapping[str, Callable[[], str]],
        *,
        required: frozenset[str],
        limit: float = LIMIT,
        fresh: float = FRESH,
    ) -> None:
        self.components = components
        self.required = required
        self.limit = limit
        self.fresh = fresh
        self.lock = threading.Lock()
        self.threads = ThreadPoolExecutor(2 * len(components), "ready")
        self.asked_at = float("-inf")
        self.latest: dict[str, dict] = {}

    def report(self) -> dict[str, dict]:
        """Return {component: {ok, detail}}, at most `fresh` seconds old."""
        with self.lock:
            if time.monotonic() - self.asked_at > self.fresh:
                self.latest = self._ask()
                self.asked_at = time.monotonic()
            return self.latest

    def ready(self, report: Mapping[str, dict]) -> bool:
        """Say whether every required component is well."""
        return all(report[name]["ok"] for name in self.required)

    def _ask(self) -> dict[str, dict]:
        deadline = time.monotonic() + self.limit
        asked = {name: self.threads.submit(check) for name, check in self.components.items()}
        return {name: _entry(answer, deadline) for name, answer in asked.items()}


def _entry(answer: "Future[str]", deadline: float) -> dict:
    try:
        problem = answer.exception(timeout=max(0, deadline - time.monotonic()))
    except TooSlow:
        return {"ok": False, "detail": SLOW}
    if problem:
        return {"ok": False, "detail": str(problem) if isinstance(problem, NotReady) else SILENT}
    return {"ok": True, "detail": answer.result()}


readiness = Readiness(
    {
        "database": database,
        "migrations": migrations,
        "broker": broker,
        "streams": streams,
        "worker": partial(process, "worker"),
        "control": partial(process, "control"),
        "beat": partial(process, "beat"),
        "vault": vault,
        "static": static,
    },
    # Workers may be away without the web process being at fault.
    required=frozenset({"database", "migrations", "broker", "streams", "vault", "static"}),
)


@login_not_required
@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer as long as this process can answer at all. Asks nobody."""
    return HttpResponse("alive\n", content_type="text/plain")


@login_not_required
@never_cache
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 when all that a page needs is there, 503 when not, and name each component."""
    report = readiness.report()
    body = json.dumps(report, indent=1) + "\n"
    return HttpResponse(body, content_type="application/json", status=200 if readiness.ready(report) else 503)
