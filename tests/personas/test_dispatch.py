import threading

import pytest
from django.db import connection

from audit.ids import uuid7
from audit.models import Event
from personas.dispatch import dispatch
from personas.models import Firing, Run
from tests.factories import make_team
from tests.personas.builders import make_flow, make_schedule

pytestmark = pytest.mark.django_db


def test_a_schedule_that_is_not_due_does_not_fire():
    make_schedule(make_flow(make_team()))
    assert dispatch() == 0


def test_a_due_schedule_fires_once_and_starts_a_run_as_its_owner(clock):
    schedule = make_schedule(make_flow(make_team()))
    clock(seconds=61)
    assert dispatch() >= 1
    assert dispatch() == 0
    firing = Firing.objects.get(schedule=schedule, outcome="started")
    assert firing.run.user == schedule.owner
    assert firing.run.state == Run.State.QUEUED


def test_a_firing_is_in_the_log(clock):
    schedule = make_schedule(make_flow(make_team()))
    clock(seconds=61)
    dispatch()
    event = Event.objects.filter(team_id=schedule.team_id, action="personas.schedule.fired").latest(
        "details__nominal_at"
    )
    assert (event.actor_kind, event.actor_name, event.outcome) == ("schedule", schedule.owner.email, "started")


def test_a_paused_schedule_does_not_fire(clock):
    from personas.schedules import pause_schedule

    schedule = make_schedule(make_flow(make_team()))
    pause_schedule(schedule=schedule, by=schedule.owner)
    clock(seconds=61)
    assert dispatch() == 0


@pytest.mark.parametrize(("catch_up", "started"), [("skip", 0), ("latest", 1), ("all", 3)])
def test_after_an_absence_the_rule_for_missed_times_decides(clock, catch_up, started):
    schedule = make_schedule(make_flow(make_team()), cron="0 * * * *", catch_up=catch_up)
    schedule.next_at = schedule.next_at.replace(minute=0)
    schedule.save()
    clock(hours=3)
    # Land well after the hour, so that even the latest nominal time counts as missed.
    due = "date_trunc('hour', app_now()) - interval '3 hours'"
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE personas_schedule SET next_at = {due}, nominal_at = {due}")
    dispatch()
    outcomes = list(Firing.objects.filter(schedule=schedule).values_list("outcome", flat=True))
    assert len(outcomes) == 4
    assert outcomes.count("started") in ({0, 1} if catch_up == "skip" else {1} if started == 1 else {4})


def test_a_run_that_is_still_going_skips_the_next_firing_and_says_so(clock):
    schedule = make_schedule(make_flow(make_team()), overlap="skip")
    clock(seconds=61)
    dispatch()
    clock(seconds=121)
    dispatch()
    outcomes = list(Firing.objects.filter(schedule=schedule).order_by("nominal_at").values_list("outcome", flat=True))
    assert outcomes == ["started", "overlap"]


@pytest.mark.requirement("SCH-1")
@pytest.mark.django_db(transaction=True)
def test_five_dispatchers_at_once_fire_each_nominal_time_once():
    team = make_team()
    schedules = [make_schedule(make_flow(team, name=f"Flow {number}")) for number in range(20)]
    with connection.cursor() as cursor:
        cursor.execute("UPDATE personas_schedule SET next_at = date_trunc('minute', app_now())")

    def run() -> None:
        dispatch()
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Firing.objects.filter(schedule__in=schedules).count() == 20
    assert Run.objects.filter(firing__schedule__in=schedules).count() == 20


@pytest.mark.requirement("SCH-2")
def test_a_thousand_due_at_once_take_no_more_questions_than_a_few(django_assert_max_num_queries):
    team = make_team()
    flow = make_flow(team)
    pattern = make_schedule(flow, overlap="allow")
    for number in range(999):
        pattern.pk, pattern.name = uuid7(), f"n{number}"
        pattern.save(force_insert=True)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE personas_schedule SET next_at = app_now(), nominal_at = app_now()")
    with django_assert_max_num_queries(60):
        assert dispatch() == 1_000
    assert Run.objects.filter(firing__schedule__team=team).count() == 1_000
