"""What has to be done to the database and the state folder before the processes can work."""

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from definable.launcher.errors import CannotStart
from definable.launcher.local import CHECKOUT
from definable.launcher.postgres import OLDEST

MADE_FROM = ("*/migrations/*.py", "static/**/*", "requirements/run.txt", "definable/settings.py")


def fingerprint() -> str:
    """Return a name for the migrations and static files of this checkout."""
    digest = hashlib.sha256()
    for path in _sources():
        fact = path.stat()
        digest.update(f"{path} {fact.st_size} {fact.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    for pattern in MADE_FROM:
        yield from sorted(path for path in CHECKOUT.glob(pattern) if path.is_file())


class Stamp:
    """Remembers, next to the database's files, that all was prepared for this checkout."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def valid(self) -> bool:
        """Say whether nothing has to be prepared."""
        return self.path.exists() and self.path.read_text() == fingerprint()

    def set(self) -> None:
        self.path.write_text(fingerprint())


def prepare_django() -> None:
    """Load Django, once, in this process: a Python process per command would cost a second each."""
    import django
    from django.conf import settings

    django.setup()
    meet_database(settings.DATABASE_URL)


def django_state() -> str:
    """Say which Django runs, and what is wrong with it."""
    from definable import checks

    return "; ".join([checks.django_state(), *(warning.msg for warning in checks.check_django())])


def run_command(name: str, *arguments: str) -> str:
    """Run a management command in this process and return what it printed. Raises CannotStart when it refuses."""
    from django.core.management import CommandError, call_command

    printed = io.StringIO()
    try:
        call_command(name, *arguments, stdout=printed)
    except CommandError as refusal:
        raise CannotStart(str(refusal)) from None
    return printed.getvalue().strip()


def meet_database(address: str) -> None:
    """Make sure that a database answers at this address and is new enough. Raises CannotStart."""
    try:
        with psycopg.connect(address, connect_timeout=5) as connection:
            release = connection.info.server_version // 10000
    except psycopg.Error as problem:
        reason = str(problem).strip().splitlines()[-1]
        raise CannotStart(f"The database of DATABASE_URL does not answer: {reason}") from None
    if release < OLDEST:
        raise CannotStart(f"The database of DATABASE_URL is PostgreSQL {release}; {OLDEST} or newer is needed.")


def migrate(say: Callable[[str], None]) -> None:
    """Bring the schema up to date, if it is not."""
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if plan:
        say(f"Migrating the database ({len(plan)} steps) ...")
        run_command("migrate", "--no-input", "--verbosity", "0")


def let_go_of_database() -> None:
    """Give back this process's connections: from here on it only watches."""
    from django.db import connection

    connection.close()
    connection.close_pool()
