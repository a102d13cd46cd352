"""Answers that break in the middle, byte by byte: what had come stays, nothing is sent again, and the page says so."""

from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from integrations.actions import enable_for
from integrations.models import Call
from personas.chat import left_behind, sending
from personas.chat.reading import answer_view
from personas.execution import work
from personas.models import Message
from tests.integrations.desk import Desk
from tests.integrations.scripted import CLOSE, CUT, ScriptedServer, answer, stream
from tests.personas.builders import make_persona

pytestmark = pytest.mark.django_db

MODEL = "openai/gpt-5-mini"
HEAD = {"id": "gen-1", "model": MODEL, "provider": "OpenAI"}
INSIDE = 'data: {"id": "gen-1", "choices": [{"index": 0, "delta": {"content": "Gr\u00fc'.encode()[:-1]


def piece(text: str, **more) -> dict:
    return HEAD | {"choices": [{"index": 0, "delta": {"content": text}, **more}]}


@pytest.fixture
def desk(sandbox, settings) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    return Desk(sandbox, balance=50)


def answered(desk: Desk, settings, reply: list) -> tuple[Message, int]:
    """Have a model that says just these bytes answer, and how often it was asked."""
    persona = make_persona(desk.team, chain=[MODEL])
    enable_for(connection=desk.connection, persona_id=persona.pk, tools=["create_chat_completion"], by=desk.owner)
    said = sending.start_chat(
        team=desk.team, persona=persona, by=desk.owner, text="Greet me", idempotency_key=uuid4().hex
    )
    message = said.replies.get()
    not_found = answer({"error": {"code": 404, "message": "No such generation"}}, 404)
    with ScriptedServer([reply, not_found]) as server:
        settings.INTEGRATION_URLS = {"openrouter": server.url}
        for _ in range(2):  # a hint may come twice
            work(run_id=message.run_id, owner=uuid4().hex)
    message.run.refresh_from_db()
    return message, sum(request.target.endswith("/chat/completions") for request in server.seen)


@pytest.mark.parametrize("end", [CUT, CLOSE])
def test_a_stream_that_stops_in_the_middle_of_a_character_keeps_what_came_before_it(desk, settings, end):
    message, asked = answered(desk, settings, stream(piece("Good "), piece("day. "), INSIDE, end, done=False))

    shown = answer_view(team=desk.team, message_id=message.pk)
    assert (message.run.state, shown.text, asked) == ("failed", "Good day. ", 1)
    call = Call.objects.get(run_id=message.run_id)
    assert (call.state, call.credits) == ("unknown", None)  # it may have been billed, so it stays held
    client = Client()
    client.force_login(desk.owner)
    page = client.get(reverse("chat_room", args=[desk.team.slug, message.chat_id])).content.decode()
    assert "Good day." in page and "This answer broke off." in page and "Go on" in page
    assert left_behind.answer_of(message.run, message.run.stages.get(), "chat") is None


def test_bytes_that_are_no_text_end_an_answer_and_harm_nobody(desk, settings):
    bad = INSIDE[: -len(b"Gr\xc3")] + b'\xff\xfe\xc3("}}]}\n\n'
    message, asked = answered(desk, settings, stream(piece("Good "), bad, piece("day.", finish_reason="stop")))

    shown = answer_view(team=desk.team, message_id=message.pk)
    assert (message.run.state, asked) == ("failed", 1)
    assert shown.text == "Good "
    shown.text.encode()
