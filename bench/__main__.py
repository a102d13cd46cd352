"""
Measure, print tables, and keep the figures in bench/results/<name>.json.

    .venv/bin/python -m bench            every benchmark
    .venv/bin/python -m bench calls      only this one

Runs on a database of its own, so nothing needs to be set up and nothing is left behind.
"""

import argparse
import importlib
import io
import json
import os
import pkgutil
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import bench
from definable.launcher.postgres import Postgres

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    names = _chosen()
    with installation():
        for module in modules(names):
            print(f"\n== {module.__name__.removeprefix('bench.')} ==", flush=True)
            keep(module.run())


def _chosen() -> list[str]:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("names", nargs="*", help="which ones; all when none is named")
    return parser.parse_args().names


def modules(names: list[str]) -> Iterator[ModuleType]:
    """Import the benchmarks of these names, or all."""
    found = [module.name for module in pkgutil.iter_modules(bench.__path__) if not module.name.startswith("_")]
    for name in names or found:
        module = importlib.import_module(f"bench.{name}")
        if hasattr(module, "run"):
            yield module


@contextmanager
def installation() -> Iterator[None]:
    """Start a database that forgets nothing at a power cut, as production's would, and make its tables and keys."""
    state = Path(tempfile.mkdtemp(prefix="definable-bench-"))
    server = Postgres(state)
    try:
        server.start()
        server.ensure_database()
        os.environ |= {
            "STATE": str(state),
            "DATABASE_URL": server.url(),
            "CELERY_BROKER_URL": "memory://localhost/",
            "STREAM_URL": "redis://127.0.0.1:1",  # nothing here streams to a page
            "DJANGO_SETTINGS_MODULE": "definable.settings",
        }
        _prepare()
        yield
    finally:
        server.destroy()
        shutil.rmtree(state, ignore_errors=True)


def _prepare() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("vault_init", stdout=io.StringIO())
    call_command("migrate", verbosity=0)


def keep(result: dict) -> None:
    """Write one benchmark's figures, with where and when they were measured."""
    RESULTS.mkdir(exist_ok=True)
    where = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "machine": platform.platform(),
    }
    (RESULTS / f"{result['name']}.json").write_text(json.dumps(result | where, indent=1) + "\n")


if __name__ == "__main__":
    main()
