"""What the log's tests share."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db import connection

from audit import queries


@pytest.fixture
def busy_log(monkeypatch) -> Iterator:
    """
    Within it, every read of the log waits for somebody else, and gives up after a fifth of a second.

    Write no event in the test before it: the two would wait for each other.
    """
    monkeypatch.setattr(queries, "MOST_SECONDS", 0.2)

    @contextmanager
    def locked() -> Iterator[None]:
        settings = connection.get_connection_params()
        chosen = {name: settings[name] for name in ("dbname", "user", "password", "host", "port") if settings.get(name)}
        with psycopg.connect(**chosen) as other:
            other.execute("LOCK TABLE audit_event IN ACCESS EXCLUSIVE MODE")
            yield
            other.rollback()

    return locked()
