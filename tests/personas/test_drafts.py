"""Drafts: what is saved is not in use until somebody publishes it, and nobody overwrites what they have not seen."""

import threading
from uuid import uuid4

import pytest
from django.db import connection
from django.urls import reverse

from accounts.permissions import Role
from audit.models import Event
from personas import actions, drafting
from personas.models import Persona, PersonaVersion
from tests.factories import make_member, make_stranger, make_team, owner_of
from tests.personas.builders import make_flow, make_persona

pytestmark = pytest.mark.django_db

CALLED = {"name": "Writer", "purpose": "Writes"}
SAID = {"instructions": "Be brief.", "chain": ["openai/gpt-5-mini"], "max_tokens": 256}
TYPED = {
    "name": "Writer",
    "purpose": "Writes",
    "instructions": "Be exact.",
    "model": "openai/gpt-5-mini",
    "max_tokens": "256",
}


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


def save(persona, **says) -> PersonaVersion:
    return drafting.save_draft(of=persona, by=owner_of(persona.team), **CALLED, **SAID | says)


def url(name, persona, *args) -> str:
    return reverse(name, args=[persona.team.slug, persona.slug, *args])


def events(persona) -> list[str]:
    told = Event.objects.filter(team_id=persona.team_id, target=f"persona:{persona.pk}").order_by("at", "id")
    return [event.action.removeprefix("personas.persona.") for event in told if not event.action.endswith("checked")]


def now(persona) -> tuple[int | None, int | None]:
    """The numbers in use and in draft."""
    persona = Persona.objects.select_related("version", "draft").get(pk=persona.pk)
    return persona.version and persona.version.number, persona.draft and persona.draft.number


POSTS = [
    ("persona_publish", (), {"number": "2"}),
    ("persona_discard", (), {"number": "2"}),
    ("persona_restore", (1,), {"seen": "2"}),
    ("persona_edit", (), TYPED | {"do": "publish"}),
]


# --- who may not ------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "args", "data"), POSTS, ids=[post[0] for post in POSTS])
@pytest.mark.parametrize("role", [Role.MEMBER, Role.AUDITOR])
def test_who_may_not_edit_changes_nothing(client, team, persona, role, page, args, data):
    save(persona)
    client.force_login(make_member(team, role))
    assert client.post(url(page, persona, *args), data).status_code == 403
    assert now(persona) == (1, 2)


@pytest.mark.parametrize(("page", "args", "data"), POSTS, ids=[post[0] for post in POSTS])
def test_another_teams_persona_is_not_found(client, persona, page, args, data):
    save(persona)
    client.force_login(make_stranger())
    assert client.post(url(page, persona, *args), data).status_code == 404
    assert now(persona) == (1, 2)


@pytest.mark.parametrize(("page", "args", "data"), POSTS, ids=[post[0] for post in POSTS])
def test_an_archived_personas_draft_stays_a_draft(owner, persona, page, args, data):
    save(persona)
    Persona.objects.filter(pk=persona.pk).update(archived_at=persona.created_at)
    assert owner.post(url(page, persona, *args), data).status_code == 404
    assert now(persona) == (1, 2)


def test_nothing_is_done_to_a_persona_that_was_archived_meanwhile(persona):
    version = save(persona)
    Persona.objects.filter(pk=persona.pk).update(archived_at=persona.created_at)
    by = owner_of(persona.team)
    for act in (
        lambda: save(persona),
        lambda: drafting.publish(of=persona, number=version.number, by=by),
        lambda: drafting.discard(of=persona, number=version.number, by=by),
        lambda: drafting.restore(of=persona, number=1, by=by),
    ):
        with pytest.raises(drafting.IsArchived):
            act()
    assert now(persona) == (1, 2)


@pytest.mark.parametrize("number", ["", "0", "x", "-1", "9" * 400, "1"])
def test_what_is_not_the_draft_is_not_published(owner, persona, number):
    save(persona)
    answer = owner.post(url("persona_publish", persona), {"number": number}, follow=True)
    assert "Nothing was published" in answer.content.decode()
    assert now(persona) == (1, 2)


# --- two tabs ---------------------------------------------------------------------------


@pytest.mark.parametrize("do", ["draft", "publish"])
def test_a_save_on_top_of_a_version_one_has_not_seen_is_told_and_loses_nothing(owner, persona, do):
    save(persona, instructions="From the other tab.")
    answer = owner.post(url("persona_edit", persona), TYPED | {"seen": "1", "do": do})
    text = answer.content.decode()
    assert answer.status_code == 409
    assert "Version 2 was saved meanwhile" in text
    assert "Be exact." in text
    assert 'name="seen" value="2"' in text
    assert now(persona) == (1, 2)

    owner.post(url("persona_edit", persona), TYPED | {"seen": "2", "do": "draft"})
    assert now(persona) == (1, 3)


def test_the_same_form_sent_twice_is_one_version(owner, persona):
    for _ in range(2):
        assert owner.post(url("persona_edit", persona), TYPED | {"seen": "1", "do": "draft"}).status_code == 302
    assert now(persona) == (1, 2)


def test_the_same_form_published_twice_is_one_version(owner, persona):
    for _ in range(2):
        assert owner.post(url("persona_edit", persona), TYPED | {"seen": "1", "do": "publish"}).status_code == 302
    assert now(persona) == (2, None)


def test_a_draft_that_was_replaced_meanwhile_is_not_published(owner, persona):
    save(persona, instructions="seen")
    save(persona, instructions="not seen")
    answer = owner.post(url("persona_publish", persona), {"number": "2"}, follow=True)
    assert "That is not the draft any more." in answer.content.decode()
    assert now(persona) == (1, 3)


@pytest.mark.django_db(transaction=True)
def test_of_ten_saves_at_once_one_wins_and_the_others_are_told(persona):
    told, saved = [], []

    def one(text: str) -> None:
        try:
            saved.append(save(persona, instructions=text, seen=1).number)
        except drafting.Outdated as conflict:
            told.append(conflict.newest.number)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(uuid4().hex,)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (saved, told) == ([2], [2] * 9)


# --- what it does -----------------------------------------------------------------------


def test_a_draft_is_not_in_use_until_it_is_published(owner, persona):
    owner.post(url("persona_edit", persona), TYPED | {"seen": "1", "do": "draft"})
    assert now(persona) == (1, 2)
    page = owner.get(url("persona_detail", persona)).content.decode()
    assert "Draft 2 is not in use." in page
    assert "Be brief." in page

    owner.post(url("persona_publish", persona), {"number": "2"})
    assert now(persona) == (2, None)
    version = persona.versions.get(number=2)
    assert version.published_at
    assert "Be exact." in owner.get(url("persona_detail", persona)).content.decode()
    assert events(persona) == ["made", "drafted", "published"]


def test_a_discarded_draft_stays_in_the_history(owner, persona):
    save(persona)
    owner.post(url("persona_discard", persona), {"number": "2"})
    assert now(persona) == (1, None)
    assert "never published" in owner.get(url("persona_versions", persona)).content.decode()
    assert events(persona) == ["made", "drafted", "draft_discarded"]


def test_the_editor_goes_on_where_the_draft_is(owner, persona):
    save(persona, instructions="Half done")
    page = owner.get(url("persona_edit", persona)).content.decode()
    assert "Half done" in page
    assert "You edit draft 2." in page


def test_an_old_version_is_restored_as_a_draft_that_says_the_same(owner, persona):
    actions.save_persona(persona=persona, by=owner_of(persona.team), **CALLED, **SAID | {"instructions": "New."})
    owner.post(url("persona_restore", persona, 1), {"seen": "2"})
    assert now(persona) == (2, 3)
    assert persona.versions.get(number=3).says == persona.versions.get(number=1).says
    assert events(persona) == ["made", "saved", "restored"]


def test_restoring_on_top_of_a_version_one_has_not_seen_is_refused(owner, persona):
    save(persona, instructions="not seen")
    answer = owner.post(url("persona_restore", persona, 1), {"seen": "1"}, follow=True)
    assert "Version 2 was saved meanwhile." in answer.content.decode()
    assert now(persona) == (1, 2)


def test_every_setting_is_kept_by_the_editor(owner, persona):
    typed = TYPED | {
        "temperature": "0.5",
        "top_p": "0.9",
        "reasoning_effort": "high",
        "output_schema": '{"type": "object", "properties": {}}',
        "format": "messages",
        "knows_time": "on",
        "knows_member": "on",
        "most_steps": "3",
        "most_tool_calls": "0",
        "most_seconds": "60",
        "most_credits": "70",
        "seen": "1",
    }
    owner.post(url("persona_edit", persona), typed)
    says = persona.versions.get(number=2).says
    said = {name: str(says[name]) for name in ("temperature", "top_p", "reasoning_effort", "format", "most_tool_calls")}
    assert said == {
        "temperature": "0.50",
        "top_p": "0.90",
        "reasoning_effort": "high",
        "format": "messages",
        "most_tool_calls": "0",
    }
    assert says["output_schema"] == {"type": "object", "properties": {}}
    assert (says["knows_time"], says["knows_member"], says["most_seconds"]) == (True, True, 60)
    page = owner.get(url("persona_version", persona, 2)).content.decode()
    assert "Anthropic messages" in page
    assert "the time and who asks" in page


def test_a_persona_that_was_never_published_cannot_be_given_a_stage(persona):
    Persona.objects.filter(pk=persona.pk).update(version=None, draft=persona.version)
    stage = {"kind": "prompt", "name": "one", "persona": str(persona.pk), "template": "hi"}
    with pytest.raises(Exception, match="choose one of this team's personas"):
        make_flow(persona.team, [stage])


def test_the_only_draft_of_a_persona_cannot_be_discarded(owner, persona):
    Persona.objects.filter(pk=persona.pk).update(version=None, draft=persona.version)
    answer = owner.post(url("persona_discard", persona), {"number": "1"}, follow=True)
    assert "this draft is all there is" in answer.content.decode()
    assert now(persona) == (None, 1)


@pytest.mark.parametrize(
    "page", ["persona_detail", "persona_versions", "persona_uses", "console", "persona_scopes_try", "persona_matrix"]
)
def test_a_persona_that_was_never_published_has_its_pages(owner, persona, page):
    Persona.objects.filter(pk=persona.pk).update(version=None, draft=persona.version)
    assert owner.get(url(page, persona)).status_code == 200
