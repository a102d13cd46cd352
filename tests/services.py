"""
A pytest plugin: real PostgreSQL and Valkey for the suite, started before Django reads its settings.

Set DATABASE_URL (and CELERY_BROKER_URL, STREAM_URL) to use servers that already run. PREFER_SYSTEM=1
takes the servers of the machine; BROKER=rabbitmq makes RabbitMQ the broker.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

from definable.launcher.postgres import Postgres
from definable.launcher.valkey import Valkey
from tests.rabbitmq import RabbitMQ

_running: list = []
_state: Path | None = None


def _start() -> None:
    global _state
    _state = Path(tempfile.mkdtemp(prefix="definable-test-"))
    os.environ["STATE"] = str(_state)
    (_state / "static").mkdir()  # what `make up` fills; without it every request warns
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # the browser driver runs an event loop in the test's thread
    if "DATABASE_URL" not in os.environ:
        os.environ["DATABASE_URL"] = _begin(Postgres(_state, fast=True)).url("definable")
    if not {"CELERY_BROKER_URL", "STREAM_URL"} <= os.environ.keys():
        valkey = _begin(Valkey(_state))
        os.environ.setdefault("STREAM_URL", valkey.stream_url())
        broker = _begin(RabbitMQ(_state)) if os.environ.get("BROKER") == "rabbitmq" else valkey
        os.environ.setdefault("CELERY_BROKER_URL", broker.broker_url())


def _begin(server):
    server.start()
    _running.append(server)
    return server


def _use_own_numbers(number: int) -> None:
    """Keep the queues of one pytest-xdist worker apart: a Celery worker that a test starts takes what it finds."""
    for name, field in (("CELERY_BROKER_URL", "virtual_host"), ("STREAM_URL", "db")):
        os.environ[name] = _numbered(os.environ[name], f"?{field}={number}", number)


def _numbered(url: str, query: str, number: int) -> str:
    """Sockets carry the number in the query, ports at the path's end; a path that is no number stays."""
    return url + query if url.startswith(("redis+socket:", "unix:")) else re.sub(r"/\d+$", f"/{number}", url)


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
