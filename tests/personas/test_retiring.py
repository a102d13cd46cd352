"""Putting personas away says first what stops, and a copy never has more than its source."""

from uuid import uuid4

import pytest
from django.urls import reverse

from accounts.permissions import Role
from audit.models import Event
from integrations.actions import set_scopes
from integrations.models import Policy
from integrations.policy.rules import read_rules
from integrations.policy_actions import set_policy
from integrations.scopes import read_scopes
from personas import actions, drafting, retiring
from personas.execution import work
from personas.models import Persona, Run, Schedule
from tests.factories import make_member, make_stranger, make_team, owner_of
from tests.personas.builders import make_flow, make_persona, make_schedule
from tests.route_samples import a_connection
from vault.models import Grant

pytestmark = pytest.mark.django_db


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def persona(team) -> Persona:
    return make_persona(team)


@pytest.fixture
def owner(client, team):
    client.force_login(owner_of(team))
    return client


def url(name, persona, *args) -> str:
    return reverse(name, args=[persona.team.slug, persona.slug, *args])


def flow_of(persona, name="Digest"):
    stage = {"kind": "prompt", "name": "draft_it", "persona": str(persona.pk), "template": "hi"}
    return make_flow(persona.team, [stage], name=name)


def lend(persona, scopes):
    connection = persona.team.connections.get(pk=a_connection(persona.team))
    set_scopes(
        connection=connection,
        holder=persona.pk,
        name=persona.name,
        scopes=read_scopes(scopes),
        by=owner_of(persona.team),
    )
    return connection


def is_archived(persona) -> bool:
    persona.refresh_from_db()
    return persona.archived_at is not None


# --- who may not ------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["persona_archive", "persona_duplicate", "persona_bring_back"])
@pytest.mark.parametrize("role", [Role.MEMBER, Role.AUDITOR])
def test_who_may_not_edit_puts_nothing_away(client, team, persona, role, page):
    client.force_login(make_member(team, role))
    assert client.post(url(page, persona), {"name": "Copy"}).status_code == 403
    assert (is_archived(persona), team.personas.count()) == (False, 1)


@pytest.mark.parametrize("page", ["persona_archive", "persona_duplicate", "persona_bring_back"])
def test_another_teams_persona_is_not_found(client, persona, page):
    client.force_login(make_stranger())
    assert client.post(url(page, persona), {"name": "Copy"}).status_code == 404
    assert (is_archived(persona), persona.team.personas.count()) == (False, 1)


@pytest.mark.parametrize("page", ["persona_edit", "persona_archive", "persona_duplicate", "persona_wishes", "console"])
def test_an_archived_persona_is_not_worked_on(owner, persona, page):
    retiring.archive_persona(persona=persona, by=owner_of(persona.team), pause=False, seen=())
    assert owner.get(url(page, persona)).status_code == 404


# --- archiving --------------------------------------------------------------------------


def test_archiving_names_what_stops_before_it_happens(owner, persona):
    flow = flow_of(persona)
    make_schedule(flow)
    actions.run_flow(flow=flow, by=owner_of(persona.team), idempotency_key=uuid4().hex)
    lend(persona, {"tools": {"get_credits": "allowed"}})
    page = owner.get(url("persona_archive", persona)).content.decode()
    assert "<b>Digest</b> fires" in page
    assert "1 run under way fails when it reaches its stage" in page
    assert "Its grants stay as they are" in page
    assert not is_archived(persona)


def test_a_schedule_that_was_not_shown_is_not_stopped_unseen(owner, persona):
    flow = flow_of(persona)
    make_schedule(flow)
    answer = owner.post(url("persona_archive", persona), {"pause": "on"})
    assert answer.status_code == 409
    assert "Nothing was archived." in answer.content.decode()
    assert not is_archived(persona)
    assert Schedule.objects.get(flow=flow).paused_at is None


@pytest.mark.parametrize("seen", ["", "no-uuid", "3ec93594-a7c3-4a9f-afb0-e17316958956"])
def test_only_the_schedules_that_are_there_count_as_seen(owner, persona, seen):
    make_schedule(flow_of(persona))
    assert owner.post(url("persona_archive", persona), {"seen": seen}).status_code == 409
    assert not is_archived(persona)


@pytest.mark.parametrize("pause", [True, False])
def test_archiving_pauses_the_schedules_if_it_was_asked_to(owner, persona, pause):
    schedule = make_schedule(flow_of(persona))
    other = make_schedule(make_flow(persona.team, name="Other"))
    owner.post(url("persona_archive", persona), {"seen": str(schedule.pk)} | ({"pause": "on"} if pause else {}))
    assert is_archived(persona)
    schedule.refresh_from_db()
    other.refresh_from_db()
    assert (schedule.paused_at is not None, other.paused_at) == (pause, None)
    event = Event.objects.get(team_id=persona.team_id, action="personas.persona.archived")
    assert event.details == {"schedules": ["Digest"], "paused": pause}


def test_a_run_of_an_archived_persona_ends_with_the_reason(owner, persona):
    flow = flow_of(persona)
    run = actions.run_flow(flow=flow, by=owner_of(persona.team), idempotency_key=uuid4().hex)
    owner.post(url("persona_archive", persona), {})
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    assert run.state == Run.State.FAILED
    assert "Writer is archived" in run.failure


def test_archived_personas_have_a_list_of_their_own_and_come_back(owner, team, persona):
    make_persona(team, name="Stays")
    owner.post(url("persona_archive", persona), {})
    listed = reverse("persona_list", args=[team.slug])
    assert url("persona_detail", persona) not in owner.get(listed).content.decode()
    archived = owner.get(listed, {"show": "archived"}).content.decode()
    assert url("persona_detail", persona) in archived
    assert "Stays" not in archived
    page = owner.get(url("persona_detail", persona)).content.decode()
    assert "Bring back" in page
    assert url("persona_edit", persona) not in page

    for _ in range(2):
        owner.post(url("persona_bring_back", persona))
    assert not is_archived(persona)
    assert Event.objects.filter(team_id=team.pk, action="personas.persona.brought_back").count() == 1


def test_where_a_persona_is_used_is_listed(owner, persona):
    make_schedule(flow_of(persona))
    lend(persona, {"tools": {"get_credits": "allowed", "get_current_key": "off"}})
    page = owner.get(url("persona_uses", persona)).content.decode()
    assert "stage draft_it" in page
    assert "next <time" in page
    assert "1 tool<" in page


# --- duplicating ------------------------------------------------------------------------


def copied(owner, persona, **data) -> Persona:
    answer = owner.post(url("persona_duplicate", persona), {"name": "Copy"} | data)
    assert answer.status_code == 302, answer.content.decode()
    return persona.team.personas.select_related("version", "draft").get(name="Copy")


def test_a_copy_says_the_same_and_is_lent_nothing(owner, persona):
    lend(persona, {"tools": {"get_credits": "ask"}})
    copy = copied(owner, persona)
    assert copy.version.says == persona.version.says
    assert (copy.version.number, copy.origin != persona.origin) == (1, True)
    assert not Grant.objects.filter(holder=copy.pk).exists()
    assert copy.wants == [{"integration": "openrouter", "tool": "get_credits", "rule": "ask"}]
    assert Event.objects.get(target=f"persona:{copy.pk}", action="personas.persona.duplicated").details == {
        "source": str(persona.pk),
        "grants": False,
    }


def test_a_copy_with_grants_has_the_same_limits_and_no_more(owner, persona):
    scopes = {"tools": {"create_chat_completion": {"rule": "ask", "max_tokens": 50}}, "models": {"deny": ["*:free"]}}
    lend(persona, scopes)
    copy = copied(owner, persona, with_grants="on")
    mine, theirs = (Grant.objects.live().get(holder=each.pk).scopes for each in (copy, persona))
    assert mine == theirs
    assert copy.wants == []


def test_a_copy_is_under_the_same_policy(owner, persona):
    rules = read_rules({"data_collection": "deny"})
    set_policy(team=persona.team, holder=persona.pk, name="Writer", rules=rules, by=owner_of(persona.team))
    copy = copied(owner, persona)
    kept = {policy.holder: policy.rules for policy in Policy.objects.filter(team=persona.team)}
    assert kept[copy.pk] == kept[persona.pk]


def test_a_copy_of_what_was_never_published_is_a_draft(owner, persona):
    Persona.objects.filter(pk=persona.pk).update(version=None, draft=persona.version)
    copy = copied(owner, persona)
    assert (copy.version, copy.draft.number, copy.draft.published_at) == (None, 1, None)


def test_a_draft_beside_a_published_version_is_not_copied(owner, persona):
    drafting.save_draft(of=persona, name="Writer", purpose="", by=owner_of(persona.team), instructions="Secretly")
    copy = copied(owner, persona)
    assert (copy.version.instructions, copy.draft) == ("Be brief.", None)
