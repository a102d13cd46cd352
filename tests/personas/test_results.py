"""What a run gave is saved as a file or shared inside its team: nobody else reads it, and no browser runs it."""

import json

import pytest
from django.urls import reverse

from accounts.permissions import Role
from audit.models import Event
from personas import actions
from personas.execution import work
from personas.models import Run
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_flow

pytestmark = pytest.mark.django_db

HOSTILE = "# Hello\n\n<script>alert(1)</script>\r\nSet-Cookie: a=b"


@pytest.fixture
def team(db):
    return make_team()


@pytest.fixture
def run(team) -> Run:
    flow = make_flow(team, [{"kind": "combine", "name": "one", "template": HOSTILE}], name='Brief "x"\\')
    run = actions.run_flow(flow=flow, by=owner_of(team), idempotency_key="first")
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    return run


def told(run: Run) -> list[str]:
    return [e.action for e in Event.objects.filter(run_id=run.pk).order_by("id") if "share" in e.action]


def test_a_result_is_saved_as_it_is_and_never_shown_by_the_browser(client, team, run):
    client.force_login(make_member(team, Role.AUDITOR))
    here = reverse("run_download", args=[team.slug, run.pk])
    for query, kind, name in [("", "text/markdown", "md"), ("?format=json", "application/json", "json")]:
        answer = client.get(here + query)
        assert answer["Content-Type"] == f"{kind}; charset=utf-8"
        assert answer["Content-Disposition"] == f'attachment; filename="brief-x.{name}"'
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer["Content-Security-Policy"]
        assert "Set-Cookie" not in answer.headers
    assert json.loads(answer.content)["output"] == HOSTILE
    assert client.get(here).content.decode() == HOSTILE


def test_what_did_not_succeed_has_no_result_to_save_or_share(client, team, run):
    Run.objects.update(state="failed")
    client.force_login(owner_of(team))
    page = reverse("run_detail", args=[team.slug, run.pk])
    assert client.get(reverse("run_download", args=[team.slug, run.pk])).url == page
    answer = client.post(reverse("run_share", args=[team.slug, run.pk]), follow=True)
    assert "has a result to share" in answer.content.decode()
    assert Run.objects.get().shared_at is None


def test_a_shared_result_is_a_page_for_members_alone_until_it_is_taken_back(client, team, run):
    share, unshare, page = (
        reverse(name, args=[team.slug, run.pk]) for name in ("run_share", "run_unshare", "run_result")
    )
    client.force_login(owner_of(team))
    for _ in range(2):
        shown = client.post(share, follow=True).content.decode()
    assert f"by {owner_of(team).email}" in shown
    assert "<script>alert" not in shown
    assert told(run) == ["personas.run.shared"]

    client.force_login(make_member(team, Role.AUDITOR))
    assert "Stop sharing" not in client.get(page).content.decode()
    assert client.post(unshare).status_code == 403
    client.force_login(owner_of(make_team()))
    assert client.get(page).status_code == 404

    client.force_login(owner_of(team))
    for _ in range(2):
        client.post(unshare)
    assert "not shared" in client.get(page).content.decode()
    assert "Hello" not in client.get(page).content.decode()
    assert told(run) == ["personas.run.shared", "personas.run.unshared"]
