"""What stages do beside asking: conditions, branches for errors, further tries, bounds, the form of an answer."""

from decimal import Decimal

import pytest

from integrations.models import Call
from personas import actions, performing, retrying
from personas.models import Run, StageRun
from personas.standstill import StageFailed
from tests.factories import make_team, owner_of
from tests.personas.flowing import combine, fault, go, make_desk, make_writer, prompt, start, told, when
from vault.models import Grant

pytestmark = pytest.mark.django_db
SCHEMA = {
    "type": "object",
    "properties": {"word": {"type": "string"}},
    "required": ["word"],
    "additionalProperties": False,
}


@pytest.fixture
def desk(sandbox, settings):
    yield make_desk(sandbox, settings)
    sandbox.rules()


@pytest.fixture
def writer(desk):
    return make_writer(desk)


# --- conditions -------------------------------------------------------------------------


def test_a_stage_whose_condition_does_not_hold_is_skipped_and_gives_nothing():
    stages = [
        combine("check", "0.4"),
        combine("good", "well done", **when("check", "above", "0.8")),
        combine("bad", "not yet", **when("check", "below", "0.8")),
        combine("all", "[{{ stage.good.output }}|{{ stage.bad.output }}]"),
    ]
    run = start(make_team(), stages)
    assert go(run) == "succeeded"
    assert told(run) == {"check": "0.4", "good": "skipped", "bad": "not yet", "all": "[|not yet]"}


def test_what_is_compared_as_a_number_and_is_none_fails_the_stage():
    run = start(make_team(), [combine("check", "rather good"), combine("next", "x", **when("check", "above", "0.8"))])
    assert go(run) == "failed"
    assert run.failure == "Stage check should give a number to compare with 0.8, and gave “rather good”."
    assert told(run) == {"check": "rather good", "next": "failed"}


def test_a_failure_with_a_branch_does_not_end_the_run(sandbox, desk, writer):
    sandbox.rules(fault(400))
    stages = [
        prompt(writer),
        combine("sorry", "It failed.", **when("ask", "failed")),
        combine("fine", "It worked.", **when("ask", "done")),
        combine("all", "[{{ stage.ask.output }}{{ stage.sorry.output }}{{ stage.fine.output }}]"),
    ]
    run = start(desk.team, stages)
    assert go(run) == "succeeded"
    assert told(run) == {"ask": "failed", "sorry": "It failed.", "fine": "skipped", "all": "[It failed.]"}
    assert (run.failure, bool(run.stages.get(name="ask").failure)) == ("", True)
    sandbox.rules()
    well = start(desk.team, stages)
    assert go(well) == "succeeded"
    assert told(well) == {"ask": "tide", "sorry": "skipped", "fine": "It worked.", "all": "[tideIt worked.]"}


def test_a_branch_that_fails_itself_ends_the_run(sandbox, desk, writer):
    sandbox.rules(fault(400))
    run = start(desk.team, [prompt(writer), prompt(writer, "again", **when("ask", "failed")), combine("end", "x")])
    assert go(run) == "failed"
    assert told(run) == {"ask": "failed", "again": "failed", "end": "skipped"}


def test_a_role_lost_between_stages_ends_the_run_whatever_branch_there_is(desk, writer):
    run = start(desk.team, [combine("one", "x"), combine("two", "y", **when("one", "failed"))])
    owner_of(desk.team).memberships.update(role="auditor")
    assert go(run) == "failed"
    assert "a role that may not run anything" in run.failure


def test_a_grant_revoked_between_stages_fails_the_stage_and_its_branch_goes_on(desk, writer, monkeypatch):
    stages = [prompt(writer, "one"), prompt(writer, "two"), combine("sorry", "without", **when("two", "failed"))]
    run = start(desk.team, stages)
    do = performing.perform

    def revoking(run, stage, *given):
        if stage.name == "two":
            Grant.objects.filter(holder=writer.pk).update(revoked_at=run.queued_at, revoked_by=run.user)
        return do(run, stage, *given)

    monkeypatch.setattr("personas.execution.perform", revoking)
    assert go(run) == "succeeded"
    assert told(run) == {"one": "tide", "two": "failed", "sorry": "without"}
    assert Call.objects.filter(run_id=run.pk).count() == 1


# --- further tries ----------------------------------------------------------------------


def test_a_failure_that_may_heal_is_tried_again_later_as_often_as_the_stage_says(desk, writer, monkeypatch, clock):
    def busy(*given):
        raise StageFailed("It is busy.", again=True)

    monkeypatch.setattr("personas.execution.perform", busy)
    run = start(desk.team, [prompt(writer, retries=1), combine("end", "x")])
    assert go(run) == "parked"
    stage = run.stages.get(name="ask")
    assert (stage.state, stage.tries, run.parked_until) == ("waiting", 1, stage.retry_at)
    assert stage.failure == "It is busy."
    assert go(run) == "parked"  # not before its time
    clock(seconds=10)
    assert go(run) == "failed"
    stage.refresh_from_db()
    assert (stage.tries, stage.retry_at) == (2, None)


def test_a_try_that_works_leaves_no_word_of_the_one_before(sandbox, desk, writer, clock):
    sandbox.rules(fault(503))
    run = start(desk.team, [prompt(writer, retries=3)])
    go(run)
    sandbox.rules()
    clock(minutes=10)
    assert go(run) == "succeeded"
    stage = run.stages.get()
    assert (stage.tries, stage.failure, told(run)) == (2, "", {"ask": "tide"})


def test_a_429_with_retry_after_waits_that_long_and_takes_no_try(sandbox, desk, writer, clock):
    sandbox.rules(fault(429, retry_after=120, times=1))
    run = start(desk.team, [prompt(writer, retries=1)])
    assert go(run) == "parked"
    assert 115 <= (run.parked_until - run.started_at).total_seconds() <= 160
    clock(seconds=60)
    assert go(run) == "parked"
    clock(seconds=170)
    assert go(run) == "succeeded"
    assert run.stages.get().tries == 1


def test_what_no_other_try_could_mend_is_not_tried_again(sandbox, desk, writer):
    sandbox.rules(fault(400))
    run = start(desk.team, [prompt(writer, retries=5)])
    assert go(run) == "failed"
    assert run.stages.get().tries == 1


def test_a_call_that_may_have_been_billed_is_not_sent_again_by_itself(sandbox, desk, writer):
    sandbox.rules(fault(503))
    run = start(desk.team, [prompt(writer, retries=5)])
    go(run)
    stage, failure = run.stages.get(), StageFailed("x", again=True)
    assert retrying.wait_for_another(run, stage, _spec(stage), failure, None) is not None
    Call.objects.filter(run_id=run.pk).update(state="unknown")
    assert retrying.wait_for_another(run, stage, _spec(stage), failure, None) is None


def test_waits_grow_and_are_never_shorter_than_the_service_asked_for():
    waits = [retrying.seconds_before(tries, None, 0) for tries in range(1, 8)]
    assert waits == sorted(waits)
    assert retrying.seconds_before(1, 90, 0) == 90
    assert retrying.seconds_before(2, None, 1) == pytest.approx(24)


@pytest.mark.requirement("CRASH-7")
def test_a_tool_that_a_lost_worker_may_have_used_is_for_a_person_to_look_at(desk, clock):
    buyer = make_writer(desk, name="Buyer")
    charge = "create_coinbase_charge"
    run = start(desk.team, [{"kind": "tool", "name": "buy", "persona": str(buyer.pk), "tool": charge}])
    left_behind(run, desk, charge)
    clock(seconds=31)
    assert go(run, "next") == "failed"
    assert run.failure.startswith("Nobody knows whether")
    assert Call.objects.filter(run_id=run.pk).count() == 1


def left_behind(run: Run, desk, tool: str) -> None:
    """As a worker leaves a run that is killed in the middle of a call."""
    stage = run.stages.get()
    StageRun.objects.filter(pk=stage.pk).update(state="running", tries=1)
    Run.objects.filter(pk=run.pk).update(state="running", lease_until=run.queued_at, fence=1, attempt=1)
    call = desk.call("get_models_count", {}, run_id=run.pk, stage_id=stage.pk).call
    Call.objects.filter(pk=call.pk).update(tool=tool, state="unknown")


# --- bounds -----------------------------------------------------------------------------


def test_a_stage_ends_when_its_time_is_over_in_the_middle_of_a_call(sandbox, desk, writer, monkeypatch):
    sandbox.rules({"match": {"path": "/chat/completions"}, "answer": {"kind": "silence", "delay": 3}})
    monkeypatch.setattr("personas.execution._seconds_left", lambda stage, spec: 0.3)
    run = start(desk.team, [prompt(writer, timeout=10, retries=2)])
    assert go(run) == "failed"
    assert run.failure.startswith("It took longer than the 10 seconds")
    assert Call.objects.get(run_id=run.pk).state == "unknown"


def test_waiting_counts_for_the_time_of_a_stage(sandbox, desk, writer, clock):
    sandbox.rules(fault(429, retry_after=15))
    run = start(desk.team, [prompt(writer, timeout=30)])
    assert go(run) == "parked"
    clock(seconds=40)
    assert go(run) == "failed"
    assert run.failure.startswith("It took longer than the 30 seconds")


def test_a_stage_that_would_cost_too_much_is_not_asked(desk, writer, known_catalog):
    run = start(desk.team, [prompt(writer, most_usd="0.000001")])
    assert go(run) == "failed"
    assert "This stage may cost at most" in run.failure
    assert not Call.objects.filter(run_id=run.pk).exists()
    enough = start(desk.team, [prompt(writer, most_usd="1")])
    assert go(enough) == "succeeded"
    assert 0 < Call.objects.get(run_id=enough.pk).cost_usd < Decimal(1)


# --- the form of an answer --------------------------------------------------------------


def test_an_answer_has_the_form_that_its_stage_asks_for(desk, writer):
    run = start(desk.team, [prompt(writer, output_schema=SCHEMA)])
    assert go(run) == "succeeded"
    assert performing.problem_of_answer(SCHEMA, told(run)["ask"]) == ""


def test_an_answer_of_another_form_is_put_right_once_and_counts_as_a_try(desk, writer, monkeypatch):
    problems = iter(["the answer has no “word”.", ""])
    monkeypatch.setattr(performing, "problem_of_answer", lambda schema, text: next(problems))
    run = start(desk.team, [prompt(writer, output_schema=SCHEMA, retries=1)])
    assert go(run) == "succeeded"
    assert run.stages.get().tries == 2
    assert Call.objects.filter(run_id=run.pk).count() == 2


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (3, 2)])
def test_an_answer_that_never_fits_fails_clearly(desk, writer, monkeypatch, retries, asked):
    monkeypatch.setattr(performing, "problem_of_answer", lambda schema, text: "the answer has no “word”.")
    run = start(desk.team, [prompt(writer, output_schema=SCHEMA, retries=retries)])
    assert go(run) == "failed"
    assert run.failure == ("The answer does not have the form that this stage asks for: the answer has no “word”.")
    assert Call.objects.filter(run_id=run.pk).count() == asked


def _spec(stage):
    return performing.stages.read_stage(stage.spec)


def test_stopping_ends_a_run_that_waits_for_another_try(sandbox, desk, writer):
    sandbox.rules(fault(503))
    run = start(desk.team, [prompt(writer, retries=5)])
    go(run)
    actions.stop_run(run=run, by=desk.owner)
    run.refresh_from_db()
    assert (run.state, run.stages.get().state) == ("stopped", "skipped")
