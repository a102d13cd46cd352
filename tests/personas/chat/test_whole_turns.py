"""Whole turns through a worker and the stand-in: files, long conversations, changed formats, temporary chats."""

import json
from contextlib import suppress
from uuid import uuid4

import pytest

from audit.models import Content, Event
from integrations.actions import enable_for
from integrations.models import Call
from personas.chat import sending, temporary, uploads
from personas.execution import work
from personas.models import Message, Persona, PersonaVersion, Run
from tests.integrations.desk import Desk
from tests.personas.builders import make_persona
from tests.personas.chat.test_uploads import PDF, png
from vault.content import open_content
from vault.errors import Unreadable

pytestmark = pytest.mark.django_db(transaction=True)  # the tools of a turn run in threads
FORMATS = ["chat", "messages"]
TOOLS = ["create_chat_completion", "create_message", "get_models_count", "list_providers"]


@pytest.fixture
def desk(sandbox, settings) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    return Desk(sandbox, balance=50)


def a_persona(desk: Desk, **version) -> Persona:
    given = {"chain": ["anthropic/claude-sonnet-4.6"], "max_tokens": 2000} | version
    persona = make_persona(desk.team, **given)
    enable_for(connection=desk.connection, persona_id=persona.pk, tools=TOOLS, by=desk.owner)
    return persona


def begin(persona: Persona, text: str, **more) -> Message:
    message = sending.start_chat(
        team=persona.team, persona=persona, by=persona.created_by, text=text, idempotency_key=uuid4().hex, **more
    )
    return answered(message)


def go_on(answer: Message, text: str) -> Message:
    message = sending.send(chat=answer.chat, parent=answer, by=answer.chat.user, text=text, idempotency_key=uuid4().hex)
    return answered(message)


def answered(message: Message) -> Message:
    answer = message.replies.select_related("run", "chat").get()
    work(run_id=answer.run_id, owner=uuid4().hex)
    answer.run.refresh_from_db()
    assert answer.run.state == Run.State.SUCCEEDED, answer.run.failure
    return answer


def sent(answer: Message) -> list[dict]:
    """What the models of a turn were asked, as the log has it."""
    calls = Call.objects.filter(run_id=answer.run_id, tool__startswith="create").order_by("id")
    contents = [Content.objects.get(pk=call.request_content_id) for call in calls]
    return [json.loads(open_content(content=content)) for content in contents]


@pytest.mark.parametrize("format", FORMATS)
def test_files_go_with_every_turn_of_their_chat_within_the_usual_limits(desk, format, known_catalog):
    persona = a_persona(desk, format=format)
    files = [("harbour.png", png(more=b"\0" * 3000)), ("letter.pdf", PDF + b"\0" * 100_000)]
    kept = uploads.take_all(team=desk.team, by=desk.owner, files=files)

    first = begin(persona, "What is this?", uploads=[each.pk for each in kept])
    second = go_on(first, "Are you sure?")

    for answer in (first, second):
        body = json.dumps(sent(answer)[0])
        assert body.count("characters, SHA-256") == 2
        assert len(body) < 10_000


@pytest.mark.parametrize("format", FORMATS)
def test_a_turn_with_tools_and_thinking_is_told_again_in_the_next_one(desk, format, known_catalog):
    persona = a_persona(desk, format=format, reasoning_effort="high")

    first = begin(persona, "Use get_models_count and list_providers, please")
    second = go_on(first, "Thank you")

    step, told = sent(first)[-1], sent(second)[-1]
    assert [stage.kind for stage in first.run.stages.all()] == ["answer", "tool", "tool", "answer"]
    before = step["messages"]
    assert told["messages"][: len(before)] == before
    thoughts = json.dumps(told["messages"]).count('"signature":')
    assert thoughts == 2


def test_a_chat_goes_on_when_its_persona_changes_format_model_and_tools(desk, known_catalog):
    persona = a_persona(desk, reasoning_effort="high")
    first = begin(persona, "Use get_models_count, please")
    PersonaVersion.objects.filter(pk=persona.version_id).update(format="messages", chain=["openai/gpt-5.4"])
    second = go_on(first, "And now?")

    told = json.dumps(sent(second)[-1]["messages"])
    assert '"tool_use"' in told
    assert '"tool_result"' in told
    assert "signature" not in told


def test_of_a_temporary_chat_nothing_can_be_read_when_it_has_ended(desk, known_catalog):
    persona, before = a_persona(desk), readable(desk)
    picture = uploads.take(team=desk.team, by=desk.owner, name="harbour.png", data=png())
    first = begin(persona, "My secret plan: use get_models_count", temporary=True, uploads=[picture.pk])
    go_on(first, "Go on with the secret plan")

    temporary.end(chat=first.chat, by=desk.owner)

    assert readable(desk) == before
    runs = first.chat.runs.values_list("pk", flat=True)
    events = Event.objects.filter(run_id__in=list(runs), action__startswith="call.")
    assert events.count() == 2 * Call.objects.filter(run_id__in=list(runs)).count() > 0
    assert not events.filter(content_id__isnull=False).exists()


def readable(desk: Desk) -> set:
    """Which sealed texts of the team can still be opened."""
    found = set()
    for content in Content.objects.filter(team_id=desk.team.pk):
        with suppress(Unreadable):
            found.add((content.pk, open_content(content=content)))
    return found
