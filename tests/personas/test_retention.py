"""Texts of runs are erased when their team keeps them no longer; rows, log and everybody else's texts stay."""

import pytest
from django.urls import reverse

from accounts.permissions import Role
from audit.models import Content, Event
from personas import actions, repeating, retention, tasks, triggers
from personas.execution import work
from personas.models import Run, StageRun, TeamFlows, TriggerEvent
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow
from tests.personas.test_triggers import send
from tests.personas.test_triggers import with_inputs as given

pytestmark = pytest.mark.django_db

STAGES = [
    {"kind": "combine", "name": "one", "template": "Secret {{ input.time }}"},
    {"kind": "combine", "name": "two", "template": "{{ stage.one.output }} again"},
]


@pytest.fixture
def team(db):
    return make_team()


def done(run: Run) -> Run:
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    assert run.state == "succeeded", run.failure
    return run


def a_run(team, name: str = "Digest") -> Run:
    flow = make_flow(team, STAGES, name=name)
    return done(actions.run_flow(flow=flow, by=owner_of(team), idempotency_key=name))


def keep(team, days: int | None) -> None:
    retention.set_keep_days(team=team, days=days, by=owner_of(team))


def texts(run: Run) -> list[bool]:
    """Whether what each stage gave can still be read."""
    ids = StageRun.objects.filter(run=run).order_by("position").values_list("output_content_id", flat=True)
    return [Content.objects.get(pk=id).ciphertext is not None for id in ids]


def test_texts_go_after_their_days_and_nobody_elses(team, clock):
    run, foreign = a_run(team), a_run(make_team())
    keep(team, 7)
    clock(days=6)
    tasks.erase_old()
    assert texts(run) == [True, True]

    clock(days=8)
    later = a_run(team, "Later")
    for _ in range(2):
        tasks.erase_old()
    assert texts(run) == [False, False]
    assert texts(later) == texts(foreign) == [True, True]
    run.refresh_from_db()
    assert run.erased_at is not None
    (event,) = Event.objects.filter(action="personas.retention.erased")
    assert event.details == {"days": 7, "runs": 1, "trigger_events": 0}
    assert Event.objects.filter(run_id=run.pk, action="personas.run.succeeded").exists()


def test_what_runs_for_longer_or_has_no_rule_is_kept(team, clock):
    kept = a_run(team, "Kept")
    unfinished = actions.run_flow(flow=make_flow(team, STAGES), by=owner_of(team), idempotency_key="waits")
    clock(days=400)
    tasks.erase_old()
    assert texts(kept) == [True, True]
    keep(team, 1)
    keep(team, None)
    tasks.erase_old()
    assert texts(kept) == [True, True]
    keep(team, 1)
    tasks.erase_old()
    unfinished.refresh_from_db()
    assert unfinished.erased_at is None
    assert texts(done(unfinished)) == [True, True]


def test_what_a_later_run_took_over_goes_with_that_run(team, clock):
    first = a_run(team)
    clock(days=5)
    again = repeating.run_again_from(run=first, number=2, by=owner_of(team), idempotency_key="b" * 32)
    done(again)
    keep(team, 7)
    clock(days=8)
    tasks.erase_old()
    assert texts(first) == [True, False]
    assert texts(again) == [True, True]
    clock(days=13)
    tasks.erase_old()
    assert texts(again) == [False, False]


def test_requests_of_triggers_and_what_they_gave_go_too(team, clock):
    flow = given(make_flow(team), "title")
    trigger, secret = triggers.add_webhook(flow=flow, mapping={"title": "order.total"}, by=owner_of(team))
    assert send(trigger, secret).status_code == 202
    run = done(Run.objects.get())
    keep(team, 1)
    clock(days=2)
    tasks.erase_old()
    assert not TriggerEvent.objects.exists()
    run.refresh_from_db()
    assert Content.objects.get(pk=run.inputs_id).ciphertext is None


def test_the_page_says_what_goes_before_it_is_set_and_what_went(client, team, clock):
    run = a_run(team)
    clock(days=3)
    client.force_login(owner_of(team))
    page = reverse("team_keeping", args=[team.slug])
    assert "erases those of 1 run now" in client.get(page, {"keep_days": "2"}).content.decode()
    assert "erases those of 0 runs now" in client.get(page, {"keep_days": "4"}).content.decode()
    assert not TeamFlows.objects.filter(keep_days__isnull=False).exists()
    for wrong in ("0", "-1", "x", "99999"):
        assert client.post(page, {"keep_days": wrong}).status_code == 422

    for _ in range(2):
        client.post(page, {"keep_days": "2"})
    assert Event.objects.get(action="personas.retention.set").details == {"before": None, "after": 2}
    tasks.erase_old()
    assert "Texts of 1 run," in client.get(page).content.decode()
    assert (
        "texts of this run were erased" in client.get(reverse("run_detail", args=[team.slug, run.pk])).content.decode()
    )
    client.force_login(make_member(team, Role.BUILDER))
    assert client.post(page, {"keep_days": ""}).status_code == 403
