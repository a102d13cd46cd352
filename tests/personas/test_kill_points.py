"""SIGKILL at each named point of a stage and of a dispatcher: nothing is lost, doubled or half done."""

import threading
from datetime import timedelta

import pytest

from accounts.models import CreditAccount
from audit.clock import app_now
from audit.models import Content, Event
from integrations.models import Call
from personas import dispatch, quitting, stage_rows
from personas.execution import work
from personas.models import Firing, Run, StageRun
from tests.dying import Point, die_at, frozen_at
from tests.factories import make_team
from tests.personas.builders import make_flow, make_schedule
from tests.personas.flowing import MODEL, combine, fault, go, make_desk, make_writer, prompt, start, told

pytestmark = pytest.mark.django_db(transaction=True)

OF_A_STAGE = (
    Point("its run is taken, nothing is read", "personas.execution._work_on"),
    Point("the stage is about to begin", "personas.stage_rows.begin"),
    Point("the stage has begun", "personas.stage_rows.begin", after=True),
    Point("the call is about to be decided", "integrations.calls.prepare"),
    Point("the call is decided and not written", "integrations.calls.open_call"),
    Point("the call is written and not sent", "integrations.calls.open_call", after=True),
    Point("the request is about to leave", "integrations.openrouter.client.OpenRouter._exchange"),
    Point("the answer has begun", "integrations.calls._note"),
    Point("the answer is whole and not written", "integrations.calls.close_call"),
    Point("the answer is written and paid", "integrations.calls.close_call", after=True),
    Point("the result is about to be accepted", "personas.stage_rows.end"),
    Point("the result is accepted", "personas.stage_rows.end", after=True),
    Point("the run is about to end", "personas.ending.finish"),
    Point("the run has ended and nobody is told", "personas.ending.finish", after=True),
)
OF_A_DISPATCHER = (
    Point("schedules are locked, nothing is fired", "personas.dispatch._fire_all"),
    Point("firings are about to be written", "personas.firing._insert"),
    Point("firings are written, runs are not", "personas.starting.queue_fired"),
    Point("runs are written, their stages are not", "personas.starting._queue_stages"),
    Point("all is written and not committed", "personas.dispatch._fire_all", after=True),
    Point("all is committed and nobody is told", "personas.dispatch._dispatch_batch", after=True),
)
LEAVES_ONE_IN_DOUBT = {point.name for point in OF_A_STAGE[5:9]}
ASKED_ONCE_MORE = {point.name for point in OF_A_STAGE[7:11]}


@pytest.mark.requirement("CRASH-1")
@pytest.mark.parametrize("point", OF_A_STAGE, ids=lambda point: point.name)
def test_a_worker_that_dies_there_leaves_its_run_to_the_next_one(sandbox, settings, point):
    desk = make_desk(sandbox, settings)
    writer = make_writer(desk)
    stages = [prompt(writer, "first", say="ebb"), prompt(writer, "second", say="{{ stage.first.output }} and flow")]
    run = start(desk.team, [*stages, combine("end", "{{ stage.second.output }}!")])
    before = asked(sandbox)

    die_at(point, lambda: work(run_id=run.pk, owner="dies"))
    Run.objects.filter(pk=run.pk, state="running").update(lease_until=app_now())
    go(run)

    assert run.state == "succeeded"
    assert told(run) == {"first": "ebb", "second": "ebb and flow", "end": "ebb and flow!"}
    calls = list(Call.objects.filter(run_id=run.pk))
    assert sum(call.state == "unknown" for call in calls) == (point.name in LEAVES_ONE_IN_DOUBT)
    assert {call.state for call in calls} <= {"done", "unknown"}
    assert asked(sandbox) - before == 2 + (point.name in ASKED_ONCE_MORE)
    assert_books_are_whole(run, calls)


@pytest.mark.requirement("CRASH-2")
@pytest.mark.parametrize("point", OF_A_STAGE[1:13], ids=lambda point: point.name)
def test_a_worker_that_freezes_there_and_wakes_after_its_lease_writes_nothing(sandbox, settings, point):
    """But for the books of its call: what that took in truth settles what was in doubt."""
    desk = make_desk(sandbox, settings)
    run = start(desk.team, [prompt(make_writer(desk), say="ebb"), combine("end", "{{ stage.ask.output }}!")])
    with frozen_at(point, lambda: work(run_id=run.pk, owner="freezes")):
        Run.objects.filter(pk=run.pk).update(lease_until=app_now())
        go(run)
        written = all_of(run)

    assert told(run) == {"ask": "ebb", "end": "ebb!"}
    assert all_of(run) == written
    calls = list(Call.objects.filter(run_id=run.pk))
    assert [call.state for call in calls if call.state != "done"] == []
    assert_books_are_whole(run, calls)


def all_of(run: Run) -> list:
    events = Event.objects.filter(run_id=run.pk).exclude(action__startswith="call.").order_by("id")
    return [list(rows.values_list()) for rows in (Run.objects.filter(pk=run.pk), run.stages.all(), events)]


@pytest.mark.requirement("CRASH-5")
def test_the_run_of_a_dead_worker_is_taken_over_when_its_lease_ends(clock):
    run = start(make_team(), [combine("one", "x")])
    die_at(OF_A_STAGE[1], lambda: work(run_id=run.pk, owner="dies"))
    assert go(run) == "running"
    clock(seconds=31)
    assert dispatch.sweep() == [run.pk]
    assert go(run) == "succeeded"


@pytest.mark.requirement("CRASH-10")
def test_the_next_worker_goes_on_with_the_fallback_and_not_with_the_model_that_failed(sandbox, settings):
    desk = make_desk(sandbox, settings)
    writer = make_writer(desk, chain=[MODEL, "openai/gpt-5.4-mini"])
    sandbox.rules(fault(429, retry_after=600))
    run = start(desk.team, [prompt(writer, say="ebb")])
    failed = Point("the first model has failed", "personas.attempts._Answer._note_failure", after=True)

    die_at(failed, lambda: work(run_id=run.pk, owner="dies"))
    Run.objects.filter(pk=run.pk).update(lease_until=app_now())
    assert go(run) == "succeeded"
    asked_of = Call.objects.filter(run_id=run.pk).order_by("started_at").values_list("model", flat=True)
    assert list(asked_of) == [MODEL, "openai/gpt-5.4-mini"]
    assert run.stages.get().used_fallback


@pytest.mark.requirement("CRASH-9")
def test_a_worker_that_is_told_to_end_hands_its_run_back_after_the_stage_that_it_is_at(monkeypatch):
    run = start(make_team(), [combine("one", "x"), combine("two", "{{ stage.one.output }}y")])
    monkeypatch.setattr(quitting, "_told", threading.Event())
    real = stage_rows.end
    monkeypatch.setattr(stage_rows, "end", lambda *given: (real(*given), quitting.note()))

    assert go(run) == "parked"
    assert told(run) == {"one": "x", "two": "waiting"}
    other = start(make_team(), [combine("one", "x")])
    assert go(other) == "queued"

    monkeypatch.setattr(quitting, "_told", threading.Event())
    monkeypatch.setattr(stage_rows, "end", real)
    work(run_id=run.pk, owner="next")
    work(run_id=run.pk, owner="next")
    assert told(run) == {"one": "x", "two": "xy"}
    assert set(Run.objects.values_list("state", flat=True)) == {"succeeded"}


def asked(sandbox) -> int:
    return sum(entry["path"].endswith("/chat/completions") for entry in sandbox.journal())


def assert_books_are_whole(run: Run, calls: list[Call]) -> None:
    """One accepted result for each stage, a beginning and an end for each call, and what is held is still in doubt."""
    results = set(StageRun.objects.filter(run=run, state="done").values_list("output_content_id", flat=True))
    assert results == set(Content.objects.filter(team_id=run.team_id, kind="output").values_list("pk", flat=True))
    for action in ("call.started", "call.finished"):
        assert Event.objects.filter(action=action, call_id__in=[call.pk for call in calls]).count() == len(calls)
    for action in ("personas.run.queued", "personas.run.succeeded"):
        assert Event.objects.filter(action=action, run_id=run.pk).count() == 1
    account = CreditAccount.objects.get(team=run.team)
    held = sum(call.credits_reserved for call in calls if call.credits is None)
    assert account.reserved == held
    assert account.spent == sum(
        Call.objects.filter(team=run.team, credits__isnull=False).values_list("credits", flat=True)
    )


@pytest.mark.requirement("CRASH-1", "CRASH-4", "SCH-1")
@pytest.mark.parametrize("point", OF_A_DISPATCHER, ids=lambda point: point.name)
def test_a_dispatcher_that_dies_there_leaves_one_firing_and_one_run(point):
    schedules = [make_schedule(make_flow(make_team())) for _ in range(2)]
    due = app_now().replace(second=0, microsecond=0)
    for schedule in schedules:
        type(schedule).objects.filter(pk=schedule.pk).update(next_at=due, nominal_at=due)

    die_at(point, dispatch.dispatch)
    dispatch.dispatch()

    assert list(Firing.objects.values_list("nominal_at", "outcome")) == [(due, "started")] * 2
    assert Run.objects.filter(firing__isnull=False, state="queued").count() == 2
    Run.objects.update(hinted_at=due - timedelta(minutes=1))
    for run_id in dispatch.sweep():
        work(run_id=run_id, owner="next")
    assert Run.objects.filter(state="succeeded").count() == 2
    assert Event.objects.filter(action="personas.run.queued").count() == 2
