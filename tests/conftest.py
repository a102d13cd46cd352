"""Fixtures for the whole suite. Sockets to anything but this machine are shut."""

import socket
from collections.abc import Iterator
from importlib import import_module

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, transaction
from django.test import TransactionTestCase

LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(scope="session", autouse=True)
def only_this_machine() -> Iterator[None]:
    """Refuse every connection that would leave the machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address) -> None:
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(LOOPBACK):
            raise AssertionError(f"A test tried to reach {address}")
        return connect(self, address)

    socket.socket.connect = guarded
    yield
    socket.socket.connect = connect


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Send each file to one worker, and the browser tests together: they share one installation."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # the slowest first, see below, not those with the most tests

    class ByInstallation(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/browser" if nodeid.startswith("tests/browser/") else super()._split_scope(nodeid)

    return ByInstallation(config, log)


# Long for their few tests. Each of two workers takes two files at once, so that a short one stands among them.
SLOWEST = [
    "tests/browser/",
    "tests/definable/test_launcher_up.py",
    "tests/test_architecture.py",
    "tests/test_canary.py",
    "tests/test_kill_worker.py",
    "tests/personas/test_hostile_messages.py",
    "tests/definable/test_launcher_servers.py",
    "tests/personas/test_injection.py",
]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: last, it would leave one worker with nothing to do."""

    def place(item: pytest.Item) -> int:
        return next((at for at, name in enumerate(SLOWEST) if item.nodeid.startswith(name)), len(SLOWEST))

    items.sort(key=place)


def pytest_configure() -> None:
    """Make the vault's keys before Django checks them."""
    from vault.management.commands.vault_init import Command

    call_command(Command(), verbosity=0)


KEPT = {"django_migrations", "django_content_type", "auth_permission"}  # what migrating wrote; no test changes it
EMPTY_ALL = """
DO $$ DECLARE one text; BEGIN
    -- Without triggers: the log refuses to be deleted from, and no reference needs a look when all rows go.
    SET LOCAL session_replication_role = replica;
    FOREACH one IN ARRAY string_to_array(%s, ' ') LOOP EXECUTE format('DELETE FROM %%I', one); END LOOP;
END $$
"""


@pytest.fixture(autouse=True, scope="session")
def empty_tables_quickly() -> Iterator[None]:
    """Delete the rows that a test has committed: truncating eighty tables takes 0.3 s, and most of them are empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", empty_tables)
        yield


def empty_tables(_: TransactionTestCase) -> None:
    """Leave what migrations leave: the plans, and no counter of tries."""
    with transaction.atomic(), connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor)) - KEPT
        cursor.execute(EMPTY_ALL, [" ".join(sorted(tables))])
        add_plans()


def add_plans() -> None:
    import_module("accounts.migrations.0002_plans").add_plans(apps, None)
    import_module("accounts.migrations.0003_ledger").describe_plans(apps, None)
    seats_and_packs = import_module("accounts.migrations.0004_seats_and_packs")
    seats_and_packs.describe_pro(apps, None)
    seats_and_packs.add_packs(apps, None)


@pytest.fixture(scope="session")
def sandbox() -> Iterator:
    """A stand-in OpenRouter in its own process, quick to answer."""
    from tests.sandbox_fixture import start_sandbox

    running = start_sandbox(latency_ms=0, generation_delay=0.2)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def no_faults_left(request) -> Iterator[None]:
    """Let no test meet the faults that another one set in the sandbox they share."""
    yield
    if "sandbox" in request.fixturenames:
        request.getfixturevalue("sandbox").rules()


@pytest.fixture(autouse=True)
def no_catalog_remembered() -> None:
    """Let no test see the catalog that another one left in this process."""
    from integrations import catalog

    catalog.forget()


@pytest.fixture
def known_catalog(db, sandbox):
    """The sandbox's catalog, read into the tables: an integrations.facts.Catalog."""
    from tests.integrations.catalog_fixture import read_catalog

    return read_catalog(sandbox)


@pytest.fixture(autouse=True)
def plain_static_files(settings) -> None:
    """Name static files without their hash: nothing is collected for a test."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = settings.STORAGES | {"staticfiles": plain}


@pytest.fixture
def clock():
    """Shift the database's clock for one test: `clock(hours=3)`."""

    def shift(**by: float) -> None:
        parts = " ".join(f"{value} {unit}" for unit, value in by.items())
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('app.clock_offset', %s, false)", [parts])

    yield shift
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.clock_offset', '', false)")
    if not connection.in_atomic_block:  # the one that was shifted may lie in the pool, and another test would get it
        connection.close()
        connection.close_pool()
