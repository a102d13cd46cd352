"""Credits that will end before they come again are told once, with the day and who goes without."""

from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse

from audit.clock import app_now
from personas import runway, tasks
from personas.models import Notice
from personas.month import Cost
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow, make_schedule

pytestmark = pytest.mark.django_db

START = datetime(2026, 11, 1, tzinfo=UTC)


def firings(*taken: tuple[str, int]) -> list[runway.Firing]:
    return [(START + timedelta(hours=n), flow, credits) for n, (flow, credits) in enumerate(taken)]


@pytest.mark.parametrize(
    ("left", "taken", "hour", "flows"),
    [
        (10, [("a", 5), ("b", 5)], None, []),
        (9, [("a", 5), ("b", 5)], 1, ["b"]),
        (0, [("free", 0), ("a", 1), ("a", 1), ("b", 1), ("c", 1), ("d", 1)], 1, ["a", "b", "c"]),
        (0, [], None, []),
    ],
)
def test_the_first_firing_that_credits_do_not_reach_is_found(left, taken, hour, flows):
    end = runway.end_of(left, firings(*taken))
    assert ((end and end.flows) or []) == flows
    assert end is None if hour is None else end.at == START + timedelta(hours=hour)


@pytest.fixture
def flow(clock, monkeypatch):
    """A flow that fires each minute and whose runs take more than a month holds, seen from the middle of a month."""
    clock(days=40 - app_now().day)
    flow = make_flow(make_team(), name="Night digest")
    make_schedule(flow)
    monkeypatch.setattr(runway, "usual_costs", lambda *, team, flows: {flow.pk: Cost(credits=1_000_000)})
    return flow


def test_a_team_is_told_once_and_again_when_it_is_over(flow, monkeypatch, client):
    for _ in range(2):
        tasks.watch_credits()
    [notice] = Notice.objects.all()
    assert (notice.kind, notice.times, notice.over_at) == ("credits", 1, None)
    assert "the first without: Night digest" in notice.text and "5,000 are left" in notice.text
    client.force_login(owner_of(flow.team))
    assert "Night digest" in client.get(reverse("notice_list", args=[flow.team.slug])).content.decode()
    monkeypatch.setattr(runway, "usual_costs", lambda *, team, flows: {flow.pk: Cost(credits=0)})
    tasks.watch_credits()
    notice.refresh_from_db()
    assert notice.over_at


def test_a_pause_ends_it_and_what_is_not_known_is_not_counted(flow, monkeypatch):
    tasks.watch_credits()
    flow.schedules.update(paused_at=app_now())
    tasks.watch_credits()
    assert Notice.objects.get().over_at
    flow.schedules.update(paused_at=None)
    monkeypatch.setattr(runway, "usual_costs", lambda *, team, flows: {})
    tasks.watch_credits()
    assert Notice.objects.count() == 1


def test_other_teams_are_looked_at_when_one_fails(flow, monkeypatch):
    make_schedule(make_flow(make_team()))
    looked: list = []

    def look(team):
        looked.append(team)
        raise ValueError

    monkeypatch.setattr(runway, "look_at", look)
    tasks.watch_credits()
    assert len(looked) == 2
    assert not Notice.objects.exists()
