"""What a run may not do: outlive its person's rights, fill a worker's memory, or say a prompt in an error."""

import pytest
from pydantic import ValidationError

from accounts.models import Membership, User
from accounts.permissions import Role
from personas import actions, stages, template
from personas.execution import work
from personas.models import Run
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow

pytestmark = pytest.mark.django_db
TWO = [{"kind": "combine", "name": name, "template": name} for name in ("one", "two")]


def queued(member_role: Role = Role.MEMBER) -> Run:
    """A run that waits for a worker, started by a member."""
    team = make_team()
    flow = make_flow(team, TWO)
    return actions.run_flow(flow=flow, by=make_member(team, member_role), idempotency_key="once")


def remove(run: Run) -> None:
    Membership.objects.filter(team=run.team, user=run.user).delete()


def demote(run: Run) -> None:
    Membership.objects.filter(team=run.team, user=run.user).update(role=Role.AUDITOR)


def switch_off(run: Run) -> None:
    User.objects.filter(pk=run.user_id).update(is_active=False)


each_loss = pytest.mark.parametrize("lose", [remove, demote, switch_off])


@pytest.mark.requirement("AUTHZ-6")
@each_loss
def test_a_queued_run_ends_when_its_person_lost_the_right(lose):
    run = queued()
    lose(run)

    work(run_id=run.pk, owner="test")

    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert run.user.email in run.failure
    assert list(run.stages.values_list("state", "output_content_id")) == [("failed", None), ("skipped", None)]


@pytest.mark.requirement("AUTHZ-6")
@each_loss
def test_a_run_at_work_ends_at_its_next_stage(lose, monkeypatch):
    run = queued()
    done = []

    def first_then_lose(text, values):
        done.append(text)
        if text == "one":
            lose(run)
        return text

    monkeypatch.setattr(template, "render", first_then_lose)
    work(run_id=run.pk, owner="test")

    run.refresh_from_db()
    assert done == ["one"]
    assert run.state == Run.State.FAILED
    assert list(run.stages.values_list("state", flat=True)) == ["done", "failed"]


def test_a_filled_template_stops_at_its_longest():
    answer = {"stage.a.output": "x" * 100_000}
    fits = "{{ stage.a.output }}" * 19
    assert len(template.render(fits, answer)) == 1_900_000
    with pytest.raises(template.BadReference, match="2,000,000"):
        template.render("{{ stage.a.output }}" * 4_000, answer)


def test_arguments_stop_at_the_longest_together():
    answer = {"stage.a.output": "x" * 100_000}
    with pytest.raises(template.BadReference, match="2,000,000"):
        stages.fill({"messages": [{"content": "{{ stage.a.output }}"}] * 30}, answer)


def test_a_run_whose_text_grows_too_long_fails_and_says_what_to_do():
    team = make_team()
    doubling = [{"kind": "combine", "name": "s0", "template": "x" * 90_000}]
    doubling += [
        {"kind": "combine", "name": f"s{n}", "template": f"{{{{ stage.s{n - 1}.output }}}}" * 20} for n in (1, 2, 3)
    ]
    run = actions.run_flow(flow=make_flow(team, doubling), by=owner_of(team), idempotency_key="")

    work(run_id=run.pk, owner="test")

    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert "less often" in run.failure


def test_many_braces_are_refused_at_the_first():
    with pytest.raises(template.BadReference):
        template.check("{{" * 50_000, set())


@pytest.mark.requirement("RED-9")
def test_an_error_about_a_stage_does_not_quote_it():
    with pytest.raises(ValidationError) as refused:
        stages.read_stage({"kind": "prompt", "name": "x", "persona": "p", "template": ["the prompt"]})
    assert "the prompt" not in str(refused.value)
