"""What a version says of its answers reaches the service, in either shape, as the stand-in received it."""

import json
from decimal import Decimal
from uuid import uuid4

import pytest

from audit.models import Content
from integrations.actions import enable_for
from integrations.models import Call
from personas import actions, prompting
from personas.estimates import of_flow
from personas.execution import work
from personas.models import Persona, PersonaVersion, Run
from tests.integrations.desk import MODEL, Desk
from tests.personas.builders import make_flow, make_persona
from vault.content import open_content

pytestmark = pytest.mark.django_db(transaction=True)

SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}
ASKED_FOR = {
    "temperature": Decimal("0.25"),
    "top_p": Decimal("0.90"),
    "reasoning_effort": "low",
    "output_schema": SCHEMA,
    "max_tokens": 300,
}


@pytest.fixture
def desk(sandbox, settings) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    return Desk(sandbox)


def persona_of(desk: Desk, **says) -> Persona:
    persona = make_persona(desk.team, chain=[MODEL], **says)
    tools = ["create_chat_completion", "create_message"]
    enable_for(connection=desk.connection, persona_id=persona.pk, tools=tools, by=desk.owner)
    return persona


def flow_of(persona: Persona):
    stage = {"kind": "prompt", "name": "one", "persona": str(persona.pk), "template": "Say hello"}
    return make_flow(persona.team, [stage], name=f"Flow {uuid4().hex[:6]}")


def run(persona: Persona) -> tuple[Run, Call, dict]:
    """Run one prompt and return the run, its call and the body that was sent."""
    flow = flow_of(persona)
    queued = actions.run_flow(flow=flow, by=flow.created_by, idempotency_key=uuid4().hex)
    work(run_id=queued.pk, owner="test")
    queued.refresh_from_db()
    assert queued.state == Run.State.SUCCEEDED, queued.failure
    call = Call.objects.get(run_id=queued.pk)
    content = Content.objects.get(pk=call.request_content_id)
    return queued, call, json.loads(open_content(content=content))


def output_of(queued: Run) -> str:
    return open_content(content=Content.objects.get(pk=queued.stages.get().output_content_id)).decode()


def test_chat_completions_are_asked_as_the_version_says(desk):
    queued, call, body = run(persona_of(desk, **ASKED_FOR))
    assert call.tool == "create_chat_completion"
    kept = {name: body[name] for name in ("temperature", "top_p", "reasoning", "max_tokens")}
    assert kept == {"temperature": 0.25, "top_p": 0.9, "reasoning": {"effort": "low"}, "max_tokens": 300}
    named = {"name": "answer", "strict": True, "schema": SCHEMA}
    assert body["response_format"] == {"type": "json_schema", "json_schema": named}
    assert set(json.loads(output_of(queued))) == {"answer"}


def test_messages_are_asked_as_the_version_says(desk):
    queued, call, body = run(persona_of(desk, format="messages", **ASKED_FOR))
    assert call.tool == "create_message"
    assert body["system"] == "Be brief."
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert (body["thinking"], body["max_tokens"]) == ({"type": "adaptive"}, 300)
    assert not {"temperature", "top_p"} & body.keys()  # a model that thinks takes neither
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}
    assert set(json.loads(output_of(queued))) == {"answer"}


def test_what_a_version_leaves_open_is_not_sent(desk):
    _, _, chat = run(persona_of(desk))
    assert not {"temperature", "top_p", "reasoning", "response_format"} & chat.keys()
    _, _, message = run(persona_of(desk, name="Other", format="messages", instructions=""))
    assert not {"system", "temperature", "top_p", "thinking", "output_config"} & message.keys()


@pytest.mark.parametrize(
    ("effort", "sent"),
    [
        ("", {"temperature": 0.5}),
        ("none", {"temperature": 0.5, "thinking": {"type": "disabled"}}),
        ("minimal", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        ("max", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
    ],
)
def test_messages_have_their_own_words_for_effort(effort, sent):
    version = PersonaVersion(format="messages", reasoning_effort=effort, temperature=Decimal("0.5"))
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1024}
    assert prompting.arguments_of(version, "hi") == asked | sent


@pytest.mark.parametrize("effort", PersonaVersion.Effort.values)
def test_every_effort_is_taken_by_both_tools(desk, effort):
    for number, shape in enumerate(PersonaVersion.Format.values):
        run(persona_of(desk, name=f"P{number}", format=shape, reasoning_effort=effort))


@pytest.mark.parametrize("shape", PersonaVersion.Format.values)
def test_what_a_run_takes_at_most_is_said_for_both_shapes(desk, shape):
    flow = flow_of(persona_of(desk, format=shape, max_tokens=300))
    assert of_flow(team=flow.team, version=flow.version).most_credits > 0
