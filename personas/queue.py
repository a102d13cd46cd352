"""Hints to workers: "look at this run". A hint may be lost or come twice; the sweeper repeats it."""

from collections.abc import Iterable
from uuid import UUID

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

EXPIRES = 60.0  # seconds; by then the sweeper has sent another one, so they do not pile up while no worker runs

log = structlog.get_logger()


def hint_later(run_ids: Iterable[UUID]) -> None:
    """Send a hint for each run once the caller's transaction is committed."""
    ids = [str(run_id) for run_id in run_ids]
    transaction.on_commit(lambda: _send(ids))


def _send(run_ids: list[str]) -> None:
    try:
        for run_id in run_ids:
            current_app.send_task("personas.tasks.work", kwargs={"run_id": run_id}, expires=EXPIRES)
    except OperationalError:
        # The broker is away. The runs are queued in the database; the sweeper hints again.
        log.warning("hint.not_sent", count=len(run_ids))
