"""Who works on a run. A lease is claimed and kept in the database; every later write names its fence."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from django.db import Error, InterfaceError, OperationalError, connection, transaction
from django.db.models import Case, F, Value, When

from personas.models import Run

LEASE = "30 seconds"
RENEW_EVERY = 10.0  # seconds
GIVE_BACK_AFTER = (0.0, 1.0, 5.0)  # seconds; a pool waits for a while itself
AWAY = (OperationalError, InterfaceError)
UNREACHABLE = ("08", "53", "57P")  # connection lost, no room, shut down; without a state there was no connection

log = structlog.get_logger()


class LeaseLost(Exception):
    """Another worker has taken this run, or it was ended: whatever this one writes is void."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's claim to one run."""

    run_id: UUID
    fence: int


TAKEN = f"""
state = 'running', owner = %(owner)s, fence = fence + 1, attempt = attempt + 1, changes = changes + 1,
lease_until = app_now() + interval '{LEASE}', parked_until = NULL, started_at = coalesce(started_at, app_now())
"""
CLAIM = f"""
UPDATE personas_run SET {TAKEN}
 WHERE id = %(run_id)s AND attempt < {Run.MAX_ATTEMPTS}
   AND (state = 'queued' OR (state = 'parked' AND parked_until <= app_now())
        OR (state = 'running' AND lease_until < app_now()))
   AND NOT EXISTS (SELECT 1 FROM personas_run AS before
                    WHERE before.id = personas_run.waits_for_id AND before.finished_at IS NULL)
RETURNING fence
"""  # noqa: S608 - constants only


def claim(*, run_id: UUID, owner: str) -> Lease | None:
    """Take this run, or return None when it is not there, not due, or somebody else's."""
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, {"owner": owner, "run_id": run_id})
        row = cursor.fetchone()
    return Lease(run_id, row[0]) if row else None


def give_back(lease: Lease) -> None:
    """
    Not count this attempt, since the database was away and its worker did not end. For workers.

    Waits a moment for the database; if that stays away, the attempt counts.
    """
    for pause in GIVE_BACK_AFTER:
        time.sleep(pause)
        with suppress(*AWAY):
            held = Run.objects.filter(pk=lease.run_id, fence=lease.fence, state=Run.State.RUNNING, attempt__gt=0)
            held.update(attempt=F("attempt") - 1)
            return
    log.warning("leases.attempt_not_given_back", run_id=str(lease.run_id))


def is_away(error: Error) -> bool:
    """Whether an error says that the database cannot be reached, or has no room; not that it refused a statement."""
    state = getattr(error.__cause__, "sqlstate", None)
    return isinstance(error, AWAY) and (state is None or state.startswith(UNREACHABLE))


@contextmanager
def fenced(lease: Lease, **changes: object) -> Iterator[None]:
    """
    Write under a lease: the run's own changes first, then what the block writes, or nothing.

    Raises LeaseLost.
    """
    with transaction.atomic():
        held = Run.objects.filter(pk=lease.run_id, fence=lease.fence, state=Run.State.RUNNING)
        if not held.update(changes=Run.next_change(), **changes):
            raise LeaseLost
        yield


def check_held(run: Run) -> None:
    """
    Raise LeaseLost when another worker has taken a run up since it was read, or it is over.

    Asked before a model is: a worker that stood still for longer than its lease would pay for an answer that nobody
    takes. What it writes is fenced anyway.
    """
    if not Run.objects.filter(pk=run.pk, fence=run.fence, state=Run.State.RUNNING).exists():
        raise LeaseLost


def at_once_if_stopped(now: datetime, *, otherwise: datetime) -> Case:
    """Until when a run is parked: one that somebody stopped while it worked is taken up at once, to end."""
    return Case(When(stop_wanted_at__isnull=False, then=Value(now)), default=Value(otherwise))


class Keeper:
    """Renews the leases of this process from one thread, so that a long model call keeps its run."""

    def __init__(self) -> None:
        self._held: set[Lease] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keeping(self, lease: Lease) -> Iterator[None]:
        """Keep a lease for the length of the block."""
        with self._lock:
            self._held.add(lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew_for_ever, name="leases", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(lease)

    def _renew_for_ever(self) -> None:
        pause = threading.Event()
        while not pause.wait(RENEW_EVERY):
            with self._lock:
                held = list(self._held)
            try:
                for lease in held:
                    with suppress(LeaseLost):  # its worker learns of it at the next fenced write
                        renew(lease)
            except Error:  # the next round tries again; a lease that runs out meanwhile is lost, as it should be
                log.warning("leases.not_renewed", count=len(held))
            finally:
                connection.close()


def renew(lease: Lease) -> None:
    """Put the end of a lease off. Raises LeaseLost."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE personas_run SET lease_until = app_now() + interval '{LEASE}' "  # noqa: S608 - constant
            "WHERE id = %s AND fence = %s AND state = 'running'",
            [lease.run_id, lease.fence],
        )
        if not cursor.rowcount:
            raise LeaseLost


keeper = Keeper()
