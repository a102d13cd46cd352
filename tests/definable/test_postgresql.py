"""Connections that wait in the pool: whether the server still knows them is seen without asking it."""

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from psycopg.pq import TransactionStatus

from definable.postgresql.base import is_alive


@pytest.fixture
def idle():
    """A connection of its own, in autocommit as those in the pool are."""
    with psycopg.connect(settings.DATABASE_URL, autocommit=True, dbname=connection.settings_dict["NAME"]) as ours:
        yield ours


def end(idle: psycopg.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [idle.info.backend_pid])


@pytest.mark.django_db
def test_a_connection_that_the_server_ended_is_refused(idle):
    end(idle)

    assert not is_alive(idle)
    assert idle.pgconn.transaction_status == TransactionStatus.UNKNOWN  # so the pool throws it away


@pytest.mark.django_db
def test_a_quiet_connection_is_fine_and_is_not_asked(idle):
    asked = "SELECT query FROM pg_stat_activity WHERE pid = %s"
    idle.execute("SELECT 'the last thing said'")

    assert is_alive(idle)

    with connection.cursor() as cursor:
        cursor.execute(asked, [idle.info.backend_pid])
        assert cursor.fetchone() == ("SELECT 'the last thing said'",)


@pytest.mark.django_db
def test_a_connection_that_was_only_told_something_is_kept(idle):
    idle.execute("LISTEN tides")
    with connection.cursor() as cursor:
        cursor.execute("COMMIT; NOTIFY tides; BEGIN")  # a notice goes out when it is committed

    assert is_alive(idle)
    assert idle.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.django_db(transaction=True)
def test_the_pool_replaces_a_connection_that_the_server_ended():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (first,) = cursor.fetchone()
    connection.close()
    with psycopg.connect(settings.DATABASE_URL, autocommit=True, dbname=connection.settings_dict["NAME"]) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [first])

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        assert cursor.fetchone() != (first,)
