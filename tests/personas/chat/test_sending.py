"""Saying something in a chat: what is queued, what is refused, and what two tabs get."""

import json
import threading
from uuid import uuid4

import pytest
from django.db import connection as database
from django.urls import reverse

from accounts.models import User
from audit.clock import app_now
from audit.models import Content, Event
from personas import stopping
from personas.chat import sending, uploads
from personas.chat.sending import CannotSend
from personas.models import Chat, Message, Persona, Run
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_persona
from vault.content import open_content

pytestmark = pytest.mark.django_db
CHAIN = ["openai/gpt-5-mini", "anthropic/claude-sonnet-4.6"]


@pytest.fixture
def persona() -> Persona:
    return make_persona(make_team(), chain=CHAIN)


def begin(persona: Persona, text: str = "Where is the harbour?", *, key: str = "", **more) -> Message:
    by = more.pop("by", None) or owner_of(persona.team)
    return sending.start_chat(
        team=persona.team, persona=persona, by=by, text=text, idempotency_key=key or uuid4().hex, **more
    )


def go_on(parent: Message | None, text: str = "And then?", *, key: str = "", by: User | None = None, **more) -> Message:
    chat = parent.chat
    return sending.send(
        chat=chat, parent=parent, by=by or chat.user, text=text, idempotency_key=key or uuid4().hex, **more
    )


def answer_to(message: Message, *, state: str = "succeeded") -> Message:
    """The first answer to a message, ended without a worker."""
    answer = message.replies.select_related("run", "chat").order_by("pk")[0]
    Run.objects.filter(pk=answer.run_id).update(state=state, finished_at=app_now())
    answer.run.refresh_from_db()
    return answer


def test_a_first_message_makes_a_chat_and_queues_one_answer(persona):
    message = begin(persona)

    answer = message.replies.get()
    assert (answer.role, answer.run.state, answer.run.chat_id) == ("assistant", "queued", message.chat_id)
    assert [stage.spec for stage in answer.run.stages.all()] == [{"kind": "answer"}]
    assert message.chat.title == "Where is the harbour?"


def test_what_is_said_lies_sealed(persona):
    message = begin(persona, "the lighthouse keeper's secret")

    content = Content.objects.get(pk=message.content_id)
    assert b"lighthouse" not in bytes(content.ciphertext)
    assert json.loads(open_content(content=content)) == {"text": "the lighthouse keeper's secret"}


def test_the_events_of_a_chat_say_nothing_of_what_was_said(persona):
    begin(persona, "the lighthouse keeper's secret")

    events = Event.objects.filter(team_id=persona.team_id, action__startswith="personas.chat.")
    assert sorted(event.action for event in events) == ["personas.chat.asked", "personas.chat.begun"]
    assert not any(b"lighthouse" in bytes(event.canon) for event in events)


def test_the_title_of_a_temporary_chat_tells_nothing(persona):
    assert begin(persona, "the lighthouse", temporary=True).chat.title == "Temporary chat"


def test_a_form_that_comes_twice_is_one_message(persona):
    assert begin(persona, key="one") == begin(persona, key="one")
    assert (Chat.objects.count(), Message.objects.count(), Run.objects.count()) == (1, 2, 1)


def test_a_message_with_a_file_that_comes_twice_is_one_message(persona):
    chat = begin(persona).chat
    file = uploads.take(team=chat.team, by=chat.user, name="a.pdf", data=b"%PDF-1.7")
    said = {"chat": chat, "parent": None, "by": chat.user, "text": "Look", "uploads": [file.pk]}

    assert sending.send(**said, idempotency_key="file") == sending.send(**said, idempotency_key="file")


def test_two_models_are_compared_side_by_side(persona):
    message = begin(persona, models=CHAIN)

    answers = message.replies.all()
    assert {answer.model for answer in answers} == set(CHAIN)
    assert len({answer.compared_with for answer in answers}) == 1
    assert all(answer.compared_with for answer in answers)


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (["openai/gpt-4o"], "may not use openai/gpt-4o"),
        ([CHAIN[0], CHAIN[0]], "2 different models"),
        ([*CHAIN, "x/y"], "2 different models"),
    ],
)
def test_only_the_personas_own_models_answer(persona, models, words):
    with pytest.raises(CannotSend, match=words):
        begin(persona, models=models)
    assert not Chat.objects.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Write something"),
        (" \n\t", "Write something"),
        ("a" * 200_001, "200,001 characters long"),
        ("a\0b", "NUL"),
    ],
)
def test_a_text_that_cannot_be_sent_leaves_nothing_behind(persona, text, words):
    with pytest.raises(CannotSend, match=words):
        begin(persona, text)
    assert (Chat.objects.count(), Message.objects.count(), Run.objects.count(), Content.objects.count()) == (0,) * 4


def test_two_hundred_thousand_characters_are_not_too_many(persona):
    assert begin(persona, "a" * 200_000).content_id


def test_nothing_is_said_before_the_answer_is_there(persona):
    with pytest.raises(CannotSend, match="still being written"):
        go_on(begin(persona).replies.get())
    with pytest.raises(CannotSend, match="Wait for the answer"):
        go_on(begin(persona))


def test_a_second_answer_is_a_sibling_of_the_first(persona):
    first = answer_to(begin(persona))
    second = sending.try_again(answer=first, by=first.chat.user, model=CHAIN[1], idempotency_key="again")

    assert (second.parent_id, second.model, second.run.state) == (first.parent_id, CHAIN[1], "queued")
    assert second == sending.try_again(answer=first, by=first.chat.user, model=CHAIN[1], idempotency_key="again")


def test_an_edited_message_is_a_sibling_and_the_old_one_stays(persona):
    message = begin(persona)
    edited = sending.edit(message=message, by=message.author, text="Where is the mill?", idempotency_key="edit")

    assert (edited.parent_id, edited.chat_id) == (None, message.chat_id)
    assert Message.objects.filter(pk=message.pk).exists()
    assert edited.replies.get().run.state == "queued"


def test_an_answer_cannot_be_edited(persona):
    answer = answer_to(begin(persona))
    with pytest.raises(CannotSend, match="said yourself"):
        sending.edit(message=answer, by=answer.chat.user, text="I never said that", idempotency_key="edit")


def test_nobody_writes_in_somebody_elses_chat(persona):
    answer, other = answer_to(begin(persona)), make_member(persona.team)
    with pytest.raises(CannotSend, match="somebody else's"):
        go_on(answer, by=other)
    with pytest.raises(CannotSend, match="somebody else's"):
        sending.try_again(answer=answer, by=other, idempotency_key="theirs")


def test_an_archived_chat_is_read_only(persona):
    answer = answer_to(begin(persona))
    Chat.objects.update(archived_at=app_now())
    with pytest.raises(CannotSend, match="archived"):
        go_on(answer)


def test_an_archived_persona_answers_nobody(persona):
    Persona.objects.update(archived_at=app_now())
    persona.refresh_from_db()
    with pytest.raises(CannotSend, match="is archived"):
        begin(persona)


def test_a_persona_without_a_model_says_so():
    with pytest.raises(CannotSend, match="has no model"):
        begin(make_persona(make_team(), chain=[]))


def test_a_file_that_is_not_ones_own_is_not_sent(persona):
    with pytest.raises(CannotSend, match="file is gone"):
        begin(persona, uploads=[uuid4()])
    assert not Chat.objects.exists()


def test_stopping_an_answer_that_waits_ends_it(persona):
    answer = begin(persona).replies.get()
    sending.stop(answer=answer, by=answer.chat.user)

    answer.run.refresh_from_db()
    assert answer.run.state == "stopped"
    with pytest.raises(stopping.AlreadyOver):
        sending.stop(answer=answer, by=answer.chat.user)


@pytest.mark.django_db(transaction=True)
def test_two_tabs_with_one_form_say_it_once():
    persona = make_persona(make_team(), chain=CHAIN)
    answer = answer_to(begin(persona))
    said: list[Message] = []

    def tab() -> None:
        try:
            said.append(go_on(answer, key="tab"))
        finally:
            database.close()

    threads = [threading.Thread(target=tab) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(said) == 4
    assert len({message.pk for message in said}) == 1
    assert Message.objects.filter(parent=answer).count() == 1


@pytest.mark.parametrize("page", ["run_detail", "run_progress"])
def test_a_chat_is_nobody_elses_run(client, persona, page):
    run = begin(persona).replies.get().run
    client.force_login(owner_of(persona.team))

    assert client.get(reverse(page, args=[persona.team.slug, run.pk])).status_code == 404
    assert str(run.pk) not in client.get(reverse("run_list", args=[persona.team.slug])).content.decode()
