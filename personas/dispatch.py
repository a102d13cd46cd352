"""From due schedules to firings and runs. Two dispatchers, a crash or a clock step change nothing."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from pydantic import ValidationError

from audit.actions import Actor, record
from audit.clock import app_now
from integrations.sweeping import note_fault
from personas import timing
from personas.models import Firing, Run, Schedule
from personas.queue import hint_later
from personas.starting import start_run

BATCH = 100
ON_TIME = timedelta(seconds=60)  # a firing started within this of its nominal time was not missed
MOST_CAUGHT_UP = 100  # the rest of a longer absence is not run, whatever the rule says


def dispatch() -> int:
    """
    Fire every schedule whose time has come, and return how many firings came of it.

    The nominal time is the key, so however often this runs, each fires once.
    """
    fired = 0
    while batch := _dispatch_batch():
        fired += batch
    return fired


@transaction.atomic
def _dispatch_batch() -> int:
    due = Schedule.objects.due().select_for_update(skip_locked=True, of=("self",))
    found = list(due.select_related("team", "flow", "flow__version", "owner")[:BATCH])
    now = app_now()
    return sum(_fire_or_pause(schedule, now) for schedule in found)


def _fire_or_pause(schedule: Schedule, now: datetime) -> int:
    """Fire one schedule. One that cannot be fired is paused, so that it stands in nobody's way."""
    try:
        with transaction.atomic():
            return _fire(schedule, now)
    except timing.BadRule as error:
        _pause(schedule, now, str(error))
    except ValidationError:
        _pause(schedule, now, "The stages of its flow cannot be read. Save the flow again.")
    except (OperationalError, InterfaceError):
        raise  # the database is not there: nothing is wrong with the schedule
    except Exception as fault:  # noqa: BLE001 - whatever it is, it is named in the log
        note_fault(schedule, fault)
        _pause(schedule, now, "It could not be fired, for a fault of ours that is in the log of the installation.")
    return 0


def _fire(schedule: Schedule, now: datetime) -> int:
    nominal = _due_times(schedule, now)
    for instant in nominal:
        _record_firing(schedule, instant, now, _outcome(schedule, instant, nominal, now))
    _move_on(schedule, nominal[-1], now)
    return len(nominal)


def _move_on(schedule: Schedule, last: datetime, now: datetime) -> None:
    """Set when the schedule fires next. One whose rule has no further time is paused."""
    try:
        schedule.next_at = schedule.rule.next(last)
    except timing.BadRule as error:
        _pause(schedule, now, str(error))
    else:
        schedule.save(update_fields=["next_at"])


def _pause(schedule: Schedule, now: datetime, why: str) -> None:
    schedule.paused_at = now
    schedule.save(update_fields=["paused_at"])
    record(
        "personas.schedule.paused",
        at=now,
        team_id=schedule.team_id,
        actor=Actor.system("dispatcher"),
        target=f"schedule:{schedule.pk}",
        target_name=schedule.flow.name,
        details={"reason": why[:300]},
    )


def _due_times(schedule: Schedule, now: datetime) -> list[datetime]:
    """The nominal times from the next one up to now; of a long absence, the latest ones."""
    later = schedule.rule.instants(schedule.next_at)
    times = [schedule.next_at, *takewhile(lambda instant: instant <= now, later)]
    return times[-MOST_CAUGHT_UP:]


def _outcome(schedule: Schedule, instant: datetime, all_due: Sequence[datetime], now: datetime) -> Firing.Outcome:
    if _is_dropped(schedule, instant, all_due, now):
        return Firing.Outcome.MISSED
    if schedule.overlap == Schedule.Overlap.SKIP and _is_busy(schedule):
        return Firing.Outcome.OVERLAP
    return Firing.Outcome.STARTED


def _is_dropped(schedule: Schedule, instant: datetime, all_due: Sequence[datetime], now: datetime) -> bool:
    match schedule.catch_up:
        case Schedule.CatchUp.ALL:
            return False
        case Schedule.CatchUp.LATEST:
            return instant != all_due[-1]
        case _:
            return now - instant > ON_TIME


def _is_busy(schedule: Schedule) -> bool:
    return Run.objects.unfinished().filter(team=schedule.team, firing__schedule=schedule).exists()


def _record_firing(schedule: Schedule, instant: datetime, now: datetime, outcome: Firing.Outcome) -> None:
    firing, is_new = Firing.objects.get_or_create(
        team=schedule.team,
        schedule=schedule,
        nominal_at=instant,
        defaults={"fired_at": now, "outcome": outcome},
    )
    if not is_new:
        return
    record(
        "personas.schedule.fired",
        at=now,
        team_id=schedule.team_id,
        actor=Actor("schedule", str(schedule.owner_id), schedule.owner.email),
        target=f"schedule:{schedule.pk}",
        target_name=schedule.flow.name,
        outcome=outcome,
        details={"nominal_at": instant.isoformat()},
    )
    if outcome == Firing.Outcome.STARTED:
        start_run(flow=schedule.flow, user=schedule.owner, firing=firing)


@transaction.atomic
def sweep() -> list[UUID]:
    """
    Hint again at every run that should be at work and is not: its message was lost, its wait is
    over, or its worker died. Returns their ids.
    """
    now = app_now()
    waiting = Run.objects.claimable().filter(attempt__lt=Run.MAX_ATTEMPTS)
    stale = waiting.exclude(hinted_at__gt=now - HINT_AGAIN_AFTER)
    ids = list(stale.select_for_update(skip_locked=True).order_by("queued_at").values_list("pk", flat=True)[:500])
    Run.objects.filter(pk__in=ids).update(hinted_at=now)
    hint_later(ids)
    return ids


HINT_AGAIN_AFTER = timedelta(seconds=10)
