"""
Hints to workers: "look at this run". A hint may be lost or come twice; the sweeper repeats it.

Which run of a flow is taken is not decided by hints (personas.fair), so a long line needs no more than a few.
"""

from collections.abc import Iterable
from uuid import UUID

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

from personas.models import Run

MOST = 128  # hints at once: as many threads as two workers have; who ends a run hints at the next
EXPIRES = 60.0  # seconds; by then the sweeper has sent another one, so they do not pile up while no worker runs

log = structlog.get_logger()


def hint_later(run_ids: Iterable[UUID]) -> None:
    """Send a hint for each run, or for as many as may find a thread, once the caller's transaction is committed."""
    ids = [str(run_id) for run_id in run_ids][:MOST]
    transaction.on_commit(lambda: _send(ids))


def hint_at_next() -> None:
    """Send a hint if a run of a flow stands in line: whoever calls this has just ended one."""
    waiting = Run.objects.filter(state=Run.State.QUEUED, flow__isnull=False).order_by("place", "id")
    hint_later(waiting.values_list("pk", flat=True)[:1])


def _send(run_ids: list[str]) -> None:
    try:
        for run_id in run_ids:
            current_app.send_task("personas.tasks.work", kwargs={"run_id": run_id}, expires=EXPIRES)
    except OperationalError:
        # The broker is away. The runs are queued in the database; the sweeper hints again.
        log.warning("hint.not_sent", count=len(run_ids))
