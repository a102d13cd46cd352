"""What a person sees, and what is kept, while a server is away."""

import os
import subprocess
import sys
from uuid import uuid4

import pytest
from django.conf import settings
from django.db import connection
from django.urls import reverse

from integrations.actions import connect, enable_for, run_test
from integrations.models import Call
from integrations.openrouter.tools import OPENROUTER
from personas.actions import run_flow
from personas.execution import work
from personas.models import Run
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow, make_persona

NOBODY_LISTENS = "127.0.0.1:1"

START_A_RUN = """
import django, sys
django.setup()
from accounts.models import Team
from personas.actions import run_flow
team = Team.objects.get(slug=sys.argv[1])
flow = team.flows.get()
print(run_flow(flow=flow, by=flow.created_by, idempotency_key="once").pk)
"""


@pytest.mark.django_db(transaction=True)
def test_without_a_broker_a_run_is_queued_all_the_same():
    flow = make_flow(make_team())
    database = connection.settings_dict
    url = f"postgresql://{database['USER']}@/{database['NAME']}?host={database['HOST']}"
    env = os.environ | {"DATABASE_URL": url, "CELERY_BROKER_URL": f"redis://{NOBODY_LISTENS}/0"}

    said = subprocess.run(
        [sys.executable, "-c", START_A_RUN, flow.team.slug],
        env=env | {"DJANGO_SETTINGS_MODULE": "definable.settings"},
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert said.returncode == 0, said.stderr
    run = Run.objects.get(pk=said.stdout.strip().splitlines()[-1])
    assert run.state == Run.State.QUEUED
    work(run_id=run.pk, owner="the sweeper's hint")
    run.refresh_from_db()
    assert run.state == Run.State.SUCCEEDED


@pytest.mark.django_db
def test_a_run_that_nobody_takes_says_so(client, clock):
    flow = make_flow(make_team())
    run = run_flow(flow=flow, by=owner_of(flow.team), idempotency_key=uuid4().hex)
    client.force_login(owner_of(flow.team))
    url = reverse("run_detail", args=[flow.team.slug, run.pk])
    assert "No worker has taken this run yet" not in client.get(url).content.decode()
    clock(seconds=20)
    assert "No worker has taken this run yet" in client.get(url).content.decode()


@pytest.mark.django_db
def test_without_the_provider_a_run_fails_with_a_reason_and_takes_nothing(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    team = make_team()
    persona, owner = make_persona(team), owner_of(team)
    key = sandbox.key()
    made = connect(team=team, integration=OPENROUTER, label="Main", kind="api_key", posted=key, by=owner)
    run_test(connection=made)
    enable_for(connection=made, persona_id=persona.pk, tools=["get_current_key"], by=owner)
    stage = {"kind": "tool", "name": "one", "persona": str(persona.pk), "tool": "get_current_key"}
    settings.INTEGRATION_URLS = {"openrouter": f"http://{NOBODY_LISTENS}/api/v1"}

    run = run_flow(flow=make_flow(team, [stage]), by=owner, idempotency_key=uuid4().hex)
    work(run_id=run.pk, owner="test")

    run.refresh_from_db()
    calls = Call.objects.filter(run_id=run.pk).values_list("state", "outcome", "credits")
    assert list(calls) == [("failed", "unreachable", 0)] * 2  # the host gets a second chance, and no third
    assert run.state == "failed"
    assert "cannot be reached" in run.failure
