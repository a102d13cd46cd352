"""Running again from a stage, and laying runs beside each other, where stages were skipped, failed or had items."""

import json

import pytest

from audit.clock import app_now
from integrations.models import Call
from personas import actions, beside, repeating
from tests.personas.flowing import combine, each, fault, go, items_of, make_desk, make_writer, prompt, start, told, when

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(sandbox, settings):
    yield make_desk(sandbox, settings)
    sandbox.rules()


@pytest.fixture
def writer(desk):
    return make_writer(desk)


def again(run, number):
    return repeating.run_again_from(run=run, number=number, by=run.user, idempotency_key="")


def test_what_was_skipped_failed_or_made_of_items_is_taken_over(sandbox, desk, writer):
    sandbox.rules(fault(400, times=1))
    stages = [
        prompt(writer),
        combine("sorry", "It failed.", **when("ask", "failed")),
        combine("fine", "It worked.", **when("ask", "done")),
        each(writer, "a\nb"),
        combine("end", "{{ stage.ask.output }}{{ stage.sorry.output }}{{ stage.fine.output }}{{ stage.all.output }}"),
    ]
    run = start(desk.team, stages)
    assert go(run) == "succeeded"
    before = Call.objects.count()

    repeated = again(run, 5)
    assert go(repeated) == "succeeded"
    assert told(repeated) == told(run)
    assert Call.objects.count() == before
    kept = repeated.stages.filter(position__lt=4)
    assert all(stage.reused for stage in kept)
    assert kept.get(name="ask").failure == run.stages.get(name="ask").failure

    sandbox.rules()
    items = again(run, 4)
    assert go(items) == "succeeded"
    assert (json.loads(told(items)["all"]), len(items_of(items))) == (["a", "b"], 2)
    pairs = {pair.name: pair for pair in beside.compare_runs(old=run, new=items, now=app_now())}
    assert list(pairs) == ["ask", "sorry", "fine", "all", "end"]
    assert not pairs["end"].output.changed
    assert pairs["fine"].new.state == "skipped"
    assert pairs["all"].new.cost_usd > 0
    assert pairs["ask"].new.state == "failed"


def test_a_stage_that_was_never_reached_is_not_taken_over_as_skipped(desk, writer):
    run = start(desk.team, [combine("one", "x"), combine("two", "y", **when("one", "done")), combine("end", "z")])
    actions.stop_run(run=run, by=desk.owner)
    run.refresh_from_db()
    with pytest.raises(repeating.CannotRepeat, match="Stage 1, one, gave nothing"):
        again(run, 3)


def test_a_branch_can_be_run_again_for_the_failure_it_deals_with(sandbox, desk, writer):
    sandbox.rules(fault(400))
    run = start(desk.team, [prompt(writer), prompt(writer, "other", **when("ask", "failed"))])
    assert go(run) == "failed"
    sandbox.rules()
    repeated = again(run, 2)
    assert go(repeated) == "succeeded"
    assert told(repeated) == {"ask": "failed", "other": "tide"}


def test_a_failure_without_a_branch_is_not_taken_over(sandbox, desk, writer):
    sandbox.rules(fault(400))
    run = start(desk.team, [combine("one", "x"), prompt(writer), combine("end", "z")])
    assert go(run) == "failed"
    with pytest.raises(repeating.CannotRepeat, match="Stage 2, ask, gave nothing"):
        again(run, 3)
