"""People and the clock at one schedule at once. After a change commits, the old rule starts nothing."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connection, transaction

from audit.clock import AppNow, app_now
from personas import actions, schedules
from personas.dispatch import dispatch
from personas.models import Firing, Flow, Persona, Run, Schedule
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow, make_persona, make_schedule

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("SCH-9")]
SECONDS = 10
threads = ThreadPoolExecutor(4)


def elsewhere(deed: Callable[[], object]) -> Future:
    """Do something in another thread, with a database connection of its own."""

    def run() -> None:
        try:
            deed()
        finally:
            connection.close()

    return threads.submit(run)


def waits(future: Future) -> bool:
    """Say whether it is still busy after a while: it stands before somebody's lock."""
    return not wait([future], 0.3).done


@contextmanager
def held_open(deed: Callable[[], object]) -> Iterator[None]:
    """Do something in another thread, whose transaction stays open for the length of the block."""
    done, may_commit = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            deed()
            done.set()
            may_commit.wait(SECONDS)

    holder = elsewhere(hold)
    assert done.wait(SECONDS)
    try:
        yield
    finally:
        may_commit.set()
        holder.result(SECONDS)


@pytest.fixture
def schedule() -> Schedule:
    """A schedule that is due now."""
    schedule = make_schedule(make_flow(make_team()))
    make_due(schedule)
    return Schedule.objects.select_related("flow", "team").get(pk=schedule.pk)


def make_due(schedule: Schedule) -> None:
    Schedule.objects.filter(pk=schedule.pk).update(next_at=AppNow() - timedelta(seconds=1))


def pause(schedule: Schedule) -> None:
    schedules.pause_schedule(schedule=schedule, by=schedule.owner)


def edit(schedule: Schedule) -> None:
    """Move it to the first of January."""
    given = {"zone": "UTC", "catch_up": "latest", "overlap": "allow"}
    schedules.set_schedule(flow=schedule.flow, cron="0 0 1 1 *", by=schedule.owner, **given)


def delete(schedule: Schedule) -> None:
    """No page deletes yet; the rows allow it as long as nothing came of the schedule."""
    Schedule.objects.filter(pk=schedule.pk).delete()


def started(schedule: Schedule) -> int:
    return Run.objects.filter(firing__schedule=schedule).count()


@pytest.mark.parametrize("change", [pause, edit, delete])
def test_a_tick_during_a_change_starts_nothing_and_waits_for_nobody(schedule, change):
    with held_open(lambda: change(schedule)):
        assert dispatch() == 0
    assert dispatch() == 0
    assert started(schedule) == 0


@pytest.mark.parametrize("change", [pause, edit])
def test_a_change_during_a_tick_commits_after_what_the_tick_started(schedule, change):
    with held_open(dispatch):
        changer = elsewhere(lambda: change(schedule))
        assert waits(changer)
        assert started(schedule) == 0  # nothing of the tick can be seen yet
    changer.result(SECONDS)

    assert started(schedule) == 1
    assert dispatch() == 0
    schedule.refresh_from_db()
    assert schedule.paused_at or schedule.next_at > app_now()


@pytest.mark.parametrize("change", [pause, edit])
def test_ticks_that_race_with_a_change_start_nothing_after_it(schedule, change):
    over = threading.Event()

    def tick() -> None:
        while not over.is_set():
            dispatch()

    tickers = [elsewhere(tick) for _ in range(2)]
    for _ in range(5):
        make_due(schedule)
        change(schedule)
        after = started(schedule)
        schedules.resume_schedule(schedule=schedule, by=schedule.owner) if change is pause else None
        assert started(schedule) == after
    over.set()

    for ticker in tickers:
        ticker.result(SECONDS)
    nominal = list(Firing.objects.filter(schedule=schedule).values_list("nominal_at", flat=True))
    assert len(nominal) == len(set(nominal))


def test_a_manual_run_and_a_tick_neither_wait_nor_replace_each_other(schedule):
    by = schedule.owner
    with held_open(dispatch):
        manual = elsewhere(lambda: actions.run_flow(flow=schedule.flow, by=by, idempotency_key="by hand"))
        manual.result(SECONDS)

    assert started(schedule) == 1
    assert Run.objects.filter(flow=schedule.flow, firing=None).count() == 1


def test_two_tabs_that_set_the_first_schedule_make_one():
    flow = make_flow(make_team())
    by = owner_of(flow.team)
    rule = {"zone": "UTC", "catch_up": "latest", "overlap": "allow", "by": by}

    with held_open(lambda: schedules.set_schedule(flow=flow, cron="0 6 * * *", **rule)):
        second = elsewhere(lambda: schedules.set_schedule(flow=flow, cron="0 7 * * *", **rule))
        assert waits(second)
    second.result(SECONDS)

    assert [schedule.cron for schedule in flow.schedules.all()] == ["0 7 * * *"]


@pytest.mark.parametrize(("make", "rows"), [(make_persona, Persona), (make_flow, Flow)])
def test_two_tabs_that_make_a_thing_of_one_name_make_two_slugs(make, rows):
    team = make_team()

    with held_open(lambda: make(team, name="Twin")):
        second = elsewhere(lambda: make(team, name="Twin"))
        assert waits(second)
    second.result(SECONDS)

    assert set(rows.objects.filter(team=team).values_list("slug", flat=True)) == {"twin", "twin-2"}


@pytest.mark.parametrize(("make", "rows"), [(make_persona, Persona), (make_flow, Flow)])
def test_no_thing_stands_where_the_page_to_make_one_is(make, rows):
    make(make_team(), name="New")
    assert rows.objects.get(name="New").slug == "new-2"
