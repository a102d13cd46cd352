"""Temporary chats: what is said is not kept, in the chat or in the log, and the log says so."""

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse

from audit import display
from audit.clock import app_now
from audit.models import Content, Event
from integrations.advice import NOT_QUOTED
from integrations.bookkeeping import NOT_KEPT, close_in_doubt
from integrations.errors import InvalidRequest
from integrations.models import Call
from personas import attempts, tasks
from personas.chat import keeping, temporary, uploads
from personas.models import Attachment, Chat, Run, StageRun
from tests.factories import make_member, make_team
from tests.integrations.desk import Desk, events_of
from tests.integrations.questions import make_approval
from tests.personas.chat.builders import make_answer, make_chat, make_message, make_run, make_stage, make_turn, said
from tests.personas.chat.test_uploads import png
from vault.content import open_content
from vault.errors import Unreadable
from vault.models import ContentKey

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(sandbox, settings) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    yield Desk(sandbox, balance=50)
    sandbox.rules()


@pytest.fixture
def team():
    return make_team()


def talked(team, **fields) -> Chat:
    """A temporary chat with a turn, a tool call and a picture."""
    chat = make_chat(team, temporary=True, title="Temporary chat", **fields)
    answer = make_turn(chat, "My secret plan", tools=[{"arguments": '{"a": 1}', "content": "Rain."}])
    picture = uploads.take(team=team, by=chat.user, name="secret.png", data=png())
    Attachment.objects.filter(pk=picture.pk).update(message=answer.parent)
    return chat


def readable(chat: Chat) -> list[str]:
    """The kinds of sealed texts of this chat that can still be opened."""
    found = []
    for content in Content.objects.filter(team_id=chat.team_id):
        try:
            open_content(content=content)
        except Unreadable:
            continue
        found.append(content.kind)
    return sorted(found)


def last_event(action: str) -> Event:
    return Event.objects.filter(action=action).latest("at", "id")


# --- calls ------------------------------------------------------------------------------


def test_a_call_that_is_not_kept_is_in_the_log_without_its_texts(desk):
    result = desk.call(keep=False)

    started, finished = events_of(result.call)
    assert (started.content_id, finished.content_id) == (None, None)
    assert (result.call.request_content_id, result.call.response_content_id) == (None, None)
    assert finished.credits == result.call.credits
    assert ("Content", NOT_KEPT) in display.facts_of(finished.details)
    assert ("Content", NOT_KEPT) in display.facts_of(started.details)


def test_what_is_learnt_later_of_such_a_call_is_not_kept_either(desk):
    call = desk.call(keep=False).call
    Call.objects.filter(pk=call.pk).update(state=Call.State.SENT, finished_at=None)

    close_in_doubt(call=Call.objects.get(pk=call.pk))

    assert [event.content_id for event in events_of(call)] == [None] * 3


def test_a_provider_that_repeats_what_it_was_asked_is_not_quoted_in_the_log(sandbox, desk):
    sandbox.rules({"answer": {"kind": "status", "status": 400, "message": "Cannot answer: My secret plan"}})
    for keep in (True, False):
        with pytest.raises(InvalidRequest, match="My secret plan"):
            desk.call(keep=keep)
        call = Call.objects.latest("started_at")
        assert [event.details.get("message", "") for event in events_of(call)] == ["", call.message]
        assert ("My secret plan" in call.message) is keep
    assert call.message == f"{NOT_QUOTED} Correct the arguments."


def test_a_turn_of_a_temporary_chat_asks_for_that(team):
    for is_temporary in (True, False):
        answer = make_turn(make_chat(team, temporary=is_temporary))
        stage = answer.run.stages.select_related("persona").first()
        assert attempts.caller_of(answer.run, stage, 1).keep is not is_temporary


# --- the end ----------------------------------------------------------------------------


def test_ending_a_chat_destroys_what_was_said_and_keeps_that_it_took_place(team):
    chat, kept = talked(team), make_turn(make_chat(team), "Something else")
    keeping.rename(chat=chat, title="My secret plan", by=chat.user)
    before = readable(kept.chat)
    sizes = {row.pk: row.sha256 for row in Content.objects.all()}

    temporary.end(chat=chat, by=chat.user)

    assert readable(chat) == ["message", "output"]
    assert len(before) > 2
    assert not ContentKey.objects.filter(subject=chat.pk).exists()
    assert not Attachment.objects.filter(message__chat=chat).exists()
    assert {row.pk: row.sha256 for row in Content.objects.all()} == sizes
    assert chat.runs.count() == 1
    event = last_event("personas.chat.forgotten")
    assert (event.target, event.details, event.actor_name) == (f"chat:{chat.pk}", {"messages": 1}, chat.user.email)
    chat.refresh_from_db()
    assert (chat.archived_at is not None, chat.title) == (True, "Temporary chat")


def test_what_stands_open_in_its_rows_and_may_repeat_it_goes_too(team):
    chat = make_chat(team, temporary=True)
    tools = [{"name": "my_secret_plan", "tool": ""}, {"name": "get_models_count"}]
    answer = make_answer(make_message(chat), state=Run.State.FAILED, tools=tools, failure="It said: My secret plan")
    answer.run.stages.update(failure="It said: My secret plan")

    temporary.end(chat=chat, by=chat.user)

    answer.run.refresh_from_db()
    rows = [answer.run, *answer.run.stages.all()]
    assert [row.failure for row in rows] == [""] * 5
    assert [(row.name, row.spec) for row in rows[2:4]] == [
        ("unknown_tool", {"kind": "tool", "tool": "", "outcome": "done"}),
        ("get_models_count", {"kind": "tool", "tool": "get_models_count", "outcome": "done"}),
    ]


def test_what_a_person_was_asked_about_it_is_destroyed_too(team):
    chat = talked(team)
    approval = make_approval(team, run_id=chat.runs.get().pk)

    temporary.end(chat=chat, by=chat.user)

    assert Content.objects.get(pk=approval.arguments_content_id).ciphertext is None


def test_a_kept_chat_cannot_be_ended(team):
    chat = make_chat(team)
    answer = make_turn(chat)

    with pytest.raises(temporary.NotTemporary):
        temporary.end(chat=chat, by=chat.user)
    with pytest.raises(Chat.DoesNotExist), transaction.atomic():
        temporary.forget(chat_id=chat.pk, actor=None)

    assert Content.objects.get(pk=answer.parent.content_id).ciphertext is not None


def test_an_answer_under_way_is_stopped_and_what_it_says_last_goes_too(team):
    chat = make_chat(team, temporary=True)
    answer = make_answer(make_message(chat), state=Run.State.RUNNING, partial="So far")
    temporary.end(chat=chat, by=chat.user)
    answer.run.refresh_from_db()
    assert answer.run.stop_wanted_at is not None
    assert Content.objects.get(pk=answer.parent.content_id).ciphertext is not None

    make_stage(answer.run, 5, output=said("The last words"))
    Run.objects.filter(pk=answer.run.pk).update(state=Run.State.STOPPED, finished_at=app_now())
    tasks.forget_chats()

    assert readable(chat) == []
    assert not StageRun.objects.filter(run=answer.run, partial__isnull=False).exists()


def test_an_hour_after_the_last_message_it_goes_by_itself(team, clock):
    chat = talked(team)
    asking = make_run(chat, state=Run.State.PARKED, parked_until=app_now())
    clock(minutes=59)
    tasks.forget_chats()
    assert readable(chat) != []

    clock(minutes=61)
    tasks.forget_chats()
    tasks.forget_chats()

    assert readable(chat) == []
    asking.refresh_from_db()
    assert asking.state == Run.State.STOPPED
    assert last_event("personas.chat.forgotten").actor_kind == "system"
    assert Event.objects.filter(action="personas.chat.forgotten").count() == 1


def test_whoever_says_something_just_then_keeps_it_going(team, clock):
    chat = talked(team)
    clock(minutes=61)
    due = Chat.objects.get(pk=chat.pk)  # as the sweeper found it
    Chat.objects.filter(pk=chat.pk).update(active_at=app_now())

    temporary._forget(due)

    assert readable(chat) != []
    assert Chat.objects.get(pk=chat.pk).archived_at is None


# --- the page ---------------------------------------------------------------------------


def end(chat: Chat, user) -> int:
    client = Client()
    client.force_login(user)
    return client.post(reverse("chat_end", args=[chat.team.slug, chat.pk])).status_code


def test_only_its_member_ends_a_chat(team):
    chat = talked(team)

    assert end(chat, make_member(team, "owner")) == 404
    assert end(make_turn(make_chat(team)).chat, chat.user) == 302
    assert len(readable(chat)) > 3
    assert end(chat, chat.user) == 302
    assert readable(chat) == ["message", "output"]  # of the chat that is kept


def test_a_temporary_chat_says_so_can_be_ended_and_never_comes_back(team):
    chat, client = talked(team), Client()
    client.force_login(chat.user)
    room = reverse("chat_room", args=[team.slug, chat.pk])
    before = client.get(room).content.decode()
    assert reverse("chat_end", args=[team.slug, chat.pk]) in before
    assert reverse("chat_share", args=[team.slug, chat.pk]) not in before
    for kept in ("when and for whom it was made", "tokens, dollars and platform credits", "a fingerprint of what was"):
        assert kept in before

    temporary.end(chat=chat, by=chat.user)
    keeping.bring_back(chat=chat, by=chat.user)

    after = client.get(room).content.decode()
    assert "This temporary chat is over" in after
    assert "My secret plan" not in after
    assert Chat.objects.get(pk=chat.pk).archived_at is not None
