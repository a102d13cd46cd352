"""Hints to workers that a connection waits for its test. The row says so; a sweeper repeats the hint."""

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

from integrations.models import Connection

log = structlog.get_logger()


def test_later(connection: Connection) -> None:
    """Hint at a connection's test once the caller's transaction is committed."""
    transaction.on_commit(lambda: _send(connection))


def _send(connection: Connection) -> None:
    try:
        current_app.send_task("integrations.tasks.test_connection", kwargs={"connection_id": str(connection.pk)})
    except OperationalError:
        log.warning("hint.not_sent", connection=str(connection.pk))
