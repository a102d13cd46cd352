"""The list of personas says "never" of nobody whose first run waits."""

import re

import pytest
from django.urls import reverse

from accounts.models import Team
from personas.actions import run_flow
from personas.models import Run, StageRun
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow, make_persona

pytestmark = pytest.mark.django_db


@pytest.fixture
def team(client) -> Team:
    team = make_team()
    client.force_login(owner_of(team))
    return team


def start(team: Team) -> Run:
    """Start a flow whose only stage is a persona's."""
    persona = make_persona(team)
    stage = {"kind": "prompt", "name": "note", "persona": str(persona.pk), "template": "Write."}
    return run_flow(flow=make_flow(team, [stage]), by=owner_of(team), idempotency_key="once")


def last_run(client, team: Team) -> str:
    page = client.get(reverse("persona_list", args=[team.slug])).content.decode()
    return re.search(r'data-label="Last run"[^>]*>(.*?)</td>', page, re.DOTALL)[1]


def test_a_persona_that_has_nothing_to_do_never_ran(client, team):
    make_persona(team)

    assert "never" in last_run(client, team)


def test_a_first_run_that_waits_is_shown_and_leads_there(client, team):
    run = start(team)

    shown = last_run(client, team)

    assert "Waiting" in shown
    assert reverse("run_detail", args=[team.slug, run.pk]) in shown


def test_a_stage_that_a_stopped_run_never_reached_is_no_run(client, team):
    run = start(team)
    Run.objects.filter(pk=run.pk).update(state=Run.State.STOPPED, finished_at=run.queued_at)

    assert "never" in last_run(client, team)
    assert StageRun.objects.get(run=run).state == StageRun.State.WAITING
