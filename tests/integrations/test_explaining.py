"""Why? is answered as the call path decides, without making a call."""

import json
from datetime import timedelta
from hashlib import sha256

import pytest

from accounts.permissions import Role
from audit.clock import app_now
from audit.ids import uuid7
from audit.models import Event
from integrations import actions
from integrations.approvals import NeedsApproval
from integrations.calls import REFUSALS
from integrations.explaining import explain
from integrations.models import Call
from integrations.openrouter.tools import TOOLS
from integrations.registry import get_tool
from integrations.scopes import Rule, read_scopes
from tests.factories import make_member, make_stranger
from tests.integrations.desk import CHAT, MODEL, Desk, events_of, said

MODELS = "list_available_models"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def desk(sandbox, settings):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    return Desk(sandbox)


def lend(desk, data, *, holder=None):
    """Lend the desk's connection to a persona, or to a holder; return who holds it."""
    holder = holder or uuid7()
    actions.set_scopes(
        connection=desk.connection, holder=holder, name="Nachtbote", scopes=read_scopes(data), by=desk.owner
    )
    return holder


def why(desk, persona, *, tool=CHAT, model=MODEL, at=None, **who):
    caller = desk.caller(**{"persona_id": persona, "persona_name": "Nachtbote", "run_id": uuid7()} | who)
    return explain(
        team=desk.team,
        connection=desk.connection,
        tool=get_tool("openrouter", tool),
        caller=caller,
        model=model,
        at=at,
    )


def called(desk, persona, *, tool=CHAT, model=MODEL, **who):
    """What becomes of the real call."""
    given = {"messages": [{"role": "user", "content": "?"}], "model": model} if tool == CHAT else {}
    try:
        desk.call(tool, given, **{"persona_id": persona, "persona_name": "Nachtbote", "run_id": uuid7()} | who)
    except NeedsApproval:
        return Rule.ASK
    except REFUSALS:
        return Rule.OFF
    return Rule.ALLOWED


def scopes(rule="allowed", *, tool=CHAT, wide=None, **limits):
    return {"tools": {tool: {"rule": rule} | limits}} | (wide or {})


GRANTS = {
    "allowed": (scopes(), {}),
    "ask": (scopes("ask"), {}),
    "off": (scopes("off"), {}),
    "not named": (scopes(tool=MODELS), {}),
    "other model": (scopes(wide={"models": {"allow": ["openai/*"]}}), {}),
    "this author": (scopes(wide={"models": {"allow": ["anthropic/*"]}}), {}),
    "no schedules": (scopes(unattended=False), {"unattended": True}),
    "schedules too": (scopes(), {"unattended": True}),
    "ended": (scopes(wide={"ends_at": "2020-01-01T00:00:00Z"}), {}),
    "one run": (scopes(wide={"one_run": True}), {}),
    "one run, no run": (scopes(wide={"one_run": True}), {"run_id": None}),
    "pinned": (scopes(pinned={"model": MODEL, "temperature": 0.5}), {"model": "openai/gpt-5"}),
    "tool without a model": (scopes(tool=MODELS), {"tool": MODELS}),
    "tool that asks": (scopes("ask", tool=MODELS), {"tool": MODELS}),
}


@pytest.mark.requirement("AUTHZ-7")
@pytest.mark.parametrize("name", GRANTS)
def test_the_answer_is_what_becomes_of_the_call(desk, name):
    data, asked = GRANTS[name]
    persona = lend(desk, data)

    assert why(desk, persona, **asked).rule is called(desk, persona, **asked)


def test_looking_leaves_no_trace(desk):
    persona = lend(desk, scopes(wide={"one_run": True}))
    before = Event.objects.count()

    why(desk, persona)

    assert (Event.objects.count(), Call.objects.filter(persona_id=persona).count()) == (before, 0)
    assert read_scopes(desk.team.grants.live().get(holder=persona).scopes).wants_run


def test_the_path_names_every_rule_and_the_message_the_one_that_refused(desk):
    explanation = why(desk, lend(desk, scopes("off", unattended=False)), unattended=True)

    assert explanation.rule is Rule.OFF
    assert [(step.rule, step.holds) for step in explanation.steps] == [
        ("role", True),
        ("connection", True),
        ("grant", True),
        ("end", True),
        ("tool", False),
        ("unattended", False),
    ]
    assert explanation.message == "Create chat completion is off for Nachtbote. Allow it on the persona's page."


def test_another_time_can_be_asked_about(desk):
    now = app_now()
    persona = lend(desk, scopes(wide={"ends_at": (now + timedelta(hours=1)).isoformat()}))

    assert why(desk, persona).rule is Rule.ALLOWED
    assert why(desk, persona, at=now + timedelta(hours=2)).rule is Rule.OFF


@pytest.mark.requirement("AUTHZ-7")
def test_a_grant_lends_nobody_more_than_their_own_role_allows(desk):
    persona = lend(desk, scopes())
    auditor, stranger = make_member(desk.team, Role.AUDITOR), make_stranger()

    for person in (auditor, stranger):
        assert why(desk, persona, user=person).rule is Rule.OFF
        assert called(desk, persona, user=person) is Rule.OFF


def test_a_flow_lends_what_the_persona_has_not(desk):
    flow, persona = lend(desk, scopes()), uuid7()

    assert why(desk, persona).rule is Rule.OFF
    assert why(desk, persona, flow_id=flow).rule is Rule.ALLOWED
    assert called(desk, persona, flow_id=flow) is Rule.ALLOWED


def test_the_persona_s_own_grant_comes_before_that_of_its_flow(desk):
    flow, persona = lend(desk, scopes()), lend(desk, scopes("off"))

    assert why(desk, persona, flow_id=flow).rule is Rule.OFF
    assert called(desk, persona, flow_id=flow) is Rule.OFF


# --- for one run --------------------------------------------------------------------------


def test_a_grant_for_one_run_serves_the_first_run_alone(desk):
    persona = lend(desk, scopes(wide={"one_run": True}))
    first, second = uuid7(), uuid7()

    rules = [called(desk, persona, run_id=run) for run in (first, second, first)]

    assert rules == [Rule.ALLOWED, Rule.OFF, Rule.ALLOWED]


# --- what leaves --------------------------------------------------------------------------


@pytest.mark.requirement("LLM-1")
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        (MODELS, {}),
        ("buy_everything", {}),
        (CHAT, {"model": MODEL}),
        (CHAT, {"model": MODEL, "messages": "Hello"}),
        (CHAT, {"model": MODEL, "messages": [{"role": "user", "content": "?"}], "api_key": "sk-or-v1-x"}),
        (CHAT, {"model": MODEL, "messages": [{"role": "user", "content": "?"}], "base_url": "https://elsewhere.test"}),
        (CHAT, {"model": MODEL, "messages": [{"role": "user", "content": "?"}], "team": "another"}),
        (CHAT, {"model": MODEL, "messages": [{"role": "user", "content": "?"}], "persona_id": "another"}),
        (CHAT, {"model": MODEL, "messages": [{"role": "user", "content": "?"}], "user": "another"}),
    ],
)
def test_a_tool_that_is_not_granted_or_arguments_that_do_not_fit_never_leave(desk, tool, arguments):
    persona = lend(desk, scopes())
    before = len(desk.sandbox.journal())

    with pytest.raises(REFUSALS):
        desk.call(tool, arguments, persona_id=persona, persona_name="Nachtbote")

    assert len(desk.sandbox.journal()) == before


@pytest.mark.requirement("LLM-1")
def test_no_tool_takes_a_credential_an_address_or_an_id_of_ours():
    ours = {"key", "api_key", "credential", "connection", "authorization", "headers", "base_url", "url", "host"}
    ours |= {"team", "team_id", "tenant", "persona", "persona_id", "user", "user_id", "session_id", "metadata", "trace"}

    for tool in TOOLS:
        assert not ours & tool.arguments.model_fields.keys(), tool.name
        assert tool.arguments.model_config["extra"] == "forbid", tool.name


@pytest.mark.requirement("LLM-1")
def test_what_is_pinned_leaves_as_pinned_whatever_the_caller_gives(desk):
    persona = lend(desk, scopes(pinned={"model": MODEL, "temperature": 0.25}, max_tokens=20))
    given = {"model": "openai/gpt-5", "temperature": 2, "max_tokens": 900}

    desk.call(CHAT, given | {"messages": [{"role": "user", "content": "?"}]}, persona_id=persona)

    call = desk.last_call()
    [line], sent = desk.lines_of(call), said(events_of(call)[0])
    assert line["body_sha256"] == sha256(sent.encode()).hexdigest()
    body = json.loads(sent)
    assert (body["model"], body["temperature"], body["max_tokens"]) == (MODEL, 0.25, 20)
