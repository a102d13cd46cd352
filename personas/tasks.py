"""Background doors: each takes ids, loads, and calls one thing."""

import os
import socket
from uuid import UUID, uuid4

from celery import shared_task

from audit.clock import app_now
from integrations.sweeping import one_by_one
from personas import checking, delivering, ending, execution, retention, runway, watchdog
from personas import dispatch as dispatching
from personas.chat import temporary, turn
from personas.models import Run


@shared_task
def work(*, run_id: str, **_later) -> None:
    """Take one run as far as it goes."""
    execution.work(run_id=UUID(run_id), owner=f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"[:64])


@shared_task
def dispatch(**_later) -> None:
    """Fire what is due."""
    dispatching.dispatch()


@shared_task
def watch(**_later) -> None:
    """Hold what should have happened against what did."""
    watchdog.watch()


@shared_task
def watch_credits(**_later) -> None:
    """Tell teams whose platform credits will not reach."""
    runway.watch()


@shared_task
def ping(**_later) -> None:
    """Tell the outside that this installation lives: the clock, the broker and a worker."""
    watchdog.ping()


@shared_task
def deliver(*, delivery_id: str, **_later) -> None:
    """Send one mail."""
    delivering.deliver(delivery_id=UUID(delivery_id))


@shared_task
def deliver_due(**_later) -> None:
    """Send what was not sent when it should have been."""
    delivering.deliver_due()


@shared_task
def check_chains(**_later) -> None:
    """Hold the chains that were not checked today against the catalog."""
    checking.check_chains(at=app_now())


@shared_task
def forget_chats(**_later) -> None:
    """Destroy what was said in temporary chats that are over."""
    temporary.forget_due()


@shared_task
def erase_old(**_later) -> None:
    """Remove texts of runs that their teams keep no longer."""
    retention.erase_due()


@shared_task
def sweep(**_later) -> None:
    """Hint again at runs nobody works on, and end those that were tried too often."""
    dispatching.sweep()
    lost = Run.objects.claimable().filter(attempt__gte=Run.MAX_ATTEMPTS).select_related("team")
    one_by_one(lost[:100], _give_up_on)


def _give_up_on(run: Run) -> None:
    if run.is_turn:
        turn.give_up_on(run)
    else:
        ending.give_up_on(run=run)
