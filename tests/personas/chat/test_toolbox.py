"""What a model is offered in a chat: exactly what its persona may use, in few words."""

import json
from datetime import timedelta

import pytest

from accounts.models import Membership
from accounts.permissions import Role
from audit.clock import app_now
from audit.ids import uuid7
from integrations import actions
from integrations.invalid import Problem
from integrations.models import Connection
from integrations.registry import InvalidArguments, get_tool, in_brief, integrations, json_schema, parse_arguments
from integrations.scopes import read_scopes
from personas.chat import toolbox
from personas.models import PersonaVersion
from tests.factories import make_member
from tests.integrations.desk import CHAT, MODEL, Desk
from tests.personas.builders import make_persona

pytestmark = pytest.mark.django_db

MESSAGE, COUNT, KEY, CREDITS = "create_message", "get_models_count", "get_current_key", "get_credits"
MODELS = "list_available_models"


@pytest.fixture
def desk(sandbox, settings, known_catalog) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    return Desk(sandbox)


@pytest.fixture
def persona(desk):
    return make_persona(desk.team)


def lend(desk, persona, tools, *, connection=None, **more):
    connection = connection or desk.connection
    scopes = read_scopes({"tools": tools} | more)
    actions.set_scopes(connection=connection, holder=persona.pk, name=persona.name, scopes=scopes, by=desk.owner)


def box(desk, persona, *, user=None, now=None, run_id=None, **version):
    version = PersonaVersion(**{"most_tool_calls": 20} | version)
    user = user or desk.owner
    return toolbox.offered(
        team=desk.team, persona=persona, user=user, version=version, now=now or app_now(), run_id=run_id
    )


def names(found):
    return [each.name for each in found.offered]


# --- which ------------------------------------------------------------------------------


def test_nothing_is_offered_without_a_grant(desk, persona):
    other = make_persona(desk.team, name="Other")
    lend(desk, other, {COUNT: "allowed"})

    assert names(box(desk, persona)) == []


@pytest.mark.requirement("LLM-1")
def test_exactly_what_is_on_is_offered_and_what_asks_first_says_so(desk, persona):
    lend(desk, persona, {COUNT: "allowed", KEY: "ask", MODELS: "off"})

    found = box(desk, persona)

    assert names(found) == [KEY, COUNT]
    assert (found.find(KEY).asks, found.find(COUNT).asks, found.find(MODELS)) == (True, False, None)
    assert "A person is asked before each call." in found.find(KEY).description
    assert "A person" not in found.find(COUNT).description
    tool = get_tool("openrouter", COUNT)
    assert found.find(COUNT).description == f"{tool.summary} {tool.when_to_use}"


def test_a_withdrawn_tool_and_one_that_the_key_does_not_reach_are_never_offered(desk, persona):
    everything = {tool.name: "allowed" for tool in desk.connection.provider.tools}
    lend(desk, persona, everything)

    assert set(names(box(desk, persona))) == everything.keys() - {"create_coinbase_charge", CREDITS}


def test_a_management_key_brings_what_only_it_can(desk, persona):
    treasury = desk.connect(desk.sandbox.key(management=True), label="Treasury", kind="management")
    lend(desk, persona, {CREDITS: "allowed", CHAT: "allowed"}, connection=treasury)

    assert names(box(desk, persona)) == [CREDITS]


@pytest.mark.parametrize("state", [state for state in Connection.State if state != "ready"])
def test_a_connection_that_does_not_work_offers_nothing(desk, persona, state):
    lend(desk, persona, {COUNT: "allowed"})
    Connection.objects.filter(pk=desk.connection.pk).update(state=state)

    assert names(box(desk, persona)) == []


@pytest.mark.parametrize("lost", ["grant", "connection", "member", "role", "persona", "no calls"])
def test_what_is_taken_away_is_gone_at_once(desk, persona, lost):
    lend(desk, persona, {COUNT: "allowed"})
    member, version = make_member(desk.team, Role.MEMBER), {}
    assert names(box(desk, persona, user=member)) == [COUNT]

    match lost:
        case "grant":
            actions.disable_for(connection=desk.connection, persona_id=persona.pk, by=desk.owner)
        case "connection":
            actions.revoke(connection=desk.connection, by=desk.owner)
        case "member":
            Membership.objects.filter(user=member).delete()
        case "role":
            Membership.objects.filter(user=member).update(role=Role.AUDITOR)
        case "persona":
            persona.archived_at = app_now()
        case _:
            version = {"most_tool_calls": 0}

    assert names(box(desk, persona, user=member, **version)) == []


def test_a_grant_that_ended_or_is_for_one_run_offers_nothing_to_others(desk, persona):
    now, run = app_now(), uuid7()
    lend(desk, persona, {COUNT: "allowed"}, ends_at=(now + timedelta(hours=1)).isoformat())
    assert names(box(desk, persona)) == [COUNT]
    assert names(box(desk, persona, now=now + timedelta(hours=2))) == []

    lend(desk, persona, {COUNT: "allowed"}, only_run=str(run))
    assert (names(box(desk, persona, run_id=run)), names(box(desk, persona))) == ([COUNT], [])


def test_a_tool_that_no_schedule_may_use_is_offered_in_a_chat(desk, persona):
    lend(desk, persona, {COUNT: {"rule": "allowed", "unattended": False}})

    assert names(box(desk, persona)) == [COUNT]


# --- names ------------------------------------------------------------------------------


def test_the_same_tool_of_two_connections_has_two_names(desk, persona):
    label = f"Zweites Konto – {'x' * 60}"
    second, third = (desk.connect(desk.sandbox.key(), label=name) for name in (label, f"{label}!"))
    for connection in (desk.connection, second, third):
        lend(desk, persona, {MODELS: "allowed"}, connection=connection)

    found = box(desk, persona)

    assert [each.connection.pk for each in found.offered] == [desk.connection.pk, second.pk, third.pk]
    assert names(found)[0] == MODELS
    assert names(found)[1].startswith(f"{MODELS}_zweites_konto_xxx")
    assert len(set(names(found))) == 3
    assert all(len(name) <= 64 and name.replace("_", "").isalnum() and name.isascii() for name in names(found))
    assert f"the connection {label}" in found.offered[1].description
    assert found.find(names(found)[2]).connection.pk == third.pk


# --- schemas ----------------------------------------------------------------------------


def test_what_is_pinned_is_hidden_and_what_is_capped_is_lower(desk, persona):
    limits = {"rule": "allowed", "pinned": {"model": MODEL, "temperature": 0}, "max_tokens": 300, "max_messages": 4}
    lend(desk, persona, {CHAT: limits})

    each = box(desk, persona).find(CHAT)

    assert each.schema["properties"].keys() == {"messages", "max_completion_tokens"}
    assert each.schema["required"] == ["messages"]
    assert each.schema["properties"]["max_completion_tokens"] | {"description": ""} == {
        "type": "integer",
        "minimum": 1,
        "maximum": 300,
        "default": 300,
        "description": "",
    }
    assert each.schema["properties"]["messages"]["maxItems"] == 4
    assert each.pinned == {"model": MODEL, "temperature": 0}
    assert MODEL not in json.dumps(box(desk, persona).functions("chat"))


def test_the_models_that_a_grant_allows_are_named(desk, persona):
    lend(desk, persona, {CHAT: "allowed", COUNT: "allowed"}, models={"allow": ["openai/*"], "deny": ["*:free"]})

    found = box(desk, persona)

    assert "Only these models: openai/*. None of these models: *:free." in found.find(CHAT).description
    assert "these models" not in found.find(COUNT).description


@pytest.mark.parametrize("tool", [CHAT, MESSAGE])
def test_a_consulted_model_gets_texts_and_nothing_else(tool):
    """No tools, no addresses, no providers: whoever is consulted consults nobody."""
    whole = get_tool("openrouter", tool)
    brief = in_brief(whole)
    question = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9, "temperature": 1}

    assert parse_arguments(whole, parse_arguments(brief, question).model_dump(mode="json", exclude_unset=True))
    assert json_schema(brief)["properties"].keys() <= json_schema(whole)["properties"].keys()
    offered = {"type": "function", "function": {"name": "get_credits"}}
    picture = [{"type": "image_url", "image_url": {"url": "https://evil.example/?secret"}}]
    for more in (
        {"tools": [offered]},
        {"plugins": [{"id": "web"}]},
        {"provider": {"data_collection": "allow"}},
        {"models": ["openai/gpt-5"]},
        {"messages": [{"role": "user", "content": picture}]},
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
    ):
        with pytest.raises(InvalidArguments):
            parse_arguments(brief, question | more)


def test_a_brief_refusal_names_the_field():
    with pytest.raises(InvalidArguments) as refusal:
        parse_arguments(in_brief(get_tool("openrouter", CHAT)), {"model": MODEL, "messages": [], "user": "x"})

    assert {problem.path for problem in refusal.value.problems} == {"messages", "user"}
    assert all(isinstance(problem, Problem) for problem in refusal.value.problems)


@pytest.mark.parametrize("tool", [tool for each in integrations() for tool in each.tools], ids=lambda tool: tool.name)
def test_a_compact_schema_says_the_same_in_fewer_words(tool):
    whole = json_schema(in_brief(tool))
    short = toolbox.compact(whole)

    assert short["properties"].keys() == whole["properties"].keys()
    assert short.get("required", []) == whole.get("required", [])
    assert short["additionalProperties"] is False
    text = json.dumps(short)
    assert len(text) <= len(json.dumps(whole))
    assert '"title"' not in text
    assert '{"type": "null"}' not in text
    assert all(f'"{name}"' in text for name in short.get("$defs", {}))
    for name, spec in whole["properties"].items():
        assert short["properties"][name].get("description") == spec.get("description")


def test_all_tools_together_take_less_than_four_thousand_tokens(desk, persona):
    everything = [tool for tool in desk.connection.provider.tools if not tool.hints.retired]
    lend(desk, persona, {tool.name: "allowed" for tool in everything})

    found = box(desk, persona)

    assert len(found.offered) == len(everything) - 1
    for format in ("chat", "messages"):
        assert len(json.dumps(found.functions(format))) / 4 < 4_000  # about four characters make a token


# --- formats ----------------------------------------------------------------------------


@pytest.mark.parametrize(("format", "tool"), [("chat", CHAT), ("messages", MESSAGE)])
def test_both_formats_take_the_functions_as_they_are(desk, persona, format, tool):
    lend(desk, persona, {tool.name: "allowed" for tool in desk.connection.provider.tools if not tool.hints.retired})
    functions = box(desk, persona).functions(format)
    question = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20}

    answered = desk.call(tool, question | {"tools": functions})

    assert answered.answer.text
    assert len(functions) == 11
