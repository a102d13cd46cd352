"""
The watchdog: what should have happened is held against what did, each minute.

It tells of schedules that did not fire, of runs that nobody took up, and of runs that wait for long.
That it runs itself is told to an address outside, where somebody can miss it.
"""

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

import httpx
import structlog
from django.conf import settings
from django.db.models import Q

from audit.clock import AppNow
from personas import fair
from personas.models import Firing, Notice, Run, Schedule
from personas.noticing import end_notices, open_notice

LATE = timedelta(minutes=2)  # a schedule is looked at each second
LEFT = timedelta(minutes=10)  # a queued run that no worker took
LONG = timedelta(hours=1)
LOOK_BACK = timedelta(minutes=5)  # firings that were missed; each is looked at more than once, and told once
AT_ONCE = 200
LOOK_AT_WORKERS = "Whoever runs this installation can look at its workers."

Missed = tuple[Schedule, str, Run | None]

log = structlog.get_logger(__name__)


def watch() -> None:
    """Open and end the notices that time alone brings."""
    _missed()
    _parked()


def ping() -> None:
    """Ask the address outside, if one is set, which raises the alarm when this stops. Its answer does not matter."""
    if not settings.PING_URL:
        return
    try:
        httpx.get(settings.PING_URL, timeout=5, trust_env=False)
    except httpx.HTTPError as error:
        log.warning("watchdog.ping_failed", error=type(error).__name__)


# --- missed -----------------------------------------------------------------------------


def _missed() -> None:
    told = _told(Notice.Kind.MISSED)
    for schedule, text, run in [*_late(), *_left(), *_newly_missed()]:
        if f"schedule:{schedule.pk}" not in told:
            told.add(f"schedule:{schedule.pk}")
            _tell_missed(schedule, text, run)
    _end_missed()


def _late() -> Iterable[Missed]:
    """Schedules that are due and do not fire."""
    late = Schedule.objects.active().filter(next_at__lt=AppNow() - LATE).select_related("flow")
    for schedule in late[:AT_ONCE]:
        yield (
            schedule,
            f"It should have fired {schedule.next_at:%Y-%m-%d %H:%M} UTC and has not. {LOOK_AT_WORKERS}",
            None,
        )


def _left() -> Iterable[Missed]:
    """Runs that their schedule started and nobody took up."""
    queued = Run.objects.filter(state=Run.State.QUEUED, queued_at__lt=AppNow() - LEFT, firing__isnull=False)
    queued = queued.filter(paused_at=None, waits_for=None).select_related("flow", "firing__schedule__flow")
    for run in queued[:AT_ONCE]:
        began = f"Its run of {run.queued_at:%Y-%m-%d %H:%M} UTC has waited for over ten minutes"
        why = fair.why_waiting(run)
        yield run.firing.schedule, f"{began}. {why}" if why else f"{began} for a worker. {LOOK_AT_WORKERS}", run


def _newly_missed() -> Iterable[Missed]:
    """The last firing of each schedule that was found to be missed a moment ago."""
    found = Firing.objects.filter(outcome=Firing.Outcome.MISSED, fired_at__gt=AppNow() - LOOK_BACK)
    newest = found.order_by("schedule", "-nominal_at").distinct("schedule").select_related("schedule__flow")
    for firing in newest[:AT_ONCE]:
        text = f"It did not fire {firing.nominal_at:%Y-%m-%d %H:%M} UTC: nothing was running. {LOOK_AT_WORKERS}"
        yield firing.schedule, text, None


def _tell_missed(schedule: Schedule, text: str, run: Run | None) -> None:
    open_notice(
        team_id=schedule.team_id,
        kind=Notice.Kind.MISSED,
        about=f"schedule:{schedule.pk}",
        name=schedule.flow.name,
        text=text,
        run=run,
    )


def _end_missed() -> None:
    """End the notices of schedules that fired since, with nothing of theirs late or left."""
    for notice in Notice.objects.filter(kind=Notice.Kind.MISSED, over_at=None)[:AT_ONCE]:
        schedule_id = UUID(notice.about.partition(":")[2])
        late = Schedule.objects.active().filter(pk=schedule_id, next_at__lt=AppNow() - LATE).exists()
        left = Run.objects.filter(firing__schedule=schedule_id, state=Run.State.QUEUED).exists()
        fired = Firing.objects.filter(schedule=schedule_id, fired_at__gt=notice.last_at)
        if not late and not left and fired.exclude(outcome=Firing.Outcome.MISSED).exists():
            end_notices(team_id=notice.team_id, kind=Notice.Kind.MISSED, about=[notice.about])


def _told(kind: Notice.Kind) -> set[str]:
    """What notices of this kind are open about."""
    return set(Notice.objects.filter(kind=kind, over_at=None).values_list("about", flat=True))


# --- parked -----------------------------------------------------------------------------


def _parked() -> None:
    waits = Q(approval__asked_at__lt=AppNow() - LONG) | Q(approval=None, started_at__lt=AppNow() - LONG)
    parked = Run.objects.outside_chats().filter(waits, state=Run.State.PARKED, paused_at=None)
    told = _told(Notice.Kind.PARKED)
    for run in parked.select_related("approval")[:AT_ONCE]:
        if f"run:{run.pk}" not in told:
            _tell_parked(run)
    _end_parked()


def _tell_parked(run: Run) -> None:
    why = "for a person to decide" if run.waits_for_approval else "for a model or a person"
    open_notice(
        team_id=run.team_id,
        kind=Notice.Kind.PARKED,
        about=f"run:{run.pk}",
        name=run.title,
        text=f"It has waited {why} for over an hour. Nothing is charged meanwhile.",
        run=run,
    )


def _end_parked() -> None:
    open_ones = Notice.objects.filter(kind__in=[Notice.Kind.PARKED, Notice.Kind.ASKS], over_at=None)
    for notice in open_ones.exclude(run__state=Run.State.PARKED)[:AT_ONCE]:
        end_notices(team_id=notice.team_id, kind=notice.kind, about=[notice.about])
