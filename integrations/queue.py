"""Hints to workers that a row waits for them. The row says so; a sweeper repeats the hint."""

from uuid import UUID

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

from integrations.models import Connection

EXPIRES = 60.0  # seconds; by then a sweeper has sent another one

log = structlog.get_logger()


def test_later(connection: Connection) -> None:
    """Hint at a connection's test once the caller's transaction is committed."""
    transaction.on_commit(lambda: _send("integrations.tasks.test_connection", connection_id=str(connection.pk)))


def redeem_later(consent_id: UUID) -> None:
    """Hint at a code that is to be exchanged for a key, once the caller's transaction is committed."""
    transaction.on_commit(lambda: _send("integrations.tasks.redeem", consent_id=str(consent_id)))


def settle_later(call_id: UUID) -> None:
    """Hint at an unknown call that may be settled, once the caller's transaction is committed."""
    transaction.on_commit(lambda: _send("integrations.tasks.settle", call_id=str(call_id)))


def read_catalog_later() -> None:
    """Hint that a catalog may be read, once the caller's transaction is committed."""
    transaction.on_commit(lambda: _send("integrations.tasks.refresh_catalog"))


def _send(task: str, **ids: str) -> None:
    try:
        current_app.send_task(task, kwargs=ids, expires=EXPIRES)
    except OperationalError:
        log.warning("hint.not_sent", task=task, **ids)
