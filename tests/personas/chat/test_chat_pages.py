"""The pages of chats: who sees what, what each shows, and what one may do there."""

import json
import re
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.permissions import Role
from audit.clock import app_now
from audit.ids import uuid7
from audit.models import Content, Event
from integrations import catalog
from integrations.fitting import Needs
from integrations.models import Approval
from personas.candidates import pick
from personas.chat import expecting, turn
from personas.chat.reading import SHOWN, path_of
from personas.chat_forms import models_of
from personas.models import Chat, Message, Run
from tests.factories import make_member, make_team, owner_of
from tests.integrations.questions import make_approval
from tests.personas.builders import make_persona
from tests.personas.chat.builders import (
    make_answer,
    make_call,
    make_chat,
    make_message,
    make_run,
    make_tool_stage,
    make_turn,
    seal,
)

HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00"
LONG = "A paragraph that goes on for a while, as models like to. " * 40
MOST_ELEMENTS = 1500

pytestmark = pytest.mark.django_db


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def chat(team):
    return make_chat(team)


@pytest.fixture
def signed_in(client, team):
    client.force_login(owner_of(team))
    return client


def room(chat: Chat, page: str = "chat_room", **ids) -> str:
    return reverse(page, kwargs={"team_slug": chat.team.slug, "chat_id": chat.pk, **ids})


def text_of(answer) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode()).split())


def send(client, chat: Chat, text: str, **more):
    return client.post(room(chat, "chat_send"), {"text": text, "once": uuid7().hex} | more)


# --- who sees it ------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_somebody_elses_chat_is_there_only_when_it_is_shared(client, chat, shared):
    Chat.objects.filter(pk=chat.pk).update(shared_at=app_now() if shared else None)
    make_turn(chat, "My secret plan")
    client.force_login(make_member(chat.team))
    answer = client.get(room(chat))
    assert answer.status_code == (200 if shared else 404)
    assert ("My secret plan" in answer.content.decode()) is shared


def test_a_reader_of_a_shared_chat_finds_nothing_to_press(client, chat):
    Chat.objects.filter(pk=chat.pk).update(shared_at=app_now())
    answer_message = make_turn(chat)
    client.force_login(make_member(chat.team))
    page = client.get(room(chat)).content.decode()
    assert "Try again" not in page and 'id="composer"' not in page
    for name in ("chat_again", "chat_edit", "chat_stop"):
        assert client.post(room(chat, name, message_id=answer_message.pk)).url == room(chat)
    send(client, chat, "Let me in")
    assert chat.messages.count() == 2


def test_an_answer_of_another_chat_is_not_found_in_this_one(signed_in, team, chat):
    other = make_turn(make_chat(team, persona=chat.persona), tools=[{}])
    stage = other.run.stages.get(kind="tool")
    assert signed_in.get(room(chat, "chat_answer", message_id=other.pk)).status_code == 404
    assert signed_in.get(room(chat, "chat_step", stage_id=stage.pk)).status_code == 404
    assert send(signed_in, chat, "Hello", parent=str(other.pk)).status_code == 404


def test_an_answer_shows_each_call_of_its_sum(signed_in, chat):
    answer = make_turn(chat, tools=[{"name": "get_credits"}])
    said = text_of(signed_in.get(room(chat, "chat_answer", message_id=answer.pk)))
    assert said.count("$0.000295") == 2 and "$0.00059" in said and "get_credits" in said


# --- what the room shows ----------------------------------------------------------------


def test_an_answer_says_who_gave_it_and_what_it_took(signed_in, chat):
    make_turn(chat)
    said = text_of(signed_in.get(room(chat)))
    assert "openai/gpt-5-mini via OpenAI" in said
    for figure in (
        "412 tokens in, 96 out",
        "$0.000295",
        "2 platform credits",
        "4.0 s",
        "version 1",
        "retention not reported",
    ):
        assert figure in said, figure


def test_text_of_members_is_no_markup(signed_in, chat):
    make_turn(chat, "<b>bold</b> **stars** ![x](https://example.org/x.png)")
    page = signed_in.get(room(chat)).content.decode()
    assert "&lt;b&gt;bold&lt;/b&gt; **stars** ![x]" in page


def test_what_a_model_says_is_cleaned_and_its_code_can_be_copied(signed_in, chat):
    make_turn(chat, "Code?", '<button data-copy hx-post="/x">no</button>\n\n```html\n</code></pre><script>\n```')
    page = signed_in.get(room(chat)).content.decode()
    prose = page[page.index('class="prose"') : page.index('class="took"')]
    assert prose.count("<button") == 1 and "<script" not in prose
    assert "&lt;/code&gt;&lt;/pre&gt;&lt;script&gt;" in prose
    assert '<button class="btn btn-s btn-icon" type="button" data-js data-copy hidden aria-label="Copy code">' in prose


def test_a_bill_that_is_being_looked_up_is_said_to_be(signed_in, chat):
    unknown = {"state": "unknown", "cost_usd": None, "credits": None, "tokens_in": None, "tokens_out": None}
    make_turn(chat, state="failed", partial="Half of", failure="The worker was lost.", call=unknown)
    said = text_of(signed_in.get(room(chat)))
    assert "This answer broke off. The worker was lost. Whether it was billed is being looked up" in said
    assert "cost being looked up" in said and "0 platform credits, 4 held" in said
    assert "Half of" in said and "Go on" in said and "Try again" in said


def test_a_stopped_answer_says_what_was_billed(signed_in, chat):
    make_turn(chat, state="stopped", partial="Half of")
    said = text_of(signed_in.get(room(chat)))
    assert "Stopped. What was said by then is kept. Billed: $0.000295 and 2 platform credits." in said


def test_an_answer_that_never_came_offers_to_try_again_alone(signed_in, chat):
    make_turn(chat, state="failed", partial="", failure="No model answers.", call={"state": "failed", "cost_usd": None})
    said = text_of(signed_in.get(room(chat)))
    assert "There is no answer. No model answers." in said
    assert "Go on" not in said and "Try again" in said


def test_an_answer_under_way_is_streamed_and_can_be_stopped(signed_in, chat):
    answer = make_turn(chat, state="running", partial="Half of")
    page = signed_in.get(room(chat)).content.decode()
    stream = room(chat, "chat_stream")
    assert f'hx-sse:connect="{stream}?after=0" hx-sse:close="done"' in page
    assert 'aria-busy="true"' in page and "Half of" in page
    signed_in.post(room(chat, "chat_stop", message_id=answer.pk))
    assert Run.objects.get(pk=answer.run_id).stop_wanted_at


def test_without_streaming_an_answer_under_way_is_polled(signed_in, chat, settings):
    settings.STREAMING = False
    answer = make_turn(chat, state="running", partial="Half of")
    page = signed_in.get(room(chat)).content.decode()
    address = room(chat, "chat_answer", message_id=answer.pk)
    assert f'hx-get="{address}" hx-trigger="tick from:body"' in page
    assert "hx-sse" not in page


def test_a_polled_answer_is_sent_only_when_it_changed(signed_in, chat):
    address = room(chat, "chat_answer", message_id=make_turn(chat, state="running", partial="Half of").pk)
    first = signed_in.get(address, headers=HTMX)
    assert first.status_code == 200 and first.content.decode().lstrip().startswith("<article")
    assert signed_in.get(address, headers=HTMX | {"HX-PTag": first["HX-PTag"]}).status_code == 304


def test_text_that_is_not_kept_is_said_to_be(signed_in, chat):
    answer = make_turn(chat)
    Content.objects.update(ciphertext=None)
    said = text_of(signed_in.get(room(chat)))
    assert said.count("What was said is not kept.") == 2
    assert answer.pk


def test_earlier_messages_come_on_demand(signed_in, chat):
    answer = None
    for number in range(20):
        answer = make_turn(chat, f"Question {number}.", parent=answer)
    page = signed_in.get(room(chat)).content.decode()
    turns = SHOWN // 2
    first, before_it = f"Question {20 - turns}.", f"Question {19 - turns}."
    assert first in page and before_it not in page
    before = re.search(r'href="([^"]+before=[^"]+)"', page)[1]
    assert before_it in signed_in.get(before).content.decode()
    fragment = signed_in.get(before, headers=HTMX).content.decode()
    assert before_it in fragment and "<html" not in fragment


def test_branches_are_numbered_and_lead_to_each_other(signed_in, chat):
    first = make_turn(chat, "One", "Une")
    make_answer(first.parent, "Uno")
    page = signed_in.get(room(chat)).content.decode()
    assert "2 of 2" in page and "Uno" in page and "Une" not in page
    assert "Une" in signed_in.get(f"{room(chat)}?m={first.pk}").content.decode()


def test_a_chat_can_be_gone_on_with_from_an_answer_in_the_middle(signed_in, chat):
    first = make_turn(chat, "One", "Une")
    make_turn(chat, "Two", "Deux", parent=first)
    page = signed_in.get(f"{room(chat)}?at={first.pk}").content.decode()
    assert "Deux" not in page
    assert f'name="parent" value="{first.pk}"' in page


def test_two_answers_are_compared_side_by_side(signed_in, chat):
    question, together = make_message(chat, "Which?"), uuid7()
    for text in ("Left", "Right"):
        make_answer(question, text, compared_with=together, model=f"openai/{text.lower()}")
    page = signed_in.get(room(chat)).content.decode()
    side = page[page.index('class="compared"') :]
    assert "Left" in side and "Right" in side and side.count("Use this one") == 2


# --- tools ------------------------------------------------------------------------------


def test_a_tool_call_is_one_line_that_opens_to_what_it_asked_and_was_given(signed_in, chat):
    answer = make_turn(chat, tools=[{"name": "get_credits", "arguments": '{"a": 1}', "result": {"balance": "12"}}])
    page = signed_in.get(room(chat)).content.decode()
    assert "balance" not in page
    step = room(chat, "chat_step", stage_id=answer.run.stages.get(kind="tool").pk)
    assert f'hx-get="{step}" hx-trigger="toggle once"' in page
    said = text_of(signed_in.get(step))
    assert "&quot;a&quot;: 1" in said and "&quot;balance&quot;: &quot;12&quot;" in said and "Attempts" in said


def test_a_model_that_was_consulted_is_heard_inside_its_call(signed_in, chat):
    result = {"successful": True, "data": {"text": "I *agree*."}, "error": None, "meta": {}}
    calls = [{"model": "google/gemini-2.5-flash", "provider": "Google"}]
    answer = make_turn(chat, tools=[{"name": "create_message", "result": result, "calls": calls}])
    step = room(chat, "chat_step", stage_id=answer.run.stages.get(kind="tool").pk)
    said = signed_in.get(step, headers=HTMX).content.decode()
    assert "google/gemini-2.5-flash said" in said and "<em>agree</em>" in said


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("refused", "Refused"), ("unknown_tool", "No such tool"), ("repeated", "Repeated"), ("too_slow", "Too slow")],
)
def test_a_tool_call_says_what_became_of_it(signed_in, chat, outcome, words):
    make_turn(chat, tools=[{"outcome": outcome, "calls": ()}])
    assert words in text_of(signed_in.get(room(chat)))


def asking(chat: Chat) -> tuple[Run, Approval]:
    """A turn that waits for a person."""
    run = make_run(chat, state="parked")
    Message.objects.create(
        team=chat.team, chat=chat, parent=make_message(chat), role="assistant", run=run, created_at=app_now()
    )
    stage = make_tool_stage(run, 0, name="create_message", arguments='{"model": "x/y"}', outcome="")
    approval = make_approval(chat.team)
    Approval.objects.filter(pk=approval.pk).update(run_id=run.pk, stage_id=stage.pk)
    until = app_now() + timedelta(hours=1)
    Run.objects.filter(pk=run.pk).update(approval=approval, parked_until=until)
    return run, approval


def test_a_tool_that_must_ask_is_decided_in_the_chat(signed_in, chat):
    _, approval = asking(chat)
    page = signed_in.get(room(chat))
    said = text_of(page)
    assert "strangers" not in said
    Approval.objects.update(untrusted=True)
    assert "Words of strangers had been read when this was asked for" in text_of(signed_in.get(room(chat)))
    for words in ("must ask before it uses", "Allow once", "Always", "Refuse", "platform credit"):
        assert words in said, words
    assert 'aria-busy="true"' not in page.content.decode()
    decide = reverse("approval_decide", args=[chat.team.slug, approval.pk])
    answer = signed_in.post(decide, {"verdict": "refused", "back": "chat"})
    assert answer.url == f"{room(chat)}#newest"
    assert Approval.objects.get(pk=approval.pk).state == "refused"


def test_a_member_without_the_right_reads_who_decides(client, chat):
    member = make_member(chat.team)
    Chat.objects.filter(pk=chat.pk).update(user=member)
    asking(Chat.objects.get(pk=chat.pk))
    client.force_login(member)
    said = text_of(client.get(room(chat)))
    assert "Allow once" not in said and "may not decide approvals" in said


# --- saying something -------------------------------------------------------------------


def test_what_is_sent_is_there_and_a_second_press_sends_nothing(signed_in, chat):
    form = {"text": "Hello there", "once": "a" * 32}
    for _ in range(2):
        assert signed_in.post(room(chat, "chat_send"), form).url == f"{room(chat)}#newest"
    assert [shown.text for shown in path_of(chat).messages] == ["Hello there", ""]
    said = text_of(signed_in.get(room(chat)))
    assert "Hello there" in said and "Waiting for a worker" in said


def test_the_same_press_with_other_words_is_another_message(signed_in, chat):
    for text in ("One", "Two"):
        signed_in.post(room(chat, "chat_send"), {"text": text, "once": "a" * 32})
    assert chat.messages.filter(role="user").count() == 2


@pytest.mark.parametrize("text", ["", "   \n"])
def test_nothing_is_not_sent(signed_in, chat, text):
    answer = send(signed_in, chat, text)
    assert answer.status_code == 422
    assert "Write something first." in text_of(answer)
    assert "<title>Error: " in answer.content.decode()


def test_what_could_not_be_sent_is_still_in_the_field(signed_in, chat):
    running = make_turn(chat, state="running", partial="")
    answer = send(signed_in, chat, "My long thoughts", parent=str(running.pk))
    assert answer.status_code == 422
    assert "still being written" in text_of(answer)
    assert ">My long thoughts</textarea>" in answer.content.decode()


def test_a_message_that_is_too_long_says_by_how_much(signed_in, chat):
    answer = send(signed_in, chat, "x" * 200_001)
    assert answer.status_code == 422 and "200,000 are the most" in text_of(answer)


def test_only_models_of_the_persona_can_be_chosen(signed_in, team):
    chat = make_chat(team, persona=make_persona(team, chain=["openai/gpt-5-mini", "openai/gpt-5"]))
    assert send(signed_in, chat, "Hello", model="evil/model").status_code == 422
    assert send(signed_in, chat, "Hello", model="", compare="openai/gpt-5").status_code == 422
    send(signed_in, chat, "Hello", model="openai/gpt-5-mini", compare="openai/gpt-5")
    answers = chat.messages.filter(role="assistant")
    assert {each.model for each in answers} == {"openai/gpt-5-mini", "openai/gpt-5"}
    assert len({each.compared_with for each in answers}) == 1


def test_a_persona_with_a_rule_and_no_model_offers_those_that_its_rule_finds_best(signed_in, team, known_catalog):
    chat = make_chat(team, persona=make_persona(team, chain=[], routing="cheapest"))
    offered = models_of(chat.persona.version)
    assert 2 <= len(offered) <= 6
    assert offered[0] == pick((), "cheapest", known_catalog, Needs(), lambda model: "").candidates[0].model
    send(signed_in, chat, "Hello", model=offered[1])
    assert chat.messages.get(role="assistant").model == offered[1]


def test_a_call_that_a_stop_cut_off_is_not_said_to_be_none(signed_in, chat):
    answer = make_turn(chat, state="stopped", partial="", tools=[{"outcome": "", "state": "skipped"}])
    assert "Not called" in text_of(signed_in.get(room(chat)))
    make_call(answer.run.stages.get(kind="tool"), tool="get_credits", state="unknown", credits=None)
    said = text_of(signed_in.get(room(chat)))
    assert "Cut off" in said and "Not called" not in said


def test_a_form_with_a_file_that_comes_twice_is_one_message(signed_in, chat):
    for _ in range(2):
        file = SimpleUploadedFile("dot.png", PNG, content_type="image/png")
        answer = signed_in.post(room(chat, "chat_send"), {"text": "Look", "once": "d" * 32, "files": file})
        assert answer.status_code == 302
    message = chat.messages.get(role="user")
    assert message.attachments.count() == 1
    assert Run.objects.count() == 1


@pytest.mark.requirement("BUD-13")
def test_a_file_goes_along_and_survives_a_mistake(signed_in, chat):
    running = make_turn(chat, state="running", partial="")
    file = SimpleUploadedFile("dot.png", PNG, content_type="image/png")
    refused = send(signed_in, chat, "Look", parent=str(running.pk), files=[file])
    kept = chat.team.attachments.get()
    assert f'name="upload" value="{kept.pk}"' in refused.content.decode()
    Run.objects.filter(pk=running.run_id).update(state="succeeded", finished_at=app_now())
    again = {"parent": str(running.pk), "upload": [str(kept.pk)], "once": "e" * 32}
    first, second = (send(signed_in, chat, "Look", **again) for _ in range(2))
    assert (first.status_code, first.url) == (second.status_code, second.url) == (302, first.url)
    assert [each.name for each in chat.messages.get(attachments=kept).attachments.all()] == ["dot.png"]
    other = send(signed_in, chat, "Look", **again | {"once": "f" * 32})
    assert "was sent already" in text_of(other) and f'value="{kept.pk}"' not in other.content.decode()


def test_a_file_that_lies_is_not_taken(signed_in, chat):
    file = SimpleUploadedFile("dot.png", b"<html>", content_type="image/png")
    answer = send(signed_in, chat, "Look", files=[file])
    assert answer.status_code == 422 and "dot.png is none of the files" in text_of(answer)
    assert not chat.team.attachments.exists() and not chat.messages.exists()


def test_somebody_elses_file_is_not_sent(signed_in, chat):
    theirs = chat.team.attachments.create(
        owner=make_member(chat.team),
        name="x.png",
        media_type="image/png",
        size=1,
        content_id=seal(chat, {}),
        created_at=app_now(),
    )
    send(signed_in, chat, "Look", upload=[str(theirs.pk)])
    assert not chat.messages.filter(attachments=theirs).exists()


def test_another_answer_and_other_words_are_branches(signed_in, chat):
    answer = make_turn(chat, "One", "Une")
    again = signed_in.post(room(chat, "chat_again", message_id=answer.pk), {"once": "b" * 32})
    assert "?m=" in again.url
    assert answer.parent.replies.count() == 2
    signed_in.post(room(chat, "chat_edit", message_id=answer.parent_id), {"text": "Two", "once": "b" * 32})
    assert [shown.text for shown in path_of(chat).messages] == ["Two", ""]
    assert chat.messages.filter(parent=None).count() == 2


def test_an_answer_cannot_be_edited(signed_in, chat):
    answer = make_turn(chat)
    page = signed_in.post(room(chat, "chat_edit", message_id=answer.pk), {"text": "Two"}, follow=True)
    assert "Only what you said yourself can be edited." in text_of(page)


def test_the_range_is_said_before_anything_is_sent(signed_in, chat):
    assert "At most 500 platform credits" in text_of(signed_in.get(room(chat)))
    make_turn(chat)
    said = text_of(signed_in.get(room(chat)))
    assert "Likely 2 platform credits and $0.000295, at most 500 platform credits" in said
    assert "Both answers" not in said


def test_two_answers_are_said_to_take_twice_what_one_may_and_each_may_hold_half(signed_in, team):
    persona = make_persona(team, name="Twins", chain=["openai/gpt-5-mini", "openai/gpt-5"])
    assert "Both answers together: At most 1,000 platform" in text_of(
        signed_in.get(reverse("chat_create", args=[team.slug]), {"persona": persona.slug})
    )
    chat = make_chat(team, persona=persona)
    make_turn(chat)
    said = text_of(signed_in.get(room(chat)))
    assert "Both answers together: Likely 4 platform credits and $0.00059, at most 1,000 platform credits" in said
    estimate = expecting.of_message(team=team, version=persona.version)
    send(signed_in, chat, "Hi", model="openai/gpt-5-mini", compare="openai/gpt-5")
    limits = [turn.Turn(run, None).version.most_credits for run in chat.runs.filter(state="queued")]
    assert (len(limits), sum(limits)) == (2, expecting.of_two(estimate).most_credits)


# --- lists and new chats ----------------------------------------------------------------


def test_a_new_chat_begins_with_a_persona_and_a_message(signed_in, team):
    writer = make_persona(team, name="Writer")
    make_persona(team, name="Reader")
    address = reverse("chat_create", args=[team.slug])
    assert "Writer" in text_of(signed_in.get(address)) and "Reader" in text_of(signed_in.get(address))
    assert "Message Writer" in signed_in.get(f"{address}?persona={writer.slug}").content.decode()
    form = {"text": "Hello", "once": "c" * 32, "temporary": "on"}
    answers = [signed_in.post(f"{address}?persona={writer.slug}", form) for _ in range(2)]
    chat = Chat.objects.get()
    assert {answer.url for answer in answers} == {f"{room(chat)}#newest"}
    assert chat.temporary and chat.persona == writer


@pytest.mark.parametrize(
    ("role", "words"), [(Role.BUILDER, "Create a persona"), (Role.MEMBER, "A builder of this team")]
)
def test_a_team_without_personas_says_what_to_do(client, team, role, words):
    client.force_login(make_member(team, role))
    assert words in text_of(client.get(reverse("chat_create", args=[team.slug])))


def test_an_auditor_reads_and_does_not_begin(client, team):
    client.force_login(make_member(team, Role.AUDITOR))
    page = client.get(reverse("chat_list", args=[team.slug]))
    assert "it does not start chats" in text_of(page) and "New chat" not in text_of(page)
    assert client.get(reverse("chat_create", args=[team.slug])).status_code == 403


def test_a_list_is_searched_by_title(signed_in, chat):
    address = reverse("chat_list", args=[chat.team.slug])
    assert "A quiet harbour" in text_of(signed_in.get(f"{address}?q=QUIET"))
    assert "No chat matches" in text_of(signed_in.get(f"{address}?q=storm"))
    assert "<html" not in signed_in.get(f"{address}?q=quiet", headers=HTMX).content.decode()


def test_a_chat_is_renamed_archived_and_brought_back(signed_in, chat):
    signed_in.post(room(chat, "chat_rename"), {"title": "Lease"})
    signed_in.post(room(chat, "chat_archive"))
    chat.refresh_from_db()
    assert (chat.title, chat.titled_by_hand, chat.archived_at is not None) == ("Lease", True, True)
    page = signed_in.get(room(chat))
    assert "Bring back" in text_of(page) and 'id="composer"' not in page.content.decode()
    signed_in.post(room(chat, "chat_bring_back"))
    chat.refresh_from_db()
    assert chat.archived_at is None
    told = Event.objects.filter(target=f"chat:{chat.pk}").order_by("at").values_list("action", flat=True)
    assert list(told) == ["personas.chat.renamed", "personas.chat.archived", "personas.chat.brought_back"]
    assert "Lease" not in json.dumps([each.details for each in Event.objects.filter(target=f"chat:{chat.pk}")])


# --- weight -----------------------------------------------------------------------------


def test_a_page_of_long_messages_is_few_elements_and_few_queries(signed_in, chat, monkeypatch):
    monkeypatch.setattr(catalog, "LOOK_AGAIN", 3600)  # a slow machine must not look twice
    answer = None
    for number in range(20):
        answer = make_turn(chat, f"{number} {LONG}", f"{LONG}\n\n```\n{LONG}\n```", parent=answer, tools=[{}, {}])
    signed_in.get(room(chat))
    with CaptureQueriesContext(connection) as captured:
        page = signed_in.get(room(chat)).content.decode()
    assert page.count('class="said ') == SHOWN
    assert len(captured) <= 12, "\n".join(query["sql"] for query in captured.captured_queries)
    assert len(re.findall(r"<[a-z]", page)) <= MOST_ELEMENTS
