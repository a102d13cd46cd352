"""What members do with schedules: one flow may have several, and a team may pause all of its at once."""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from uuid import UUID

from django.db import transaction

from accounts.models import Team, User
from audit.actions import Actor, record
from audit.clock import app_now
from personas import due, noticing, stages, starting
from personas.models import Firing, Flow, Notice, Run, Schedule, TeamFlows

MOST_OF_FLOW = 20
MOST_OF_TEAM = 1_000
MOST_SKIPPED = 100  # times of a pause that are written down when it ends: the latest
LONGEST_JITTER = due.LONGEST_JITTER
EDITED = ["name", "kind", "cron", "every_seconds", "zone", "starts_at", "ends_at", "jitter_seconds"]
EDITED += ["catch_up", "catch_up_seconds", "overlap"]


class TooMany(Exception):
    """There is no room for another schedule; the message says what to do."""


class StillGoing(Exception):
    """A run of the schedule is not over; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a schedule is to be. An interval without a start is counted from the moment it is set."""

    zone: str
    name: str = ""
    kind: str = Schedule.Kind.CRON
    cron: str = ""
    every_seconds: int | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    jitter_seconds: int = 0
    catch_up: str = Schedule.CatchUp.LATEST
    catch_up_seconds: int | None = None
    overlap: str = Schedule.Overlap.SKIP
    inputs: Mapping[str, str] = field(default_factory=dict)


# --- one schedule -----------------------------------------------------------------------


@transaction.atomic
def add_schedule(*, flow: Flow, wish: Wish, by: User) -> Schedule:
    """
    Fire a flow as wished from now on, with the rights of `by`.

    Raises BadRule when it cannot be used or never fires, BadInput, and TooMany.
    """
    now = app_now()
    _check_room(flow)
    schedule = Schedule(team=flow.team, flow=flow, created_at=now)
    return _set(schedule, wish, by, now)


@transaction.atomic
def change_schedule(*, schedule: Schedule, wish: Wish, by: User) -> Schedule:
    """
    Fire it as wished from now on, with the rights of `by`. A pause ends.

    Raises BadRule and BadInput.
    """
    return _set(_locked(schedule), wish, by, app_now())


@transaction.atomic
def set_schedule(*, flow: Flow, zone: str, by: User, name: str = "", **more: str) -> Schedule:
    """
    Set the flow's schedule of this name: make it, or change the one that is there. `more` is as `Wish` takes it.

    Raises BadRule, BadInput and TooMany.
    """
    # Of two tabs that make it, the second changes what the first made.
    Flow.objects.select_for_update(no_key=True).get(pk=flow.pk)
    found = flow.schedules.filter(name=name).order_by("created_at").first()
    wish = Wish(zone=zone, name=name, **more)
    return change_schedule(schedule=found, wish=wish, by=by) if found else add_schedule(flow=flow, wish=wish, by=by)


@transaction.atomic
def delete_schedule(*, schedule: Schedule, by: User) -> None:
    """
    Remove a schedule and its firings. Its runs stay, and the log keeps when they were fired.

    Raises StillGoing while a run of it is not over.
    """
    found = _locked(schedule)
    runs = Run.objects.filter(team=found.team, firing__schedule=found)
    if runs.unfinished().exists():
        raise StillGoing("A run of this schedule is not over. Stop it or wait for its end, then delete the schedule.")
    runs.update(firing=None)
    _record("deleted", found, by, app_now())
    _end_notice(found)
    found.delete()


@transaction.atomic
def pause_schedule(*, schedule: Schedule, by: User, until: datetime | None = None, why: str = "") -> None:
    """
    Switch a schedule off, until it is switched on or until a given time. Runs that are going finish.

    Raises BadRule when it has no time after `until`.
    """
    found, now = _locked(schedule), app_now()
    if found.paused_at:
        return
    if until and until > now:
        _wait_until(found, until)
    else:
        found.paused_at, found.paused_until = now, None
    found.paused_why = why[:300]
    found.save(update_fields=["paused_at", "paused_until", "paused_why", "next_at", "nominal_at"])
    details = {"until": until.isoformat()} if until else {}
    _record("paused", found, by, now, **details, **({"reason": why[:300]} if why else {}))


@transaction.atomic
def resume_schedule(*, schedule: Schedule, by: User) -> None:
    """
    Switch a schedule on again, from the next time its rule names. What it skipped is written down.

    Raises BadRule when it has no further time.
    """
    found, now = _locked(schedule), app_now()
    if not found.is_paused_at(now):
        return
    _write_skipped(found, now)
    found.owner, found.paused_at, found.paused_until, found.paused_why = by, None, None, ""
    _aim(found, found.rule.next(now))
    found.save(update_fields=["owner", "paused_at", "paused_until", "paused_why", "next_at", "nominal_at"])
    _record("resumed", found, by, now)
    _end_notice(found)


def _locked(schedule: Schedule) -> Schedule:
    """The row as it is now. A dispatcher that holds it is waited for, and one that comes passes it over."""
    rows = Schedule.objects.select_for_update(of=("self",)).select_related("team", "flow__version", "owner")
    return rows.get(pk=schedule.pk)


def _check_room(flow: Flow) -> None:
    Flow.objects.select_for_update(no_key=True).get(pk=flow.pk)
    if flow.schedules.count() >= MOST_OF_FLOW:
        raise TooMany(f"A flow has at most {MOST_OF_FLOW} schedules. Change or delete one of them.")
    if flow.team.schedules.count() >= MOST_OF_TEAM:
        raise TooMany(f"A team has at most {MOST_OF_TEAM:,} schedules. Delete one of them.")


def _set(schedule: Schedule, wish: Wish, by: User, now: datetime) -> Schedule:
    for name in EDITED:
        setattr(schedule, name, getattr(wish, name))
    if schedule.kind == Schedule.Kind.EVERY and schedule.starts_at is None:
        schedule.starts_at = now.replace(microsecond=0)
    _aim(schedule, schedule.rule.next(now))
    schedule.inputs_id = _kept_inputs(schedule.flow, wish.inputs, now)
    schedule.owner, schedule.paused_at, schedule.paused_until, schedule.paused_why = by, None, None, ""
    schedule.save()
    _record("set", schedule, by, now, **_rule_details(schedule))
    _end_notice(schedule)
    return schedule


def _end_notice(schedule: Schedule) -> None:
    """That it was switched off by itself is over."""
    noticing.end_notices(team_id=schedule.team_id, kind=Notice.Kind.PAUSED, about=[f"schedule:{schedule.pk}"])


def _kept_inputs(flow: Flow, values: Mapping[str, str], now: datetime) -> UUID | None:
    if values:
        stages.given_inputs(flow.version.inputs, values)
    return starting.keep_inputs(flow, dict(values), now)


def _rule_details(schedule: Schedule) -> dict[str, str]:
    said = {name: value for name, value in asdict(schedule.rule).items() if value}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in said.items()}


def _aim(schedule: Schedule, nominal: datetime) -> None:
    schedule.nominal_at, schedule.next_at = nominal, due.fires_at(schedule, nominal)


def _wait_until(schedule: Schedule, until: datetime) -> None:
    """
    Pause without anything that would have to end it: the next time is simply the first one after the pause.

    The nominal time stays, so that the dispatcher then writes down what was skipped.
    """
    schedule.nominal_at = schedule.nominal_at or schedule.next_at
    first = schedule.rule.next(until - timedelta(microseconds=1))
    schedule.paused_until, schedule.next_at = until, due.fires_at(schedule, first)


def _write_skipped(schedule: Schedule, now: datetime) -> None:
    first = schedule.nominal_at or schedule.next_at
    times = takewhile(lambda at: at <= now, schedule.rule.instants(first - timedelta(microseconds=1)))
    rows = [
        Firing(team=schedule.team, schedule=schedule, nominal_at=at, fired_at=now, outcome=Firing.Outcome.PAUSED)
        for at in deque(times, maxlen=MOST_SKIPPED)
    ]
    Firing.objects.bulk_create(rows, ignore_conflicts=True)


def _record(what: str, schedule: Schedule, by: User, now: datetime, **details: object) -> None:
    record(
        f"personas.schedule.{what}",
        at=now,
        team_id=schedule.team_id,
        actor=Actor.user(by),
        target=f"schedule:{schedule.pk}",
        target_name=" – ".join(filter(None, [schedule.flow.name, schedule.name])),
        details=dict(details),
    )


# --- all of a team ----------------------------------------------------------------------


@transaction.atomic
def pause_all(*, team: Team, by: User, why: str) -> None:
    """Fire no schedule of a team from now on. Runs that are going finish, and members still start runs."""
    rows, _ = TeamFlows.objects.get_or_create(team=team)
    rows = TeamFlows.objects.select_for_update().get(pk=rows.pk)
    if rows.schedules_paused_at:
        return
    # Who holds one of these is firing it: it is waited for. Whoever comes later sees the pause.
    list(team.schedules.active().select_for_update(of=("self",), no_key=True).order_by("pk").values_list("pk"))
    rows.schedules_paused_at, rows.schedules_paused_by = app_now(), by
    rows.save(update_fields=["schedules_paused_at", "schedules_paused_by"])
    _record_all("paused", team, by, rows.schedules_paused_at, reason=why[:300])


@transaction.atomic
def resume_all(*, team: Team, by: User) -> None:
    """Fire the schedules of a team again, each from its next time. Nothing that was skipped is caught up on."""
    rows = TeamFlows.objects.select_for_update().filter(team=team, schedules_paused_at__isnull=False).first()
    if rows is None:
        return
    rows.schedules_paused_at = rows.schedules_paused_by = None
    rows.save(update_fields=["schedules_paused_at", "schedules_paused_by"])
    _record_all("resumed", team, by, app_now())


def _record_all(what: str, team: Team, by: User, at: datetime, **details: str) -> None:
    record(
        f"personas.schedules.{what}",
        at=at,
        team_id=team.pk,
        actor=Actor.user(by),
        target=f"team:{team.pk}",
        target_name=team.name,
        details=details,
    )
