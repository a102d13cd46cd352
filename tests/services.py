"""
A pytest plugin: real PostgreSQL and Valkey for the suite, started before Django reads its settings.

Set DATABASE_URL (and CELERY_BROKER_URL, STREAM_URL) to use servers that already run.
"""

import os
import shutil
import tempfile
from pathlib import Path

from definable.launcher.postgres import Postgres
from definable.launcher.valkey import Valkey

_running: list = []
_state: Path | None = None


def _start() -> None:
    global _state
    _state = Path(tempfile.mkdtemp(prefix="definable-test-"))
    os.environ["STATE"] = str(_state)
    (_state / "static").mkdir()  # what `make up` fills; without it every request warns
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # the browser driver runs an event loop in the test's thread
    if "DATABASE_URL" not in os.environ:
        server = Postgres(_state, fast=True)
        server.start()
        _running.append(server)
        os.environ["DATABASE_URL"] = server.url("definable")
    if "CELERY_BROKER_URL" not in os.environ:
        valkey = Valkey(_state)
        valkey.start()
        _running.append(valkey)
        os.environ["CELERY_BROKER_URL"], os.environ["STREAM_URL"] = valkey.broker_url(), valkey.stream_url()


def _use_own_numbers(number: int) -> None:
    """Keep the queues of one pytest-xdist worker apart: a Celery worker that a test starts takes what it finds."""
    for name, field in (("CELERY_BROKER_URL", "virtual_host"), ("STREAM_URL", "db")):
        if os.environ[name].startswith(("redis+socket:", "unix:")):
            os.environ[name] += f"?{field}={number}"


# Workers of pytest-xdist inherit the first process's environment and servers.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    _use_own_numbers(int(worker.removeprefix("gw")) + 1)
else:
    _start()


def pytest_unconfigure() -> None:
    """Stop what this process started."""
    for server in reversed(_running):
        server.destroy() if isinstance(server, Postgres) else server.stop()
    if _state:
        shutil.rmtree(_state, ignore_errors=True)
