"""What a member does with a run on its page: pausing it, running it again from a stage, comparing it with another."""

import pytest
from django.urls import reverse

from accounts.permissions import Role
from personas import actions, ending, flow_actions
from personas.execution import work
from personas.leases import Lease
from personas.models import Run
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow
from vault.content import erase_contents

pytestmark = pytest.mark.django_db

STAGES = [
    {"kind": "combine", "name": "one", "template": "Started as {{ input.flow }}"},
    {"kind": "combine", "name": "two", "template": "{{ stage.one.output }}, at last"},
]


@pytest.fixture
def team(db):
    return make_team()


@pytest.fixture
def run(team) -> Run:
    return done(queued(make_flow(team, STAGES), "first"))


def queued(flow, key: str) -> Run:
    return actions.run_flow(flow=flow, by=owner_of(flow.team), idempotency_key=key)


def done(run: Run) -> Run:
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    return run


@pytest.fixture
def visit(client, team):
    client.force_login(owner_of(team))

    def visit(name: str, run: Run, data: dict | None = None, **query) -> str:
        at = reverse(name, args=[team.slug, run.pk])
        answer = client.post(at, data, follow=True) if data is not None else client.get(at, query)
        assert answer.status_code == 200
        return answer.content.decode()

    return visit


def test_a_waiting_run_is_paused_and_resumed_on_its_page(visit, team):
    run = queued(make_flow(team, STAGES), "waits")
    assert "Paused since" in visit("run_pause", run, {})
    assert "Paused since" not in visit("run_resume", run, {})
    assert done(run).state == "succeeded"


def test_pausing_what_is_over_says_so(visit, run):
    assert "had ended already" in visit("run_pause", run, {})


def test_the_page_of_a_later_stage_offers_to_begin_there(visit, run):
    assert "Run again from stage 2" in visit("run_detail", run, stage="2")
    assert "Run again from stage 1" not in visit("run_detail", run, stage="1")

    page = visit("run_again", run, {"stage": "2", "once": "a" * 32})
    assert "an earlier run" in page
    again = run.repeats.get()
    assert "Taken over from the run" in visit("run_detail", again, stage="1")


@pytest.mark.parametrize("stage", ["9", "x", "٣", "0"])
def test_a_stage_that_nobody_has_is_refused_in_words(visit, run, stage):
    assert "This run has stages 1 to 2" in visit("run_again", run, {"stage": stage, "once": "b" * 32})
    assert not run.repeats.exists()


def test_two_runs_stand_beside_each_other_with_what_differs_marked(visit, run):
    changed = [STAGES[0], STAGES[1] | {"template": "{{ stage.one.output }}, at first"}]
    flow_actions.save_flow(flow=run.flow, name="Digest", purpose="", stage_list=changed, by=owner_of(run.team))
    run.flow.refresh_from_db()
    later = done(queued(run.flow, "second"))

    page = visit("run_compare", later)

    assert "version 1) beside that of" in page
    assert page.count("The same in both") == 2  # what the first stage was asked, and gave
    assert '<del><span class="sr">removed: </span> last' in page
    assert '<ins><span class="sr">added: </span> first' in page


def test_an_erased_output_is_compared_as_none(visit, run):
    later = done(queued(run.flow, "second"))
    for one in (run, later):
        erase_contents(team_id=run.team_id, content_ids=set(one.stages.values_list("output_content_id", flat=True)))

    assert "None in either run, or it was erased." in visit("run_compare", later)


def test_a_run_without_another_says_what_is_needed(visit, run):
    assert "No other run yet" in visit("run_compare", run)


def test_another_flows_run_is_not_to_be_had(visit, run, team):
    other = done(queued(make_flow(team, STAGES, name="Other"), "other"))
    assert "Output" not in visit("run_compare", run, other=str(other.pk))


def test_what_was_given_up_is_listed_and_says_how_to_go_on(client, visit, run, team):
    lost = queued(run.flow, "lost")
    Run.objects.filter(pk=lost.pk).update(state="running", fence=1, attempt=3)
    lost.refresh_from_db()
    ending.give_up_on(run=lost)

    listed = client.get(reverse("run_list", args=[team.slug]), {"state": "gave_up"}).content.decode()
    assert (str(lost.pk) in listed, str(run.pk) in listed) == (True, False)
    assert "This run was given up." in visit("run_detail", lost)


def test_a_failure_that_is_not_a_loss_is_not_said_to_be_given_up(run):
    later = queued(run.flow, "fails")
    Run.objects.filter(pk=later.pk).update(state="running", fence=1)
    ending.fail(later, later.stages.first(), Lease(later.pk, 1), "No such model.")
    later.refresh_from_db()
    assert (later.state, later.gave_up) == ("failed", False)


def test_a_reader_sees_no_button_that_they_may_not_press(client, run):
    client.force_login(make_member(run.team, Role.AUDITOR))
    page = client.get(reverse("run_detail", args=[run.team.slug, run.pk]), {"stage": "2"}).content.decode()
    assert "Run again" not in page
    assert "Pause" not in page
