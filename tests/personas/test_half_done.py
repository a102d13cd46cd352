"""Nothing is left half-done: a run that is stopped, parked, given up or cannot be read ends with all its stages."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import OperationalError

from audit.clock import AppNow, app_now
from audit.models import Content, Event
from integrations.errors import NotReady
from personas import actions, attempts, dispatch, ending, execution, leases, starting, tasks
from personas.ending import give_up_on
from personas.execution import Parked, work
from personas.leases import Keeper, Lease, LeaseLost, claim
from personas.models import Firing, FlowVersion, Persona, Run, Schedule, StageRun
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow, make_persona, make_schedule

pytestmark = pytest.mark.django_db
TWO = [{"kind": "combine", "name": name, "template": name} for name in ("one", "two")]


def queued(stages: list[dict] | None = None) -> Run:
    """A run that waits for a worker."""
    flow = make_flow(make_team(), stages or TWO)
    return actions.run_flow(flow=flow, by=owner_of(flow.team), idempotency_key=uuid4().hex)


def states(run: Run) -> list[str]:
    """What became of the run, then of each of its stages."""
    run.refresh_from_db()
    return [run.state, *run.stages.values_list("state", flat=True)]


def actions_of(run: Run) -> list[str]:
    return list(
        Event.objects.filter(team_id=run.team_id, target=f"run:{run.pk}")
        .order_by("at", "id")
        .values_list("action", flat=True)
    )


def park(run: Run) -> None:
    """Make the run wait for a rate limit in its first stage, as a worker would."""
    lease = claim(run_id=run.pk, owner="test")
    ending.park(run, run.stages.first(), lease, 600)


# --- stopping ---------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [lambda run: None, park], ids=["queued", "parked"])
def test_stopping_a_run_that_waits_ends_its_stages_too(wait):
    run = queued()
    wait(run)
    actions.stop_run(run=run, by=run.user)
    assert states(run) == ["stopped", "skipped", "skipped"]
    assert actions_of(run) == ["personas.run.queued", "personas.run.stopped"]


def test_asking_twice_to_stop_a_run_at_work_is_one_entry():
    run = queued()
    claim(run_id=run.pk, owner="test")
    actions.stop_run(run=run, by=run.user)
    actions.stop_run(run=run, by=run.user)
    assert actions_of(run) == ["personas.run.queued", "personas.run.stop_asked"]


def test_a_run_stopped_before_it_parks_does_not_wait():
    run = queued()
    lease = claim(run_id=run.pk, owner="test")
    actions.stop_run(run=run, by=run.user)
    ending.park(run, run.stages.first(), lease, 600)

    work(run_id=run.pk, owner="next")

    assert states(run) == ["stopped", "skipped", "skipped"]


# --- waiting for a rate limit -----------------------------------------------------------


@pytest.fixture
def always_busy(monkeypatch):
    """Every stage finds its models rate limited."""

    def busy(*given):
        raise Parked(30)

    monkeypatch.setattr(execution, "perform", busy)


@pytest.mark.usefixtures("always_busy")
def test_a_run_that_waited_long_for_a_worker_still_parks(clock):
    run = queued()
    clock(hours=3)
    work(run_id=run.pk, owner="test")
    assert states(run) == ["parked", "waiting", "waiting"]


@pytest.mark.usefixtures("always_busy")
def test_a_stage_that_was_rate_limited_for_an_hour_fails(clock):
    run = queued()
    work(run_id=run.pk, owner="test")
    clock(minutes=30)
    work(run_id=run.pk, owner="test")
    assert states(run) == ["parked", "waiting", "waiting"]
    clock(minutes=61)
    work(run_id=run.pk, owner="test")
    assert states(run) == ["failed", "failed", "skipped"]
    assert "for an hour" in run.failure


# --- giving up --------------------------------------------------------------------------


def test_a_run_whose_worker_died_after_its_last_stage_has_succeeded(clock):
    run = queued()
    work(run_id=run.pk, owner="test")
    Run.objects.filter(pk=run.pk).update(
        state="running", finished_at=None, attempt=Run.MAX_ATTEMPTS, lease_until=AppNow() - timedelta(seconds=1)
    )
    tasks.sweep()
    assert states(run) == ["succeeded", "done", "done"]


def test_a_run_that_somebody_else_ended_is_not_given_up():
    run = queued()
    claim(run_id=run.pk, owner="test")
    run.refresh_from_db()
    Run.objects.filter(pk=run.pk).update(fence=run.fence + 1)
    give_up_on(run=run)
    assert states(run) == ["running", "waiting", "waiting"]


# --- what cannot be done ----------------------------------------------------------------


def test_an_archived_persona_works_no_more():
    persona = make_persona(make_team())
    stage = {"kind": "prompt", "name": "one", "persona": str(persona.pk), "template": "Hello"}
    flow = make_flow(persona.team, [stage])
    run = actions.run_flow(flow=flow, by=persona.created_by, idempotency_key="")
    Persona.objects.filter(pk=persona.pk).update(archived_at=app_now())
    work(run_id=run.pk, owner="test")
    assert states(run) == ["failed", "failed"]
    assert run.failure == "Writer is archived. Choose another persona for this stage."


def test_an_output_that_cannot_be_opened_fails_the_stage_that_needs_it():
    run = queued([TWO[0], {"kind": "combine", "name": "two", "template": "{{ stage.one.output }}"}])
    work(run_id=run.pk, owner="test")
    first, second = run.stages.all()
    moved = Content.objects.get(pk=first.output_content_id)
    moved.pk = uuid4()  # a ciphertext that stands in another row's place opens nowhere
    moved.save(force_insert=True)
    StageRun.objects.filter(pk=first.pk).update(output_content_id=moved.pk)
    StageRun.objects.filter(pk=second.pk).update(state="waiting", output_content_id=None)
    Run.objects.filter(pk=run.pk).update(state="queued", finished_at=None)
    work(run_id=run.pk, owner="test")
    assert states(run) == ["failed", "done", "failed"]
    assert "Run it again" in run.failure


def test_a_long_reason_is_cut_to_what_its_column_holds(monkeypatch):
    def fail(*given):
        raise execution.StageFailed("long " * 1000)

    monkeypatch.setattr(execution, "perform", fail)
    run = queued()
    work(run_id=run.pk, owner="test")
    assert states(run) == ["failed", "failed", "skipped"]
    assert len(run.failure) == Run.LONGEST_FAILURE


@pytest.mark.parametrize("wait", ["soon", None, [], {}])
def test_a_wait_that_is_no_number_is_refused_by_the_tool_and_ends_the_run(wait):
    persona = make_persona(make_team())
    arguments = {"id": "gen-1", "max_wait_seconds": wait}
    stage = {
        "kind": "tool",
        "name": "one",
        "persona": str(persona.pk),
        "tool": "get_generation",
        "arguments": arguments,
    }
    flow = make_flow(persona.team, [stage])
    run = actions.run_flow(flow=flow, by=persona.created_by, idempotency_key="")
    work(run_id=run.pk, owner="test")
    assert states(run) == ["failed", "failed"]


def test_a_record_that_is_not_waited_for_is_asked_for_once(monkeypatch):
    asked = []

    def not_yet(**call):
        asked.append(call)
        raise NotReady("Not there yet.")

    monkeypatch.setattr(attempts, "call_tool", not_yet)
    run = queued()
    claim(run_id=run.pk, owner="test")
    run.refresh_from_db()
    with pytest.raises(NotReady):
        attempts.call_once(run, None, "get_generation", {"id": "gen-1", "wait": False}, None)
    assert len(asked) == 1


# --- schedules --------------------------------------------------------------------------


def test_a_schedule_that_cannot_be_read_is_paused_and_stops_no_other(clock):
    team = make_team()
    broken_rule, broken_flow, sound = (make_schedule(make_flow(team, name=name)) for name in ("Rule", "Flow", "Sound"))
    Schedule.objects.filter(pk=broken_rule.pk).update(zone="Atlantis/Capital")
    FlowVersion.objects.filter(flow=broken_flow.flow).update(stages=[{"kind": "dance"}])
    clock(seconds=61)

    dispatch.dispatch()

    fired = Run.objects.filter(team=team).values_list("firing__schedule", flat=True)
    assert set(fired) == {sound.pk}
    paused = Event.objects.filter(team_id=team.pk, action="personas.schedule.paused")
    assert set(paused.values_list("target", flat=True)) == {f"schedule:{broken_rule.pk}", f"schedule:{broken_flow.pk}"}
    assert set(Schedule.objects.active().filter(team=team)) == {sound}


# --- leases -----------------------------------------------------------------------------


def test_the_keeper_outlives_a_database_that_is_away(monkeypatch):
    rounds, enough = [], threading.Event()

    def away(lease):
        rounds.append(lease)
        if len(rounds) == 2:
            enough.set()
        raise OperationalError("the database is away")

    monkeypatch.setattr(leases, "renew", away)
    monkeypatch.setattr(leases, "RENEW_EVERY", 0.01)
    with Keeper().keeping(Lease(uuid4(), 1)):
        assert enough.wait(5)


def test_an_ended_run_refuses_what_its_worker_still_writes():
    run = queued()
    lease = claim(run_id=run.pk, owner="test")
    Run.objects.filter(pk=run.pk).update(state="stopped", finished_at=app_now())
    with pytest.raises(LeaseLost), leases.fenced(lease):
        raise AssertionError("nothing may be written here")


class Cancelled(Exception):
    """What a database says that was there and refused."""

    sqlstate = "57014"


def unreachable(*_args, **_more):
    raise OperationalError("no connection within 10 s")


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_for_a_moment_costs_no_attempt(monkeypatch):
    run = queued()
    with monkeypatch.context() as patch:
        patch.setattr(execution, "perform", unreachable)
        for _ in range(2 * Run.MAX_ATTEMPTS):
            with pytest.raises(OperationalError):
                work(run_id=run.pk, owner="test")
            Run.objects.filter(pk=run.pk).update(lease_until=app_now() - timedelta(seconds=1))
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("running", 0)
    work(run_id=run.pk, owner="test")
    assert states(run) == ["succeeded", "done", "done"]


def test_an_attempt_counts_while_the_database_stays_away_and_where_it_refused(monkeypatch):
    run = queued()
    lease = claim(run_id=run.pk, owner="test")
    monkeypatch.setattr(leases, "GIVE_BACK_AFTER", (0.0, 0.0))
    with monkeypatch.context() as patch:
        patch.setattr(leases.Run.objects, "filter", unreachable)
        leases.give_back(lease)
    run.refresh_from_db()
    assert run.attempt == 1
    refused = OperationalError("canceling statement due to statement timeout")
    refused.__cause__ = Cancelled()
    assert not leases.is_away(refused)
    leases.give_back(Lease(run.pk, lease.fence - 1))  # lost meanwhile: nothing of it is ours
    run.refresh_from_db()
    assert run.attempt == 1


# --- one that cannot be dealt with ------------------------------------------------------


def test_a_schedule_that_fails_in_a_new_way_is_paused_named_and_in_nobodys_way(clock, monkeypatch, caplog):
    team = make_team()
    poisoned, sound = (make_schedule(make_flow(team, name=name)) for name in ("Poisoned", "Sound"))
    fired = starting.fired_run

    def fire(*, firing):
        if firing.schedule_id == poisoned.pk:
            raise ZeroDivisionError("nobody thought of this")
        return fired(firing=firing)

    monkeypatch.setattr(starting, "fired_run", fire)
    clock(seconds=61)
    dispatch.dispatch()
    assert set(Run.objects.filter(team=team).values_list("firing__schedule", flat=True)) == {sound.pk}
    assert set(Schedule.objects.active().filter(team=team)) == {sound}
    event = Event.objects.get(team_id=team.pk, action="personas.schedule.paused")
    assert "fault of ours" in event.details["reason"]
    assert not Firing.objects.filter(schedule=poisoned).exists()
    assert f"personas.schedule:{poisoned.pk}" in caplog.text and "ZeroDivisionError" in caplog.text


def test_a_dispatcher_without_a_database_pauses_nothing(clock, monkeypatch):
    schedule = make_schedule(make_flow(make_team()))
    monkeypatch.setattr(starting, "fired_run", lambda **_: unreachable())
    clock(seconds=61)
    with pytest.raises(OperationalError):
        dispatch.dispatch()
    assert Schedule.objects.active().filter(pk=schedule.pk).exists()


@pytest.mark.requirement("CRASH-6")
def test_a_run_that_cannot_be_given_up_does_not_keep_the_others_from_it(monkeypatch, caplog):
    poisoned, sound = queued(), queued()
    ended = {"state": "running", "lease_until": app_now() - timedelta(seconds=1), "attempt": Run.MAX_ATTEMPTS}
    Run.objects.filter(pk__in=[poisoned.pk, sound.pk]).update(**ended)
    given_up = ending.give_up_on

    def give_up(*, run):
        if run.pk == poisoned.pk:
            raise ZeroDivisionError
        given_up(run=run)

    monkeypatch.setattr(ending, "give_up_on", give_up)
    tasks.sweep()
    assert (states(poisoned)[0], states(sound)[0]) == ("running", "failed")
    assert f"personas.run:{poisoned.pk}" in caplog.text
