"""One persona as a file: nothing secret leaves, nothing odd gets in, and the same file twice is one persona."""

import json
import secrets
from uuid import uuid4

import pytest
from django.urls import reverse

from accounts.permissions import Role
from audit.models import Event
from integrations.actions import connect, set_scopes
from integrations.registry import get_integration
from integrations.scopes import read_scopes
from personas import drafting, exchange
from personas.forms import PersonaForm
from personas.models import Persona, PersonaVersion
from tests.canaries import Canary
from tests.factories import make_member, make_stranger, make_team, owner_of
from tests.personas.builders import make_persona
from vault.models import Grant

pytestmark = pytest.mark.django_db

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
SAID = {
    "instructions": "Be brief.\nBe kind: “yes”.",
    "chain": ["openai/gpt-5-mini", "openai/*"],
    "routing": "cheapest",
    "format": "messages",
    "max_tokens": 300,
    "temperature": "0.30",
    "top_p": "0.95",
    "reasoning_effort": "low",
    "output_schema": SCHEMA,
    "knows_time": True,
    "most_steps": 3,
    "most_credits": 40,
}


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def owner(client, team):
    client.force_login(owner_of(team))
    return client


def export(persona) -> str:
    return exchange.export_persona(team=persona.team, persona=persona, by=owner_of(persona.team))


def take_in(team, text) -> exchange.Imported:
    return exchange.import_persona(team=team, text=text, by=owner_of(team))


def file_of(persona, **changes) -> str:
    return json.dumps(json.loads(export(persona)) | changes)


def page(team) -> str:
    return reverse("persona_import", args=[team.slug])


# --- what is refused --------------------------------------------------------------------

GOOD_SAID = {"instructions": "Be brief.", "chain": ["openai/gpt-5-mini"]}
GOOD = {
    "format": "definable.persona",
    "format_version": 1,
    "origin": "018f0000-0000-7000-8000-000000000001",
    "name": "Writer",
    "published": GOOD_SAID,
}
KEY = "sk-or-v1-" + "a" * 64


def said(**changes) -> dict:
    return {"published": GOOD_SAID | changes}


REFUSED = {
    "no json": ("{", "This is not JSON."),
    "a list": ("[]", "must be one JSON object"),
    "a field twice": ('{"format": 1, "format": 2}', "names one field twice"),
    "nul": ('{"format": "a\\u0000b"}', "NUL"),
    "another format": ({"format": "n8n"}, "format: This is no persona of Definable."),
    "a newer version": ({"format_version": 2}, "format_version: This installation reads version 1."),
    "an unknown field": ({"team": "x"}, "team: There is no such field."),
    "an unknown setting": (said(admin=True), "published.admin: There is no such field."),
    "a key as a field": ({KEY: "x"}, "(a name that is not shown): There is no such field."),
    "a wrong type": (said(max_tokens="100"), "published.max_tokens: This must be a whole number."),
    "too many tokens": (said(max_tokens=10**9), "published.max_tokens: This must be at most 128000."),
    "too warm": (said(temperature=2.5), "published.temperature: This must be at most 2."),
    "no model": (said(chain=["not a model"]), "published.chain.0: This does not have the right form."),
    "seven models": (said(chain=[f"a/b{n}" for n in range(7)]), "published.chain: This must have at most 6 entries."),
    "a pattern in order": (said(chain=["openai/*"]), "published: openai/* stands for several models."),
    "an odd schema": (said(output_schema={"type": "array"}), "published.output_schema: The schema must describe"),
    "endless steps": (said(most_steps=21), "published.most_steps: This must be at most 20."),
    "long instructions": (said(instructions="x" * 100_001), "published.instructions: This must be at most 100000"),
    "no name": ({"name": "  "}, "name: This does not have the right form."),
    "a name that moves the cursor": ({"name": "Writer\x1b[2J"}, "name: Character 7 is a control character"),
    "a name of two lines": ({"name": "Writer\nAdmin"}, "name: Character 7 is a control character"),
    "a purpose of two lines": ({"purpose": "a\u2028b"}, "purpose: Character 2 is a control character"),
    "a bell in the instructions": (
        said(instructions="Be\r\n\tbrief\x07"),
        "published.instructions: Character 11 is a control character, which nobody can see. Take it out.",
    ),
    "half a character": (said(instructions="\ud83d"), "half of a character pair"),
    "a long name": ({"name": "x" * 61}, "name: This must be at most 60 characters long."),
    "no origin": ({"origin": "mine"}, "origin: "),
    "nothing said": ({"published": None}, "The file holds neither a published version nor a draft."),
    "an unknown tool": (
        {"tools": [{"integration": "openrouter", "tool": "rm"}]},
        "tools.0: There is no such tool here.",
    ),
    "an unknown integration": ({"tools": [{"integration": "x", "tool": "rm"}]}, "tools.0: There is no such tool here."),
    "a tool with a connection": (
        {"tools": [{"integration": "openrouter", "tool": "get_credits", "connection": "x"}]},
        "tools.0.connection: There is no such field.",
    ),
    "a tool that is off": (
        {"tools": [{"integration": "openrouter", "tool": "get_credits", "rule": "off"}]},
        "tools.0.rule: This must be",
    ),
    "too many tools": ({"tools": [{"integration": "x", "tool": "y"}] * 101}, "tools: This must have at most 100"),
    "too large": (said(instructions="x", chain=["a/" + "b" * 1_100_000]), "larger than 1 MiB"),
}


@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED)
def test_a_file_is_refused_with_words_that_name_the_place(team, given, words):
    text = given if isinstance(given, str) else json.dumps(GOOD | given)
    with pytest.raises(exchange.NotAPersona) as refusal:
        take_in(team, text)
    assert words in str(refusal.value)
    assert KEY not in str(refusal.value)
    assert not team.personas.exists()


def test_a_refused_file_stays_in_the_field_with_the_reason(owner, team):
    answer = owner.post(page(team), {"text": '{"format": "n8n"}'})
    assert answer.status_code == 422
    assert "This is no persona of Definable." in answer.content.decode()
    assert "n8n" in answer.content.decode()


@pytest.mark.parametrize("role", [Role.MEMBER, Role.AUDITOR])
def test_who_may_not_edit_takes_nothing_in(client, team, role):
    client.force_login(make_member(team, role))
    assert client.post(page(team), {"text": json.dumps(GOOD)}).status_code == 403
    assert not team.personas.exists()


def test_a_stranger_exports_nothing(client, team):
    persona = make_persona(team)
    client.force_login(make_stranger())
    assert client.post(reverse("persona_export", args=[team.slug, persona.slug])).status_code == 404


def test_a_file_of_an_archived_persona_waits_until_it_is_brought_back(owner, team):
    persona = make_persona(team)
    text = file_of(persona, published=GOOD_SAID | {"instructions": "Changed."})
    Persona.objects.filter(pk=persona.pk).update(archived_at=persona.created_at)
    answer = owner.post(page(team), {"text": text})
    assert "Writer came from this file and is archived. Bring it back first." in answer.content.decode()
    assert persona.versions.count() == 1


# --- what leaves ------------------------------------------------------------------------


@pytest.mark.requirement("LLM-6")
def test_nothing_secret_and_no_id_of_the_team_leaves(owner, team):
    key = Canary("key", f"sk-or-v1-{secrets.token_hex(32)}")
    connection = connect(
        team=team,
        integration=get_integration("openrouter"),
        label="Main",
        kind="api_key",
        posted=key.text,
        by=owner_of(team),
    )
    persona = make_persona(team, **SAID)
    scopes = {
        "tools": {"get_credits": "allowed", "create_chat_completion": {"rule": "ask", "pinned": {"seed": 4711}}},
        "approvers": [str(owner_of(team).pk)],
    }
    set_scopes(connection=connection, holder=persona.pk, name="Writer", scopes=read_scopes(scopes), by=owner_of(team))
    answer = owner.post(reverse("persona_export", args=[team.slug, persona.slug]))
    text = answer.content.decode()
    assert answer["Content-Disposition"] == 'attachment; filename="writer.persona.json"'
    assert not [spelling for spelling in key.spellings if spelling in text.lower()]
    ids = [team.pk, team.slug, persona.pk, connection.pk, connection.credential_id, owner_of(team).pk]
    ids += [owner_of(team).email, "4711", "Main", persona.version_id]
    assert [hidden for hidden in ids if str(hidden) in text] == []
    assert json.loads(text)["tools"] == [
        {"integration": "openrouter", "tool": "create_chat_completion", "rule": "ask"},
        {"integration": "openrouter", "tool": "get_credits", "rule": "allowed"},
    ]
    assert Event.objects.filter(team_id=team.pk, action="personas.persona.exported").count() == 1


# --- what comes in ----------------------------------------------------------------------


def test_a_persona_comes_into_another_team_as_it_was(team):
    persona = make_persona(make_team(), **SAID)
    drafting.save_draft(
        of=persona, name="Writer", purpose="Writes", by=owner_of(persona.team), **SAID | {"most_steps": 9}
    )
    persona = Persona.objects.get(pk=persona.pk)
    found = take_in(team, export(persona))
    assert [version.says for version in found.persona.versions.order_by("number")] == [
        persona.version.says,
        persona.draft.says,
    ]
    assert (found.persona.version, found.draft.number, found.persona.draft) == (None, 2, found.draft)
    again = Persona.objects.get(pk=found.persona.pk)
    assert json.loads(export(again)) | {"published": None} == json.loads(export(persona)) | {"published": None}
    assert not PersonaVersion.objects.filter(persona=again, published_at__isnull=False).exists()


def test_an_import_lends_nothing_and_says_what_it_wants(owner, team):
    tools = [{"integration": "openrouter", "tool": "get_credits", "rule": "ask"}]
    answer = owner.post(page(team), {"text": json.dumps(GOOD | {"tools": tools})}, follow=True)
    text = answer.content.decode()
    assert "Imported as draft 1" in text
    assert "1 tool it was made for is not lent yet." in text
    persona = team.personas.get()
    assert (persona.version, persona.wants) == (None, tools)
    assert not Grant.objects.filter(team=team).exists()


def test_the_same_file_twice_is_one_persona_and_one_version(owner, team):
    for _ in range(2):
        answer = owner.post(page(team), {"text": json.dumps(GOOD)}, follow=True)
    assert "Already here: the file holds nothing new" in answer.content.decode()
    persona = team.personas.get()
    assert persona.versions.count() == 1
    owner.post(reverse("persona_publish", args=[team.slug, persona.slug]), {"number": "1"})
    assert take_in(team, json.dumps(GOOD)).draft is None


def test_a_file_back_home_becomes_a_draft_beside_what_is_in_use(owner, team):
    persona = make_persona(team)
    changed = json.loads(export(persona))
    changed["published"]["instructions"] = "Be brief and kind."
    answer = owner.post(page(team), {"text": json.dumps(changed)}, follow=True)
    text = answer.content.decode()
    assert "From version 1 to 2" in text
    assert '<ins><span class="sr">added: </span> brief and kind.' in text
    persona.refresh_from_db()
    assert (persona.version.number, persona.draft.number) == (1, 2)


def test_two_teams_take_in_one_file_apart(team):
    other = make_team()
    first, second = take_in(team, json.dumps(GOOD)), take_in(other, json.dumps(GOOD))
    assert first.persona.pk != second.persona.pk
    assert first.persona.origin == second.persona.origin


def test_a_name_that_is_taken_gets_an_address_of_its_own(team):
    make_persona(team)
    found = take_in(team, json.dumps(GOOD | {"origin": str(uuid4())}))
    assert (found.persona.name, found.persona.slug) == ("Writer", "writer-2")


def test_what_a_file_could_not_carry_is_refused_where_it_is_typed():
    typed = {"name": "Writer\x1b", "purpose": "a\x9fb", "instructions": "Be\r\n\tbrief"}
    errors = PersonaForm(typed).errors
    assert errors["name"] == ["Character 7 is a control character, which nobody can see. Take it out."]
    assert "purpose" in errors and "instructions" not in errors
    assert "instructions" in PersonaForm(typed | {"instructions": "\x07"}).errors


def test_hostile_texts_of_a_file_stay_text(owner, team):
    hostile = "<script>alert(1)</script>\u202egnp"
    answer = owner.post(
        page(team), {"text": json.dumps(GOOD | {"name": hostile} | said(instructions=hostile))}, follow=True
    )
    text = answer.content.decode()
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text
