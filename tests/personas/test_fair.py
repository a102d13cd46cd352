"""Whose turn it is: teams take turns, and none has more at work than it may."""

import threading
from collections import Counter

import pytest
from django.db import connection
from django.urls import reverse

from audit.models import Event
from personas import fair, queue, tasks
from personas.dispatch import dispatch
from personas.execution import work
from personas.leases import Lease
from personas.models import Flow, Run, TeamFlows
from personas.schedules import Wish, add_schedule
from personas.starting import start_run
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow

pytestmark = pytest.mark.django_db


@pytest.fixture
def flow() -> Flow:
    return make_flow(make_team())


def start(flow: Flow, **more) -> Run:
    return start_run(flow=flow, user=owner_of(flow.team), **more)


def start_many(flow: Flow, count: int) -> list[Run]:
    return [start(flow) for _ in range(count)]


def take() -> Run | None:
    """Take the run whose turn it is."""
    lease = fair.claim_next(owner="test")
    return lease and Run.objects.get(pk=lease.run_id)


def end(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(state="succeeded", finished_at=run.queued_at, lease_until=None)


def rules(flow: Flow, **what) -> None:
    TeamFlows.objects.update_or_create(team=flow.team, defaults=what)


# --- turns ------------------------------------------------------------------------------


@pytest.mark.requirement("RATE-5", "SCH-13")
def test_a_team_with_one_run_goes_next_however_long_the_line_of_another_is(flow):
    start_many(flow, 30)
    for _ in range(5):
        take()
    late = start(make_flow(make_team()))
    assert late in [take(), take()]


@pytest.mark.requirement("SCH-13")
def test_teams_that_wait_take_turns(flow):
    others = [flow, make_flow(make_team()), make_flow(make_team())]
    for each in others:
        start_many(each, 4)
    taken = [take().team_id for _ in range(12)]
    for round_of_turns in (taken[n : n + 3] for n in range(0, 12, 3)):
        assert Counter(round_of_turns) == {each.team_id: 1 for each in others}
    assert take() is None


def test_the_runs_of_a_team_go_in_the_order_in_which_they_were_queued(flow):
    runs = start_many(flow, 5)
    assert [take() for _ in runs] == runs


@pytest.mark.requirement("SCH-13")
def test_of_schedules_that_fire_together_each_team_has_its_turn(flow, clock):
    late = make_flow(make_team())
    wish = Wish(cron="* * * * *", zone="UTC", overlap="allow")
    for each in [*[flow] * 8, late]:
        add_schedule(flow=each, wish=wish, by=owner_of(each.team))
    clock(minutes=1)
    dispatch()
    assert Run.objects.count() == 9
    assert late.team_id in [take().team_id, take().team_id]


def test_a_hint_at_a_run_takes_the_one_whose_turn_it_is(flow):
    first, second = start_many(flow, 2)
    work(run_id=second.pk, owner="test")
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == (Run.State.SUCCEEDED, Run.State.QUEUED)


def test_what_was_begun_and_is_due_again_goes_before_what_was_queued_later(flow, clock):
    first, _ = start_many(flow, 2)
    assert take() == first
    clock(seconds=31)
    assert take() == first
    Run.objects.filter(pk=first.pk).update(state="parked", lease_until=None, parked_until=first.queued_at)
    assert take() == first


def test_what_waits_for_another_run_or_was_tried_too_often_is_passed_over(flow):
    first, second, third, fourth = start_many(flow, 4)
    Run.objects.filter(pk=first.pk).update(attempt=Run.MAX_ATTEMPTS)
    Run.objects.filter(pk=second.pk).update(waits_for=third)
    assert [take(), take(), take()] == [third, fourth, None]
    end(third)
    assert take() == second


# --- limits -----------------------------------------------------------------------------


def test_a_team_has_no_more_at_work_than_it_may_and_others_go_on(flow, settings):
    settings.RUNS_AT_ONCE = 2
    other = make_flow(make_team())
    start_many(flow, 4)
    start_many(other, 4)
    taken = [take() for _ in range(5)]
    assert Counter(run.team_id for run in taken if run) == {flow.team_id: 2, other.team_id: 2}
    end(taken[0])
    assert take().team_id == taken[0].team_id


def test_a_team_sets_how_many_of_its_runs_are_at_work_at_once(flow):
    rules(flow, most_at_once=1)
    first, second = start_many(flow, 2)
    assert (take(), take()) == (first, None)
    assert fair.why_waiting(second) == "1 run of this team is at work, which is as many as may be at once."
    rules(flow, most_at_once=2)
    assert fair.why_waiting(second) == ""
    assert take() == second


def test_a_flow_sets_how_many_of_its_runs_are_at_work_at_once_and_its_team_goes_on(flow):
    Flow.objects.filter(pk=flow.pk).update(most_at_once=1)
    flow.refresh_from_db()
    other = make_flow(flow.team, name="Other")
    first, second = start_many(flow, 2)
    third = start(other)
    assert [take(), take(), take()] == [first, third, None]
    assert fair.why_waiting(second) == "1 run of this flow is at work, which is as many as may be at once."


def test_a_lease_that_ran_out_counts_no_more(flow, clock):
    rules(flow, most_at_once=1)
    first, second = start_many(flow, 2)
    assert take() == first
    clock(seconds=31)
    assert take() == first
    end(first)
    assert take() == second


@pytest.mark.requirement("CRASH-3")
@pytest.mark.django_db(transaction=True)
def test_workers_that_ask_at_once_take_each_run_once_and_keep_the_limit(flow):
    rules(flow, most_at_once=5)
    start_many(flow, 8)
    taken: list[Lease | None] = []

    def ask() -> None:
        taken.extend(fair.claim_next(owner="test") for _ in range(3))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [lease.run_id for lease in taken if lease]
    assert len(found) == len(set(found)) == 5
    assert Run.objects.filter(state=Run.State.RUNNING).count() == 5


# --- hints ------------------------------------------------------------------------------


@pytest.fixture
def hints(monkeypatch) -> list[str]:
    sent: list[str] = []
    monkeypatch.setattr(queue, "_send", sent.extend)
    return sent


def test_whoever_ends_a_run_hints_at_the_next_one(flow, hints, django_capture_on_commit_callbacks):
    first, second = start_many(flow, 2)
    with django_capture_on_commit_callbacks(execute=True):
        tasks.work(run_id=str(first.pk))
    assert hints == [str(second.pk)]
    with django_capture_on_commit_callbacks(execute=True):
        tasks.work(run_id=hints.pop())
    assert hints == []


def test_a_long_line_needs_no_more_hints_than_there_are_threads(flow, hints, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        queue.hint_later(range(10_000))
    assert len(hints) == queue.MOST


# --- on pages ---------------------------------------------------------------------------


def test_members_set_limits_and_the_log_says_from_what_to_what(flow, client):
    client.force_login(owner_of(flow.team))
    pages = {
        "flow": (reverse("flow_at_once", args=[flow.team.slug, flow.slug]), "personas.flow.limited"),
        "team": (reverse("flows_at_once", args=[flow.team.slug]), "personas.flows.limited"),
    }
    for address, action in pages.values():
        for most in ("3", "3", "", "0", "1001", "x"):
            assert client.post(address, {"most": most}).status_code == 302
        events = Event.objects.filter(action=action).order_by("at").values_list("details", flat=True)
        assert list(events) == [{"from": None, "to": 3}, {"from": 3, "to": None}]
    assert (
        "Give a number from 1 to 1000, or none."
        in client.get(reverse("flow_list", args=[flow.team.slug])).content.decode()
    )


def test_pages_say_what_the_limits_are_and_that_a_run_waits_in_line(flow, client, clock):
    rules(flow, most_at_once=1)
    Flow.objects.filter(pk=flow.pk).update(most_at_once=2)
    take_all = start_many(flow, 2)
    take()
    clock(seconds=20)
    client.force_login(owner_of(flow.team))
    slug = flow.team.slug
    assert "At most 2 runs of this flow" in client.get(reverse("flow_detail", args=[slug, flow.slug])).content.decode()
    assert "at most 1 run at work" in client.get(reverse("schedule_calendar", args=[slug])).content.decode()
    said = client.get(reverse("run_detail", args=[slug, take_all[1].pk])).content.decode()
    assert "Waiting in line." in said and "1 run of this team is at work" in said
