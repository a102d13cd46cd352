"""Every tool of the integration, run as people run it: by hand from the console, and as a stage of a flow."""

import json
from uuid import uuid4

import pytest
from django.urls import reverse

from audit.models import Content, Event
from integrations.actions import connect, enable_for, run_test
from integrations.forms_spec import form_fields
from integrations.models import Call
from integrations.openrouter.tools import OPENROUTER
from personas.actions import run_flow
from personas.attempts import ask
from personas.execution import work
from personas.leases import LeaseLost, claim
from personas.models import Run
from tests.factories import make_team, owner_of
from tests.personas.builders import make_flow, make_persona
from vault.content import open_content

pytestmark = pytest.mark.django_db

MODEL = "openai/gpt-5.4-mini"
WALLET = "0x" + "a1" * 20
# What a person types in the console; what is not named takes no argument.
TYPED = {
    "create_chat_completion": {"model": MODEL, "prompt": "Reply with exactly: tide", "max_completion_tokens": "20"},
    "create_message": {"model": MODEL, "prompt": "Reply with exactly: tide", "max_tokens": "20"},
    "create_coinbase_charge": {"amount": "5", "sender": WALLET, "chain_id": "1"},
    "list_model_endpoints": {"model": MODEL},
    "list_available_models": {"q": "gpt", "limit": "3"},
}
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Reply with exactly: tide"}]}
ARGUMENTS = {
    "create_chat_completion": CHAT | {"max_completion_tokens": 20},
    "create_message": CHAT | {"max_tokens": 20},
    "create_coinbase_charge": {"amount": "5", "sender": WALLET, "chain_id": 1},
    "list_model_endpoints": {"model": MODEL},
    "list_available_models": {"q": "gpt", "limit": 3},
}
TOOLS = [tool.name for tool in OPENROUTER.tools]
ENDS_IN = {"create_coinbase_charge": Run.State.FAILED}


@pytest.fixture
def persona(sandbox, settings):
    """A persona that may use every tool: an API key for most, a management key for the balance."""
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    team = make_team()
    owner = owner_of(team)
    persona = make_persona(team, chain=[MODEL])
    for kind, label, tools in (
        ("api_key", "Main", set(TOOLS) - {"get_credits"}),
        ("management", "Billing", {"get_credits"}),
    ):
        key = sandbox.key(management=kind == "management")
        made = connect(team=team, integration=OPENROUTER, label=label, kind=kind, posted=key, by=owner)
        run_test(connection=made)
        enable_for(connection=made, persona_id=persona.pk, tools=tools, by=owner)
    return persona


@pytest.fixture
def generation(persona):
    """The id of a generation that this persona's key made."""
    run = flow_run(persona, "create_chat_completion", ARGUMENTS["create_chat_completion"])
    return Call.objects.get(run_id=run.pk).generation_id


def output(run):
    content = Content.objects.get(pk=run.stages.get().output_content_id)
    return open_content(content=content).decode()


def flow_run(persona, tool, arguments):
    stage = {"kind": "tool", "name": "one", "persona": str(persona.pk), "tool": tool, "arguments": arguments}
    flow = make_flow(persona.team, [stage], name=f"Flow {uuid4().hex[:6]}")
    run = run_flow(flow=flow, by=owner_of(persona.team), idempotency_key=uuid4().hex)
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    return run


def check(run, tool):
    assert run.state == ENDS_IN.get(tool, Run.State.SUCCEEDED), run.failure
    call = Call.objects.filter(run_id=run.pk, tool=tool).latest("started_at")
    events = Event.objects.filter(call_id=call.pk).values_list("action", flat=True)
    assert sorted(events) == ["call.finished", "call.started"]
    if run.state == Run.State.FAILED:
        assert call.outcome == "gone"
        assert "withdrawn" in run.failure.lower() or "removed" in run.failure.lower() or "deprecated" in run.failure
    elif tool in ("create_chat_completion", "create_message"):
        assert "tide" in output(run)
    else:
        assert output(run).startswith("{")


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_runs_from_the_console(client, persona, request, tool):
    typed = dict(TYPED.get(tool, {}))
    if tool == "get_generation":
        typed["id"] = request.getfixturevalue("generation")
    client.force_login(owner_of(persona.team))
    url = reverse("console_tool", args=[persona.team.slug, persona.slug, "openrouter", tool])
    shown = client.get(url).content.decode()
    assert all(f'name="{field.name}"' in shown for field in form_fields(OPENROUTER.tool(tool)))

    response = client.post(url, typed | {"once": uuid4().hex})

    assert response.status_code == 302, response.content.decode()[:2000]
    run = Run.objects.filter(team=persona.team, flow=None).latest("queued_at")
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    check(run, tool)
    assert client.get(response.url).status_code == 200


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_runs_from_a_flow(persona, request, tool):
    arguments = dict(ARGUMENTS.get(tool, {}))
    if tool == "get_generation":
        arguments["id"] = request.getfixturevalue("generation")
    check(flow_run(persona, tool, arguments), tool)


def test_a_prompt_falls_back_to_the_second_model_and_says_so(sandbox, persona):
    sandbox.rules(
        {"match": {"model": "openai/gpt-5.4"}, "answer": {"kind": "status", "status": 429, "retry_after": 20}}
    )
    stage = {
        "kind": "prompt",
        "name": "one",
        "persona": str(persona.pk),
        "template": "Reply with exactly: tide",
        "model": "openai/gpt-5.4",
        "fallback_model": MODEL,
    }
    run = run_flow(flow=make_flow(persona.team, [stage]), by=owner_of(persona.team), idempotency_key=uuid4().hex)
    work(run_id=run.pk, owner="test")
    sandbox.rules()
    run.refresh_from_db()
    assert run.state == Run.State.SUCCEEDED
    assert run.stages.get().used_fallback
    tried = Call.objects.filter(run_id=run.pk).order_by("started_at").values_list("model", "outcome")
    assert list(tried) == [("openai/gpt-5.4", "rate_limited"), (MODEL, "done")]


def test_a_run_whose_every_model_is_rate_limited_waits_and_goes_on(sandbox, persona, clock):
    sandbox.rules({"match": {"model": "*"}, "answer": {"kind": "status", "status": 429, "retry_after": 20}})
    stage = {"kind": "prompt", "name": "one", "persona": str(persona.pk), "template": "Reply with exactly: tide"}
    run = run_flow(flow=make_flow(persona.team, [stage]), by=owner_of(persona.team), idempotency_key=uuid4().hex)
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    assert run.state == Run.State.PARKED
    assert run.parked_until is not None
    sandbox.rules()
    clock(seconds=30)
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    assert run.state == Run.State.SUCCEEDED


def test_a_persona_without_a_grant_fails_with_what_to_do(persona):
    nobody = make_persona(persona.team, name="Nobody")
    run = flow_run(nobody, "get_current_key", {})
    assert run.state == Run.State.FAILED
    assert run.failure == "Nobody has no connection to OpenRouter. Enable one on the persona's page."


def test_a_schedule_makes_the_owner_the_user_of_its_calls(persona, clock):
    from personas.dispatch import dispatch
    from tests.personas.builders import make_schedule

    stage = {"kind": "tool", "name": "one", "persona": str(persona.pk), "tool": "get_current_key"}
    make_schedule(make_flow(persona.team, [stage]))
    clock(seconds=61)
    dispatch()
    run = Run.objects.filter(firing__isnull=False).latest("queued_at")
    work(run_id=run.pk, owner="test")
    event = Event.objects.get(run_id=run.pk, action="call.finished")
    assert (event.actor_kind, event.actor_name) == ("schedule", owner_of(persona.team).email)
    assert event.persona_name == "Writer"


def test_the_public_catalog_is_asked_with_the_key_so_that_it_tells_latency(persona):
    run = flow_run(persona, "list_model_endpoints", {"model": MODEL})
    rows = json.loads(output(run))["endpoints"]
    assert rows
    assert all(row["latency_p50_ms"] is not None for row in rows)


def test_a_worker_that_lost_the_run_pays_for_no_attempt(persona):
    stage = {
        "kind": "prompt",
        "name": "one",
        "persona": str(persona.pk),
        "template": "Reply with exactly: tide",
        "model": "openai/gpt-5.4",
        "fallback_model": MODEL,
    }
    run = run_flow(flow=make_flow(persona.team, [stage]), by=owner_of(persona.team), idempotency_key=uuid4().hex)
    lease = claim(run_id=run.pk, owner="slow")
    mine = Run.objects.select_related("team", "user", "flow", "firing").get(pk=run.pk)
    Run.objects.filter(pk=run.pk).update(fence=lease.fence + 1)  # as another worker's claim does

    with pytest.raises(LeaseLost):
        ask(mine, mine.stages.get(), "create_chat_completion", CHAT, ["openai/gpt-5.4", MODEL])

    assert not Call.objects.filter(run_id=run.pk).exists()
