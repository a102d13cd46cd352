"""Runs that a member pauses: nothing of them is asked until they are resumed, and nothing is lost."""

import pytest

from audit.models import Event
from personas import actions, execution, pausing, stopping
from personas.execution import work
from personas.leases import claim
from personas.models import Run
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow

pytestmark = pytest.mark.django_db

STAGES = [{"kind": "combine", "name": name, "template": "Text"} for name in ("one", "two")]


@pytest.fixture
def run(db) -> Run:
    team = make_team()
    return actions.run_flow(flow=make_flow(team, STAGES), by=owner_of(team), idempotency_key="first")


def pause(run: Run) -> Run:
    pausing.pause_run(run=run, by=owner_of(run.team))
    return now(run)


def resume(run: Run) -> Run:
    pausing.resume_run(run=run, by=owner_of(run.team))
    return now(run)


def now(run: Run) -> Run:
    run.refresh_from_db()
    return run


def states(run: Run) -> list[str]:
    return list(run.stages.values_list("state", flat=True))


def told(run: Run) -> list[str]:
    return list(Event.objects.filter(run_id=run.pk).order_by("id").values_list("action", flat=True))


def test_a_paused_run_is_nobodys_until_it_is_resumed(run, clock):
    assert pause(run).state == "parked"
    clock(days=3)
    assert claim(run_id=run.pk, owner="test") is None

    resume(run)
    work(run_id=run.pk, owner="test")
    assert (now(run).state, run.paused_at) == ("succeeded", None)


def test_a_run_at_work_waits_before_its_next_stage_and_keeps_the_one_it_did(run, monkeypatch):
    did = execution.perform

    def pauses_meanwhile(*given):
        pausing.pause_run(run=run, by=run.user)
        return did(*given)

    monkeypatch.setattr(execution, "perform", pauses_meanwhile)
    work(run_id=run.pk, owner="test")
    monkeypatch.undo()
    assert (now(run).state, run.attempt, states(run)) == ("parked", 0, ["done", "waiting"])

    resume(run)
    work(run_id=run.pk, owner="test")
    assert (now(run).state, states(run)) == ("succeeded", ["done", "done"])


def test_a_run_that_is_resumed_before_its_worker_saw_the_pause_goes_on(run):
    lease = claim(run_id=run.pk, owner="test")
    pause(run)
    resume(run)
    execution.ending.pause(lease)

    assert claim(run_id=run.pk, owner="other") is not None


def test_a_paused_run_is_stopped_like_any_that_waits(run):
    pause(run)
    actions.stop_run(run=run, by=run.user)
    assert now(run).state == "stopped"
    assert resume(run).state == "stopped"


def test_a_run_that_is_over_cannot_be_paused(run):
    work(run_id=run.pk, owner="test")
    with pytest.raises(stopping.AlreadyOver):
        pause(run)


def test_two_tabs_pause_and_resume_once(run):
    for deed in (pause, pause, resume, resume):
        deed(run)
    assert told(run) == ["personas.run.queued", "personas.run.paused", "personas.run.resumed"]
