"""A stage that a person approves: the run waits for them, and one decision counts."""

import threading

import pytest
from django.db import connection as database
from django.urls import reverse

from accounts.permissions import Role
from audit.models import Content, Event
from personas import actions, approving, pausing, repeating
from personas.models import Run
from tests.factories import make_member, make_team, owner_of
from tests.personas.flowing import combine, go, start, told, when
from vault.content import erase_contents

pytestmark = pytest.mark.django_db
ASKS = {"kind": "approve", "name": "check", "text": "Send {{ stage.draft.output }}?"}
STAGES = [combine("draft", "harbour-word"), ASKS, combine("end", "[{{ stage.check.output }}]")]


@pytest.fixture
def run() -> Run:
    """A run that waits for a decision."""
    run = start(make_team(), STAGES)
    assert go(run) == "parked"
    return run


def decide(run: Run, approve: bool = True, note: str = "", by=None) -> None:
    approving.decide(run=run, number=2, approve=approve, note=note, by=by or run.user)
    run.refresh_from_db()


def stage_of(run: Run):
    return run.stages.get(name="check")


def test_a_run_waits_without_a_worker_and_what_it_shows_is_sealed(run):
    stage = stage_of(run)
    assert (run.parked_until, run.lease_until, run.attempt, stage.state) == (None, None, 0, "waiting")
    assert stage.waits_for_decision
    assert b"harbour-word" not in bytes(Content.objects.get(pk=stage.input_content_id).ciphertext)
    assert go(run) == "parked"  # nobody decided yet


@pytest.mark.parametrize(("note", "output"), [("", "approved"), (" to all of them ", "to all of them")])
def test_approved_the_run_goes_on_and_the_note_is_the_output(run, note, output):
    decide(run, note=note)
    assert go(run) == "succeeded"
    assert told(run) == {"draft": "harbour-word", "check": output, "end": f"[{output}]"}
    stage = stage_of(run)
    assert (stage.verdict, stage.decided_by) == ("approved", run.user)
    event = Event.objects.get(run_id=run.pk, action="personas.run.decided")
    assert (event.outcome, event.details) == ("approved", {"stage": "check"})


def test_refused_the_stage_fails_and_says_by_whom(run):
    decide(run, approve=False, note="Too long")
    assert go(run) == "failed"
    assert run.failure == f"Refused by {run.user.email}."
    assert told(run) == {"draft": "harbour-word", "check": "failed", "end": "skipped"}


def test_a_refusal_can_have_a_branch_and_is_not_tried_again():
    stages = [STAGES[0], ASKS | {"retries": 3}, combine("else", "not sent", **when("check", "failed"))]
    run = start(make_team(), stages)
    go(run)
    decide(run, approve=False)
    assert go(run) == "succeeded"
    assert told(run) == {"draft": "harbour-word", "check": "failed", "else": "not sent"}


def test_the_second_decision_is_told_who_was_first(run):
    other = make_member(run.team, Role.MEMBER)
    decide(run, by=other)
    with pytest.raises(approving.CannotDecide, match=f"{other.email} decided first: approved"):
        decide(run, approve=False)
    assert stage_of(run).verdict == "approved"


@pytest.mark.django_db(transaction=True)
def test_of_two_tabs_at_the_same_moment_one_decision_counts():
    run = start(make_team(), STAGES)
    go(run)
    ends, together = [], threading.Barrier(2)

    def press(approve: bool) -> None:
        together.wait(10)
        try:
            approving.decide(run=run, number=2, approve=approve, note="", by=run.user)
            ends.append("decided")
        except approving.CannotDecide:
            ends.append("late")
        finally:
            database.close()

    tabs = [threading.Thread(target=press, args=[approve]) for approve in (True, False)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join(20)
    assert sorted(ends) == ["decided", "late"]
    assert Event.objects.filter(run_id=run.pk, action="personas.run.decided").count() == 1


def test_nothing_but_a_waiting_stage_can_be_decided(run):
    for number in (1, 3, 9):
        with pytest.raises(approving.CannotDecide, match="does not wait for a decision"):
            approving.decide(run=run, number=number, approve=True, note="", by=run.user)
    actions.stop_run(run=run, by=run.user)
    with pytest.raises(approving.CannotDecide, match="any more"):
        decide(run)
    assert (run.stages.get(name="check").state, run.stages.get(name="check").verdict) == ("skipped", "")


def test_a_paused_run_keeps_a_decision_until_it_is_resumed(run):
    pausing.pause_run(run=run, by=run.user)
    decide(run, note="kept")
    assert go(run) == "parked"
    pausing.resume_run(run=run, by=run.user)
    assert go(run) == "succeeded"
    assert told(run)["check"] == "kept"


def test_a_run_resumed_before_anybody_decided_waits_again(run):
    shown = stage_of(run).input_content_id
    pausing.pause_run(run=run, by=run.user)
    pausing.resume_run(run=run, by=run.user)
    assert go(run) == "parked"
    assert (run.parked_until, stage_of(run).input_content_id) == (None, shown)


def test_run_again_asks_again_unless_the_decision_was_taken_over(run):
    decide(run, note="yes")
    go(run)
    later = repeating.run_again_from(run=run, number=3, by=run.user, idempotency_key="later")
    assert go(later) == "succeeded"
    assert told(later) == told(run)
    anew = repeating.run_again_from(run=run, number=2, by=run.user, idempotency_key="anew")
    assert go(anew) == "parked"
    assert stage_of(anew).waits_for_decision


# --- on the page ------------------------------------------------------------------------


@pytest.fixture
def visit(client, run):
    """Open the run's page, or send a decision from it, as a member of a role; what they then see."""

    def visit(role: Role = Role.MEMBER, **data) -> str:
        client.force_login(owner_of(run.team) if role == Role.OWNER else make_member(run.team, role))
        name = "run_decide" if data else "run_detail"
        at = reverse(name, args=[run.team.slug, run.pk])
        answer = client.post(at, data, follow=True) if data else client.get(at)
        assert answer.status_code in (200, 403)
        return answer.content.decode()

    return visit


def test_a_member_decides_on_the_page_and_an_auditor_only_looks(visit, run):
    assert "Approve</button>" not in visit(Role.AUDITOR)
    page = visit()
    assert "Send harbour-word?" in page
    assert "Approve</button>" in page
    page = visit(stage="2", verdict="approved", note="Go <b>on</b>")
    assert "Approve</button>" not in page
    assert "Go &lt;b&gt;on&lt;/b&gt;" in page
    page = visit(stage="2", verdict="refused")
    assert "decided first: approved" in page
    assert go(run) == "succeeded"


@pytest.mark.parametrize(
    "data", [{"stage": "x", "verdict": "approved"}, {"stage": "2"}, {"stage": "2", "verdict": "?"}]
)
def test_what_is_no_decision_decides_nothing(visit, run, data):
    visit(**data)
    assert stage_of(run).verdict == ""


def test_what_was_erased_is_said_so(visit, run):
    erase_contents(team_id=run.team_id, content_ids=[stage_of(run).input_content_id])
    assert "What it showed was erased." in visit()


def test_the_list_of_runs_says_that_one_waits_for_approval(client, run):
    client.force_login(run.user)
    assert "Waiting for approval" in client.get(reverse("run_list", args=[run.team.slug])).content.decode()
