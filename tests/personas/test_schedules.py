"""What members do with schedules, and what the dispatcher makes of it."""

from datetime import timedelta

import pytest
from django.db import connection

from audit.clock import AppNow, app_now
from audit.models import Event
from personas import firing, schedules, starting
from personas.dispatch import dispatch
from personas.leases import claim
from personas.models import Firing, Run, Schedule, StageRun, TeamFlows
from personas.stages import BadInput
from personas.timing import BadRule
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow

pytestmark = pytest.mark.django_db


@pytest.fixture
def flow():
    return make_flow(make_team())


def add(flow, **wish) -> Schedule:
    """A schedule whose own time comes next year, unless it is told otherwise."""
    wish = {"zone": "UTC", "cron": "0 0 1 1 *", "overlap": "allow"} | wish
    return schedules.add_schedule(flow=flow, wish=schedules.Wish(**wish), by=owner_of(flow.team))


def make_due(schedule: Schedule, **ago: int) -> None:
    at = AppNow() - timedelta(**(ago or {"seconds": 1}))
    Schedule.objects.filter(pk=schedule.pk).update(next_at=at, nominal_at=at)


def came_of(schedule: Schedule) -> list[str]:
    return list(Firing.objects.filter(schedule=schedule).order_by("nominal_at").values_list("outcome", flat=True))


def newest_run(schedule: Schedule) -> Run:
    return Run.objects.filter(firing__schedule=schedule).order_by("-id").first()


# --- rules ------------------------------------------------------------------------------


def test_a_flow_has_several_schedules_and_each_fires_by_its_own_rule(flow):
    now = app_now()
    once = add(flow, name="Once", kind="once", starts_at=now + timedelta(hours=1))
    often = add(flow, name="Often", kind="every", every_seconds=90)
    assert once.next_at == now + timedelta(hours=1)
    assert often.next_at == often.starts_at + timedelta(seconds=90)
    assert flow.schedules.count() == 2


@pytest.mark.parametrize(
    "wish",
    [
        {"kind": "every", "every_seconds": 9},
        {"kind": "once", "starts_at": None},
        {"zone": "Mars/Olympus"},
        {"cron": "0 0 30 2 *"},
    ],
)
def test_a_rule_that_cannot_be_used_is_refused(flow, wish):
    with pytest.raises(BadRule):
        add(flow, **wish)
    assert not flow.schedules.exists()


@pytest.mark.requirement("SCH-12")
def test_a_flow_and_a_team_have_only_so_many_schedules(flow, monkeypatch):
    add(flow)
    for bound in ("MOST_OF_FLOW", "MOST_OF_TEAM"):
        with monkeypatch.context() as patch:
            patch.setattr(schedules, bound, 1)
            with pytest.raises(schedules.TooMany):
                add(flow)


def test_a_schedule_that_fires_once_is_over_afterwards(flow, clock):
    schedule = add(flow, kind="once", starts_at=app_now() + timedelta(minutes=1))
    clock(seconds=61)
    assert dispatch() == 1
    schedule.refresh_from_db()
    assert schedule.paused_at
    assert schedule.paused_why == "Its last time has come."
    with pytest.raises(BadRule, match="is over"):
        schedules.resume_schedule(schedule=schedule, by=schedule.owner)


@pytest.mark.requirement("SCH-10")
def test_jitter_moves_when_it_fires_and_not_its_nominal_time(flow, clock):
    schedule = add(flow, cron="0 * * * *", jitter_seconds=600)
    assert schedule.nominal_at <= schedule.next_at < schedule.nominal_at + timedelta(minutes=10)
    clock(hours=1, minutes=11)
    dispatch()
    assert set(Firing.objects.filter(schedule=schedule).values_list("nominal_at__minute", flat=True)) == {0}
    schedule.refresh_from_db()
    assert schedule.nominal_at.minute == 0


# --- dispatch ---------------------------------------------------------------------------


def test_what_is_queued_waits_for_the_newest_run_and_what_replaces_stops_it(flow):
    schedule = add(flow, overlap="queue")
    runs = []
    for ago in (40, 30, 20):
        make_due(schedule, seconds=ago)
        dispatch()
        runs.append(newest_run(schedule))
    assert came_of(schedule) == ["started", "queued", "queued"]
    assert [run.waits_for for run in runs] == [None, *runs[:2]]
    assert claim(run_id=runs[1].pk, owner="early") is None
    assert set(Run.objects.claimable().filter(team=flow.team)) == {runs[0]}

    Run.objects.filter(pk=runs[0].pk).update(state=Run.State.RUNNING)
    Schedule.objects.filter(pk=schedule.pk).update(overlap="replace")
    make_due(schedule, seconds=10)
    dispatch()
    last = newest_run(schedule)
    runs = [Run.objects.get(pk=run.pk) for run in runs]
    assert came_of(schedule)[-1] == "replaced"
    assert [run.state for run in runs] == ["running", "stopped", "stopped"]
    assert runs[0].stop_wanted_at
    Run.objects.filter(pk=runs[0].pk).update(state=Run.State.STOPPED, finished_at=app_now())
    assert set(Run.objects.claimable().filter(team=flow.team)) == {last}
    assert last.waits_for == runs[0]
    said = Event.objects.filter(run_id=None, team_id=flow.team_id, action="personas.run.stopped")
    assert {event.actor_kind for event in said} == {"schedule"}


def test_many_that_are_due_become_runs_with_stages_and_events_in_one_go(flow):
    made = [add(flow, name=str(number)) for number in range(5)]
    for schedule in made:
        make_due(schedule)
    assert dispatch() == 5
    runs = Run.objects.filter(firing__schedule__in=made)
    assert {(run.state, run.trigger, run.user) for run in runs} == {("queued", "schedule", made[0].owner)}
    assert StageRun.objects.filter(run__in=runs, state="waiting").count() == 5
    assert Event.objects.filter(action="personas.run.queued", run_id__in=[run.pk for run in runs]).count() == 5
    assert Event.objects.filter(action="personas.schedule.fired", team_id=flow.team_id).count() == 5


def test_one_that_cannot_be_fired_keeps_none_of_the_others_back(flow):
    good, bad = add(flow, name="good"), add(flow, name="bad")
    make_due(good)
    make_due(bad)
    Schedule.objects.filter(pk=bad.pk).update(cron="not a rule")
    dispatch()
    bad.refresh_from_db()
    assert came_of(good) == ["started"]
    assert came_of(bad) == []
    assert "cron rule" in bad.paused_why


@pytest.mark.requirement("SCH-7")
@pytest.mark.parametrize("step", [{"hours": 1}, {"days": 1}])
def test_a_clock_that_steps_forth_and_back_fires_no_time_twice(flow, clock, step):
    schedule = add(flow, cron="*/10 * * * *", catch_up="all")
    clock(**step)
    dispatch()
    fired = came_of(schedule)
    clock(minutes=-10)
    assert dispatch() == 0
    Schedule.objects.filter(pk=schedule.pk).update(next_at=app_now(), nominal_at=schedule.nominal_at)  # restored
    clock(**step)
    dispatch()
    assert came_of(schedule) == fired
    assert len(fired) == Run.objects.filter(firing__schedule=schedule).count() > 5


def test_a_run_is_given_what_its_schedule_holds_and_the_rest_by_default(flow):
    flow.version.inputs = [{"name": "topic", "default": "news"}, {"name": "tone", "default": "dry"}]
    flow.version.save()
    schedule = add(flow, inputs={"topic": "whales"})
    make_due(schedule)
    dispatch()
    run = newest_run(schedule)
    assert run.inputs_id != schedule.inputs_id
    assert starting.kept_inputs(schedule) == {"topic": "whales"}
    with pytest.raises(BadInput):
        add(flow, inputs={"colour": "red"})


def test_a_schedule_whose_flow_takes_its_input_no_more_is_paused_and_says_why(flow):
    flow.version.inputs = [{"name": "topic"}]
    flow.version.save()
    schedule = add(flow, inputs={"topic": "whales"})
    flow.version.inputs = [{"name": "theme"}]
    flow.version.save()
    make_due(schedule)
    assert dispatch() == 0
    schedule.refresh_from_db()
    assert "topic" in schedule.paused_why


# --- pauses -----------------------------------------------------------------------------


def test_a_pause_until_a_time_ends_by_itself_and_what_it_skipped_is_recorded(flow, clock):
    schedule = add(flow, cron="0 * * * *", catch_up="all")
    until = schedule.next_at + timedelta(hours=1, minutes=30)
    schedules.pause_schedule(schedule=schedule, by=schedule.owner, until=until, why="Holidays")
    clock(hours=2)
    assert dispatch() == 0
    schedule.refresh_from_db()
    assert schedule.is_paused_at(until - timedelta(seconds=1))
    clock(hours=3, minutes=1)
    dispatch()
    schedule.refresh_from_db()
    assert came_of(schedule) == ["paused", "paused", "started"]
    assert schedule.paused_until is None


def test_a_pause_that_is_ended_early_records_what_it_skipped_and_fires_the_next(flow, clock):
    schedule = add(flow, cron="0 * * * *")
    for until in (None, app_now() + timedelta(days=9)):
        schedules.pause_schedule(schedule=schedule, by=schedule.owner, until=until)
    clock(hours=2)
    schedules.resume_schedule(schedule=schedule, by=schedule.owner)
    assert came_of(schedule) == ["paused", "paused"]
    schedule.refresh_from_db()
    assert schedule.paused_at is None
    assert schedule.next_at > app_now()
    assert dispatch() == 0


def test_a_team_pauses_all_and_what_is_skipped_is_recorded_up_to_a_bound(flow, clock, monkeypatch):
    schedule, by = add(flow, cron="* * * * *", catch_up="all"), owner_of(flow.team)
    schedules.pause_all(team=flow.team, by=by, why="Audit week")
    schedules.pause_all(team=flow.team, by=by, why="twice")
    monkeypatch.setattr(firing, "MOST_PAUSED", 2)
    clock(seconds=61)
    dispatch()
    for later in (121, 181, 241):
        clock(seconds=later)
        dispatch()
    assert came_of(schedule) == ["paused", "paused"]
    assert not Run.objects.filter(team=flow.team).exists()

    schedules.resume_all(team=flow.team, by=by)
    schedules.resume_all(team=flow.team, by=by)
    clock(seconds=301)
    dispatch()
    assert came_of(schedule) == ["paused", "paused", "started"]
    said = Event.objects.filter(team_id=flow.team_id, action__startswith="personas.schedules.").order_by("at")
    assert [(event.action.rpartition(".")[2], event.details) for event in said] == [
        ("paused", {"reason": "Audit week"}),
        ("resumed", {}),
    ]
    assert TeamFlows.objects.get(team=flow.team).schedules_paused_by is None


def test_a_pause_of_one_team_is_none_of_another(flow):
    theirs = add(make_flow(make_team()))
    schedules.pause_all(team=flow.team, by=owner_of(flow.team), why="")
    make_due(theirs)
    dispatch()
    assert came_of(theirs) == ["started"]


# --- deleting ---------------------------------------------------------------------------


def test_a_schedule_is_deleted_when_its_runs_are_over_and_they_stay(flow):
    schedule = add(flow)
    make_due(schedule)
    dispatch()
    run = newest_run(schedule)
    with pytest.raises(schedules.StillGoing):
        schedules.delete_schedule(schedule=schedule, by=schedule.owner)
    Run.objects.filter(pk=run.pk).update(state=Run.State.SUCCEEDED, finished_at=app_now())
    schedules.delete_schedule(schedule=schedule, by=schedule.owner)
    assert not flow.schedules.exists()
    run.refresh_from_db()
    assert (run.firing, run.trigger) == (None, "schedule")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
