"""Writing down what became of due times: firings, runs and their events, many schedules in a few statements."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from django.db import connection as database
from django.db.models import Count, F

from audit.actions import Actor, Entry, record_all
from personas import due, starting, stopping, timing
from personas.models import Firing, Run, Schedule, TeamFlows

MOST_PAUSED = 100  # times of one schedule that are written down while its team has paused all

Outcome = Firing.Outcome
STARTING = (Outcome.STARTED, Outcome.QUEUED, Outcome.REPLACED)

INSERT = """
INSERT INTO personas_firing (id, team_id, schedule_id, nominal_at, fired_at, outcome)
SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::text[])
    ON CONFLICT (team_id, schedule_id, nominal_at) DO NOTHING RETURNING id
"""
MOVE_ON = """
UPDATE personas_schedule SET next_at = new.next_at, nominal_at = new.nominal_at, paused_until = NULL
  FROM unnest(%s::uuid[], %s::timestamptz[], %s::timestamptz[]) AS new (id, next_at, nominal_at)
 WHERE personas_schedule.id = new.id
"""


def fire(schedules: Sequence[Schedule], now: datetime, upcoming: due.Upcoming) -> tuple[int, list[Schedule]]:
    """
    Write what became of the times of due schedules, and when each fires next. In the caller's transaction, with
    these rows locked and their team, flow, version and owner loaded.

    Returns how many firings there are, and the schedules whose rule has no further time. Raises BadRule.
    """
    going, paused = _going(schedules), _paused(schedules)
    firings: list[Firing] = []
    last: dict[UUID, datetime] = {}
    for schedule in schedules:
        times = due.due_times(schedule, now, upcoming)
        last[schedule.pk] = times[-1]
        is_paused = schedule.team_id in paused
        found = due.outcomes(schedule, times, now, busy=len(going.get(schedule.pk, ())), paused=is_paused)
        firings += [_firing(schedule, at, now, outcome) for at, outcome in zip(times, found, strict=True)]
    new = _insert(_worth_keeping(firings, paused))
    record_all(_event(firing) for firing in new)
    _start([firing for firing in new if firing.outcome in STARTING], going)
    return len(new), _move_on(schedules, last, upcoming)


def _firing(schedule: Schedule, nominal: datetime, now: datetime, outcome: Outcome) -> Firing:
    return Firing(team=schedule.team, schedule=schedule, nominal_at=nominal, fired_at=now, outcome=outcome)


# --- what is there already --------------------------------------------------------------


def _going(schedules: Sequence[Schedule]) -> dict[UUID, list[Run]]:
    """The runs of each schedule that are not over, the oldest first; of those that must know."""
    asking = [schedule.pk for schedule in schedules if schedule.overlap != Schedule.Overlap.ALLOW]
    if not asking:
        return {}
    runs = Run.objects.unfinished().filter(firing__schedule__in=asking).annotate(of=F("firing__schedule"))
    found: dict[UUID, list[Run]] = {}
    for run in runs.order_by("id"):
        found.setdefault(run.of, []).append(run)
    return found


def _paused(schedules: Sequence[Schedule]) -> dict[UUID, datetime]:
    """
    The teams that paused all their schedules, and since when.

    Asked after the schedules are locked, and pausing locks them too: what is paused by then starts nothing.
    """
    teams = {schedule.team_id for schedule in schedules}
    rows = TeamFlows.objects.filter(team__in=teams, schedules_paused_at__isnull=False)
    return dict(rows.values_list("team", "schedules_paused_at"))


def _worth_keeping(firings: list[Firing], paused: dict[UUID, datetime]) -> list[Firing]:
    """All but those of a long pause of their team, which would be more rows every minute."""
    if not paused:
        return firings
    asked = {firing.schedule_id for firing in firings if firing.team_id in paused}
    rows = Firing.objects.filter(schedule__in=asked, outcome=Outcome.PAUSED, fired_at__gte=min(paused.values()))
    counted = dict(rows.values_list("schedule").annotate(Count("pk")).order_by())
    return [firing for firing in firings if counted.get(firing.schedule_id, 0) < MOST_PAUSED]


# --- writing ----------------------------------------------------------------------------


def _insert(firings: list[Firing]) -> list[Firing]:
    """Keep firings, and return them without those whose nominal time had one: the clock may have been set back."""
    names = ("pk", "team_id", "schedule_id", "nominal_at", "fired_at", "outcome")
    with database.cursor() as cursor:
        cursor.execute(INSERT, [[getattr(firing, name) for firing in firings] for name in names])
        kept = {row[0] for row in cursor.fetchall()}
    return [firing for firing in firings if firing.pk in kept]


def _start(firings: list[Firing], going: dict[UUID, list[Run]]) -> None:
    runs = []
    for firing in firings:
        before = going.setdefault(firing.schedule_id, [])
        if firing.outcome == Outcome.REPLACED:
            before[:] = [run for run in before if _still_goes(run, firing)]
        run = starting.fired_run(firing=firing)
        if firing.outcome != Outcome.STARTED and before:
            run.waits_for_id = before[-1].pk
        before.append(run)
        runs.append(run)
    starting.queue_fired(runs=runs)


def _still_goes(run: Run, firing: Firing) -> bool:
    """Stop a run, and say whether it is at work until it hears of that."""
    try:
        return not stopping.stop(run=run, actor=_actor(firing.schedule))
    except stopping.AlreadyOver:
        return False


def _event(firing: Firing) -> Entry:
    schedule = firing.schedule
    return Entry(
        "personas.schedule.fired",
        _actor(schedule),
        schedule.team_id,
        firing.fired_at,
        target=f"schedule:{schedule.pk}",
        target_name=schedule.flow.name,
        outcome=firing.outcome,
        details={"nominal_at": firing.nominal_at.isoformat()},
    )


def _actor(schedule: Schedule) -> Actor:
    return Actor("schedule", str(schedule.owner_id), schedule.owner.email)


# --- moving on --------------------------------------------------------------------------


def _move_on(schedules: Sequence[Schedule], last: dict[UUID, datetime], upcoming: due.Upcoming) -> list[Schedule]:
    """Set when each schedule fires next, and return those that have no further time."""
    over, moved = [], []
    for schedule in schedules:
        try:
            nominal = upcoming.after(schedule.rule, last[schedule.pk])
        except timing.Over:
            over.append(schedule)
        else:
            moved.append((schedule.pk, due.fires_at(schedule, nominal), nominal))
    _save(moved)
    return over


def _save(moved: Iterable[tuple[UUID, datetime, datetime]]) -> None:
    columns = [list(column) for column in zip(*moved, strict=True)]
    if columns:
        with database.cursor() as cursor:
            cursor.execute(MOVE_ON, columns)
