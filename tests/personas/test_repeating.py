"""Running again from a stage: earlier outputs are taken over, and nothing of them is asked or paid for again."""

import pytest

from audit.models import Event
from integrations.models import Call
from personas import actions, flow_actions, repeating
from personas.execution import work
from personas.models import Run, StageRun
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow
from vault.content import erase_contents

pytestmark = pytest.mark.django_db

STAGES = [
    {"kind": "combine", "name": "one", "template": "It is {{ input.time }}"},
    {"kind": "combine", "name": "two", "template": "{{ stage.one.output }}!"},
    {"kind": "combine", "name": "three", "template": "{{ stage.two.output }}?"},
]


@pytest.fixture
def team(db):
    return make_team()


@pytest.fixture
def run(team) -> Run:
    return finished(actions.run_flow(flow=make_flow(team, STAGES), by=owner_of(team), idempotency_key="first"))


def finished(run: Run) -> Run:
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    return run


def again(run: Run, number: int, *, once: str = "again", by=None) -> Run:
    return repeating.run_again_from(run=run, number=number, by=by or owner_of(run.team), idempotency_key=once)


def outputs(run: Run) -> list:
    return list(run.stages.values_list("output_content_id", flat=True))


def test_what_came_before_the_stage_is_taken_over_and_the_rest_is_done_anew(run):
    repeated = again(run, 3)
    assert list(repeated.stages.values_list("state", "reused")) == [("done", True), ("done", True), ("waiting", False)]

    assert finished(repeated).state == "succeeded"
    assert outputs(repeated)[:2] == outputs(run)[:2]
    assert outputs(repeated)[2] not in {None, outputs(run)[2]}
    assert (repeated.trigger, repeated.again_of, repeated.flow_version) == ("again", run, run.flow_version)


def test_the_time_that_a_taken_over_text_names_stays_that_of_the_first_run(run, clock):
    clock(hours=5)
    repeated = finished(again(run, 2))

    assert outputs(repeated)[0] == outputs(run)[0]
    assert not Call.objects.filter(run_id=repeated.pk).exists()


def test_it_runs_the_version_of_the_first_run_though_another_is_in_use(run):
    changed = [STAGES[0] | {"template": "Another text"}]
    flow_actions.save_flow(flow=run.flow, name=run.flow.name, purpose="", stage_list=changed, by=owner_of(run.team))

    assert again(run, 2).stages.count() == 3


def test_sent_twice_it_is_one_run_and_one_event(run):
    assert again(run, 2) == again(run, 2)
    assert Event.objects.filter(action="personas.run.queued").count() == 2  # the first run's and this one's


def test_it_acts_with_the_rights_of_whoever_asked(run):
    member = make_member(run.team, "builder")
    assert again(run, 1, by=member).user == member


@pytest.mark.parametrize("number", [0, 4, -1])
def test_a_stage_that_is_not_there_is_refused(run, number):
    with pytest.raises(repeating.CannotRepeat, match="stages 1 to 3"):
        again(run, number)


def test_a_run_that_is_still_going_is_refused(team):
    going = actions.run_flow(flow=make_flow(team, STAGES), by=owner_of(team), idempotency_key="going")
    with pytest.raises(repeating.CannotRepeat, match="still going"):
        again(going, 2)


def test_a_stage_behind_one_that_gave_nothing_is_refused_by_name(run):
    run.stages.filter(name="two").update(state=StageRun.State.FAILED, output_content_id=None)
    with pytest.raises(repeating.CannotRepeat, match="Stage 2, two, gave nothing"):
        again(run, 3)
    assert again(run, 2).stages.count() == 3


def test_an_erased_output_is_named_and_nothing_is_made(run):
    erase_contents(team_id=run.team_id, content_ids={outputs(run)[0]})
    with pytest.raises(repeating.CannotRepeat, match="erased"):
        again(run, 2)
    assert Run.objects.count() == 1


def test_an_archived_flow_is_not_run_again(run):
    run.flow.archived_at = run.queued_at
    with pytest.raises(repeating.CannotRepeat, match="archived"):
        again(run, 2)
