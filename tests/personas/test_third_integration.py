"""What a new integration needs outside its own folder: one line in the registry, and nothing else."""

import json
from uuid import uuid4

import pytest
from django.urls import reverse

from accounts.models import CreditAccount
from audit.models import Content, Event
from integrations import registry
from integrations.actions import connect, enable_for, run_test
from integrations.errors import KeyRefused, Unreachable
from integrations.models import Call, Connection
from personas.actions import run_flow
from personas.execution import work
from personas.models import Run
from tests.factories import owner_of
from tests.integrations import bell
from tests.integrations.desk import Desk
from tests.personas.builders import make_flow, make_persona
from tests.personas.chat.test_turn import say, work_on
from tests.receiver import Receiver, receiving
from tests.test_architecture import FLOORS, ROOT
from vault.content import open_content

pytestmark = pytest.mark.django_db
MODEL = "openai/gpt-5.4"
SECRET = "whsec_" + "A" * 32


@pytest.fixture
def registered(monkeypatch):
    """The one line."""
    monkeypatch.setattr(registry, "REGISTERED", (*registry.REGISTERED, bell.LINE))
    registry.integrations.cache_clear()
    bell.rung.clear()
    bell.behaves.clear()
    yield
    registry.integrations.cache_clear()


@pytest.fixture
def desk(sandbox, settings, registered) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    yield Desk(sandbox, balance=50)
    sandbox.rules()


@pytest.fixture
def persona(desk):
    """A persona that may ask models, and use the new integration."""
    persona = make_persona(desk.team, chain=[MODEL])
    enable_for(
        connection=desk.connection,
        persona_id=persona.pk,
        tools=["create_chat_completion", "list_providers"],
        by=desk.owner,
    )
    lend_bell(persona)
    return persona


def lend_bell(persona) -> Connection:
    owner = owner_of(persona.team)
    made = connect(team=persona.team, integration=bell.BELL, label="Hall", kind="api_key", posted=bell.KEY, by=owner)
    run_test(connection=made)
    made.refresh_from_db()
    enable_for(connection=made, persona_id=persona.pk, tools=["ring_bell"], by=owner)
    return made


@pytest.fixture
def receiver(settings):
    with receiving() as found:
        settings.OUTGOING_ALSO_TO = [found.origin]
        yield found


def connect_webhook(persona, receiver: Receiver) -> None:
    webhook, owner = registry.get_integration("webhook"), owner_of(persona.team)
    posted = webhook.connecting.join({"url": receiver.url, "secret": SECRET})
    made = connect(team=persona.team, integration=webhook, label="Out", kind="api_key", posted=posted, by=owner)
    run_test(connection=made)
    enable_for(connection=made, persona_id=persona.pk, tools=["deliver"], by=owner)


def tool_stage(persona, name: str, tool: str, **arguments) -> dict:
    return {"kind": "tool", "name": name, "persona": str(persona.pk), "tool": tool, "arguments": arguments}


def run_of(persona, *stages: dict) -> Run:
    flow = make_flow(persona.team, list(stages), name=f"Flow {uuid4().hex[:6]}")
    run = run_flow(flow=flow, by=owner_of(persona.team), idempotency_key=uuid4().hex)
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()
    return run


def output(run: Run, name: str) -> str:
    content = Content.objects.get(pk=run.stages.get(name=name).output_content_id)
    return open_content(content=content).decode()


def test_a_member_connects_it_lends_it_and_runs_it_from_the_console(client, desk, persona):
    client.force_login(desk.owner)
    team = desk.team.slug
    pages = [
        reverse("integration_list", args=[team]),
        reverse("integration_detail", args=[team, "bell"]),
        reverse("connection_detail", args=[team, Connection.objects.get(integration="bell").pk]),
        reverse("persona_scopes", args=[team, persona.slug, Connection.objects.get(integration="bell").pk]),
        reverse(
            "persona_scope_tool", args=[team, persona.slug, Connection.objects.get(integration="bell").pk, "ring_bell"]
        ),
        reverse("persona_matrix", args=[team, persona.slug]),
        reverse("console", args=[team, persona.slug]),
    ]
    for page in pages:
        shown = client.get(page).content.decode()
        assert "Bell" in shown or "Ring the bell" in shown, page
    other = {"connection": str(desk.connection.pk), "tool": "ring_bell", "member": desk.owner.email, "how": "attended"}
    tried = client.get(reverse("persona_scopes_try", args=[team, persona.slug]), other)
    assert (tried.status_code, "leads to OpenRouter" in tried.content.decode()) == (422, True)
    posted = {"label": "Second", "key": "bell-key-of-another-bell"}
    assert client.post(reverse("connection_create", args=[team, "bell"]), posted).status_code == 302

    url = reverse("console_tool", args=[team, persona.slug, "bell", "ring_bell"])
    assert "What to play" in client.get(url).content.decode()
    client.post(url, {"tune": "Westminster", "once": uuid4().hex})
    run = Run.objects.latest("queued_at")
    work(run_id=run.pk, owner="test")
    run.refresh_from_db()

    assert run.state == Run.State.SUCCEEDED, run.failure
    assert bell.rung == [({"tune": "Westminster"}, bell.KEY)]
    call = Call.objects.get(run_id=run.pk)
    assert (call.state, call.credits, call.cost_usd) == ("done", desk.team.plan.read_credits, None)
    assert set(Event.objects.filter(call_id=call.pk).values_list("action", flat=True)) == {
        "call.started",
        "call.finished",
    }
    assert CreditAccount.objects.get(team=desk.team).reserved == 0
    assert "WESTMINSTER" in client.get(reverse("run_detail", args=[team, run.pk])).content.decode()


def test_a_model_calls_it_in_a_chat_and_reads_what_came(client, desk, persona):
    answer = say(persona, 'Please ring_bell {"tune": "three"}')

    assert work_on(answer) == Run.State.SUCCEEDED
    assert bell.rung == [({"tune": "three"}, bell.KEY)]
    [stage] = answer.run.stages.filter(kind="tool")
    given = json.loads(open_content(content=Content.objects.get(pk=stage.output_content_id)))
    assert given["outcome"] == "done" and "THREE" in given["content"]
    client.force_login(desk.owner)
    page = client.get(reverse("chat_room", args=[desk.team.slug, answer.chat_id])).content.decode()
    assert "Ring the bell" in page


def test_a_result_goes_on_from_one_integration_into_another(desk, persona, receiver):
    """OpenRouter, then the new one, then a webhook: each stage finds the connection of its own integration."""
    connect_webhook(persona, receiver)
    run = run_of(
        persona,
        {"kind": "prompt", "name": "ask", "persona": str(persona.pk), "template": "Reply with exactly: tide"},
        tool_stage(persona, "ring", "ring_bell", tune="{{ stage.ask.output }}"),
        tool_stage(persona, "tell", "deliver", event="bell.rung", data={"said": "{{ stage.ring.output }}"}),
    )

    assert run.state == Run.State.SUCCEEDED, run.failure
    delivery = receiver.deliveries[-1]
    assert delivery.is_signed_with(SECRET)
    assert json.loads(delivery.said["data"]["said"]) == {"heard": output(run, "ask").upper()}
    told = json.loads(output(run, "tell"))
    assert (told["status"], told["id"]) == (200, delivery.headers["webhook-id"])
    assert [call.connection.integration for call in Call.objects.filter(run_id=run.pk).order_by("id")] == [
        "openrouter",
        "bell",
        "webhook",
    ]
    assert run.estimate["most_credits"] >= 2 * desk.team.plan.read_credits


def test_a_model_delivers_in_a_chat(desk, persona, receiver):
    connect_webhook(persona, receiver)
    answer = say(persona, 'Please deliver {"event": "tide.turned", "data": {"high": true}}')

    assert work_on(answer) == Run.State.SUCCEEDED
    assert receiver.deliveries[-1].said == {"type": "tide.turned", "data": {"high": True}}
    assert receiver.deliveries[-1].is_signed_with(SECRET)


def test_nobody_but_the_registry_knows_an_integration():
    """The one exception: the rules of policies are written in the words of OpenRouter's routing."""
    knowing = {
        str(path.relative_to(ROOT))
        for app in FLOORS
        for path in (ROOT / app).rglob("*.py")
        for integration in registry.integrations()
        if f"integrations/{integration.slug}/" not in str(path)
        if f"from integrations.{integration.slug}" in path.read_text()
    }
    assert {path for path in knowing if not path.startswith("integrations/policy/")} == set()


def test_what_fails_is_said_without_a_word_of_models(persona):
    bell.behaves[:] = [Unreachable("The bell was not reached.", sent=False)] * 3
    away = run_of(persona, tool_stage(persona, "ring", "ring_bell", tune="x"))
    bell.behaves[:] = [KeyRefused("The bell does not know us.")]
    refused = run_of(persona, tool_stage(persona, "ring", "ring_bell", tune="x"))

    assert away.failure.endswith("It cannot be reached.")
    assert refused.failure.endswith("Sending it again would not help.")
    assert "model" not in f"{away.failure}{refused.failure}".lower()


@pytest.mark.requirement("CRASH-7")
def test_what_may_have_been_done_is_not_repeated_by_itself(persona):
    bell.behaves[:] = [Unreachable("The line broke.", may_have_acted=True)] * 3
    run = run_of(persona, tool_stage(persona, "ring", "ring_bell", tune="x") | {"retries": 3})

    assert run.state == Run.State.FAILED
    assert "Nobody knows whether it was done" in run.failure
    assert len(bell.rung) == 1
    assert Call.objects.get(run_id=run.pk).state == Call.State.UNKNOWN


def test_who_is_lent_only_another_integration_is_told_which_one_is_missing(desk, registered):
    nobody = make_persona(desk.team, name="Nobody", chain=[MODEL])
    enable_for(connection=desk.connection, persona_id=nobody.pk, tools=["list_providers"], by=desk.owner)

    run = run_of(nobody, tool_stage(nobody, "ring", "ring_bell", tune="x"))

    assert run.failure == "Nobody has no connection to Bell. Enable one on the persona's page."
    assert bell.rung == []
