"""From due schedules to firings and runs. Two dispatchers, a crash or a clock step change nothing."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from pydantic import ValidationError

from audit.clock import app_now
from integrations.sweeping import note_fault
from personas import firing, timing
from personas.due import Upcoming
from personas.models import Run, Schedule
from personas.queue import hint_later
from personas.stages import BadInput, BadStage
from personas.switching_off import end, switch_off

BATCH = 500
AWAY = (OperationalError, InterfaceError)  # the database is not there: nothing is wrong with any schedule
UNREADABLE = "The stages of its flow cannot be read. Save the flow again."
FAULT = "It could not be fired, for a fault of ours that is in the log of the installation."


def dispatch() -> int:
    """
    Fire every schedule whose time has come, and return how many firings came of it.

    The nominal time is the key, so however often this runs, each fires once.
    """
    upcoming, fired, looked_at = Upcoming(), 0, BATCH
    while looked_at == BATCH:
        looked_at, count = _dispatch_batch(upcoming)
        fired += count
    return fired


@transaction.atomic
def _dispatch_batch(upcoming: Upcoming) -> tuple[int, int]:
    due = Schedule.objects.due().select_for_update(skip_locked=True, of=("self",)).order_by("next_at")
    found = list(due.prefetch_related("team", "flow__version", "owner")[:BATCH])  # each once, however many share it
    return len(found), _fire_all(found, app_now(), upcoming) if found else 0


def _fire_all(schedules: Sequence[Schedule], now: datetime, upcoming: Upcoming) -> int:
    """Fire them together. If that cannot be done, one by one, so that it is known which of them is at fault."""
    try:
        return _fire(schedules, now, upcoming)
    except AWAY:
        raise
    except Exception:  # noqa: BLE001 - the next line meets it again, and names it
        return sum(_fire_or_pause(schedule, now, upcoming) for schedule in schedules)


@transaction.atomic
def _fire(schedules: Sequence[Schedule], now: datetime, upcoming: Upcoming) -> int:
    count, over = firing.fire(schedules, now, upcoming)
    for schedule in over:
        end(schedule, "Its last time has come." if schedule.rule.is_bounded else timing.NEVER)
    return count


def _fire_or_pause(schedule: Schedule, now: datetime, upcoming: Upcoming) -> int:
    """Fire one schedule. One that cannot be fired is paused, so that it stands in nobody's way."""
    try:
        return _fire([schedule], now, upcoming)
    except (timing.BadRule, BadInput) as error:
        switch_off(schedule, str(error), "dispatcher")
    except (ValidationError, BadStage):
        switch_off(schedule, UNREADABLE, "dispatcher")
    except AWAY:
        raise
    except Exception as fault:  # noqa: BLE001 - whatever it is, it is named in the log
        note_fault(schedule, fault)
        switch_off(schedule, FAULT, "dispatcher")
    return 0


@transaction.atomic
def sweep() -> list[UUID]:
    """
    Hint again at every run that should be at work and is not: its message was lost, its wait is
    over, or its worker died. Returns their ids.
    """
    now = app_now()
    waiting = Run.objects.claimable().filter(attempt__lt=Run.MAX_ATTEMPTS)
    stale = waiting.exclude(hinted_at__gt=now - HINT_AGAIN_AFTER)
    locked = stale.select_for_update(skip_locked=True, of=("self",)).order_by("queued_at")
    ids = list(locked.values_list("pk", flat=True)[:500])
    Run.objects.filter(pk__in=ids).update(hinted_at=now)
    hint_later(ids)
    return ids


HINT_AGAIN_AFTER = timedelta(seconds=10)
