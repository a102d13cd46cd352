import threading
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from celery import current_app
from django.db import connection

from audit.models import Content, Event
from personas import actions, dispatch, stopping, tasks
from personas.execution import work
from personas.leases import Lease, LeaseLost, claim, fenced
from personas.models import Run, StageRun
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow
from vault.content import open_content

pytestmark = pytest.mark.django_db


def start(flow, key=""):
    return actions.run_flow(flow=flow, by=owner_of(flow.team), idempotency_key=key or uuid4().hex)


def output_of(stage):
    return open_content(content=Content.objects.get(pk=stage.output_content_id)).decode()


def test_a_run_goes_through_its_stages_and_keeps_sealed_outputs():
    flow = make_flow(
        make_team(),
        [
            {"kind": "combine", "name": "one", "template": "for {{ input.flow }}"},
            {"kind": "combine", "name": "two", "template": "[{{ stage.one.output }}]"},
        ],
    )
    run = start(flow)
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    assert run.state == Run.State.SUCCEEDED
    assert [output_of(stage) for stage in run.stages.all()] == ["for Digest", "[for Digest]"]
    assert Event.objects.filter(run_id=run.pk, action="personas.run.succeeded").count() == 1


def test_the_same_form_sent_twice_starts_one_run():
    flow = make_flow(make_team())
    assert start(flow, "key-1") == start(flow, "key-1")
    assert Run.objects.count() == 1


def test_a_finished_run_is_not_worked_on_again():
    run = start(make_flow(make_team()))
    work(run_id=run.pk, owner="test")
    assert claim(run_id=run.pk, owner="other") is None


def test_a_run_at_work_belongs_to_one_worker_until_its_lease_ends(clock):
    run = start(make_flow(make_team()))
    assert claim(run_id=run.pk, owner="first").fence == 1
    assert claim(run_id=run.pk, owner="second") is None
    clock(seconds=31)
    assert claim(run_id=run.pk, owner="second").fence == 2


def test_a_worker_that_lost_its_lease_writes_nothing(clock):
    run = start(make_flow(make_team()))
    old = claim(run_id=run.pk, owner="first")
    clock(seconds=31)
    claim(run_id=run.pk, owner="second")
    with pytest.raises(LeaseLost), fenced(old):
        StageRun.objects.filter(run=run).update(failure="written by a ghost")
    assert not StageRun.objects.filter(failure="written by a ghost").exists()


def test_a_run_resumes_at_its_first_unfinished_stage(clock):
    flow = make_flow(
        make_team(),
        [{"kind": "combine", "name": name, "template": name} for name in ("one", "two")],
    )
    run = start(flow)
    work(run_id=run.pk, owner="first")
    first, second = run.stages.all()
    Run.objects.filter(pk=run.pk).update(state="running", finished_at=None, lease_until=None)
    StageRun.objects.filter(pk=second.pk).update(state="running", output_content_id=None)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE personas_run SET lease_until = app_now() - interval '1 second'")
    work(run_id=run.pk, owner="second")
    first_again, second_again = run.stages.all()
    assert first_again.output_content_id == first.output_content_id
    assert second_again.state == StageRun.State.DONE


def test_a_run_whose_workers_keep_dying_ends_with_a_reason(clock):
    run = start(make_flow(make_team()))
    for number in range(1, 4):
        assert claim(run_id=run.pk, owner=str(number))
        clock(seconds=31 * number)
    assert claim(run_id=run.pk, owner="fourth") is None
    tasks.sweep()
    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert "ended 3 times" in run.failure


@pytest.mark.requirement("CRASH-3")
@pytest.mark.django_db(transaction=True)
def test_the_same_message_ten_times_in_parallel_is_one_claim():
    run = start(make_flow(make_team()))
    claims = []

    def take() -> None:
        claims.append(claim(run_id=run.pk, owner=uuid4().hex))
        connection.close()

    threads = [threading.Thread(target=take) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found for found in claims if found] == [Lease(run.pk, 1)]


def test_a_lost_hint_is_repeated(clock):
    run = start(make_flow(make_team()))
    assert dispatch.sweep() == []
    clock(seconds=15)
    assert dispatch.sweep() == [run.pk]
    assert dispatch.sweep() == []


def test_a_hint_does_not_outlive_the_next_one(django_capture_on_commit_callbacks):
    with current_app.connection_for_write() as broker, broker.SimpleQueue("calls") as hints:
        with django_capture_on_commit_callbacks(execute=True):
            run = start(make_flow(make_team()))
        said = iter(lambda: hints.get(timeout=5), None)
        hint = next(hint for hint in said if hint.payload[1] == {"run_id": str(run.pk)})
    lives = datetime.fromisoformat(hint.headers["expires"]) - datetime.now(UTC)
    assert 0 < lives.total_seconds() <= 60


def test_a_waiting_run_is_stopped_at_once():
    run = start(make_flow(make_team()))
    actions.stop_run(run=run, by=run.user)
    run.refresh_from_db()
    assert run.state == Run.State.STOPPED
    assert claim(run_id=run.pk, owner="late") is None


def test_a_run_at_work_stops_before_its_next_stage():
    run = start(make_flow(make_team()))
    Run.objects.filter(pk=run.pk).update(stop_wanted_at=run.queued_at)
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    assert run.state == Run.State.STOPPED
    assert run.stages.get().state == StageRun.State.SKIPPED


def test_a_finished_run_cannot_be_stopped():
    run = start(make_flow(make_team()))
    work(run_id=run.pk, owner="test")
    with pytest.raises(stopping.AlreadyOver):
        actions.stop_run(run=run, by=run.user)


@pytest.mark.requirement("CRASH-8")
def test_a_hint_for_a_run_that_does_not_exist_does_nothing():
    tasks.work(run_id=str(uuid4()))
