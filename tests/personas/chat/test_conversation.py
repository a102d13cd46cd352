"""What a model is asked in a chat, judged by the argument models, by the stand-in service and by its own rules."""

import json
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from audit.models import Content
from integrations.calls import CallResult
from integrations.openrouter.tools import OPENROUTER
from integrations.registry import parse_arguments
from integrations.wire import Answer, ToolCall
from personas.chat import conversation, history, replay, toolcalls
from personas.models import Message, Run
from tests.integrations.desk import Desk
from tests.personas.builders import make_persona
from tests.personas.chat.builders import (
    make_answer,
    make_chat,
    make_message,
    make_run,
    make_stage,
    make_tool_stage,
    make_turn,
    said,
    seal,
)
from vault.content import open_content

pytestmark = pytest.mark.django_db

CLAUDE = "anthropic/claude-sonnet-4.6"
LOOK_UP = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "chat": [{"type": "function", "function": {"name": "look_up", "description": "Weather.", "parameters": LOOK_UP}}],
    "messages": [{"name": "look_up", "description": "Weather.", "input_schema": LOOK_UP}],
}
FORMATS = ["chat", "messages"]
TOOL = {"chat": "create_chat_completion", "messages": "create_message"}
SURROGATE = "half \ud83d pair"


class Box:
    """A toolbox with one function, or none."""

    def __init__(self, *, empty: bool = False) -> None:
        self.empty = empty

    def functions(self, format: str) -> list[dict[str, Any]]:
        return [] if self.empty else WEATHER[format]


@pytest.fixture
def desk(sandbox, settings) -> Desk:
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    return Desk(sandbox, balance=50)


def a_chat(desk: Desk, **version: Any):
    return make_chat(desk.team, persona=make_persona(desk.team, **({"chain": [CLAUDE]} | version)))


def last_of(chat, parent: Message | None = None, text: str = "And now?") -> Message:
    """A question with its answer still to be written."""
    question = make_message(chat, text, parent=parent)
    run = make_run(chat, state=Run.State.RUNNING)
    return Message.objects.create(
        team=chat.team,
        chat=chat,
        parent=question,
        role=Message.Role.ASSISTANT,
        run=run,
        created_at=question.created_at,
    )


def request(message: Message, box: Box | None = None) -> tuple[str, dict[str, Any]]:
    """The request for an answer; it must pass the tool's own argument model and pair every tool call."""
    version = message.chat.persona.version
    tool, arguments = conversation.request(run=message.run, message=message, version=version, toolbox=box or Box())
    parse_arguments(OPENROUTER.tool(tool), arguments | {"model": CLAUDE})
    assert dangling(arguments["messages"]) == []
    return tool, arguments


def dangling(messages: list[dict[str, Any]]) -> list[str]:
    """Calls without exactly one result right behind them, and results without a call."""
    open_calls: list[str] = []
    wrong = []
    for message in messages:
        results = results_in(message)
        if open_calls and message["role"] != "tool" and not results:
            wrong += open_calls
            open_calls = []
        for id in results:
            wrong += [] if id in open_calls else [id]
            open_calls = [each for each in open_calls if each != id]
        open_calls += calls_in(message)
    return wrong + open_calls


def calls_in(message: dict[str, Any]) -> list[str]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return [call["id"] for call in message.get("tool_calls", ())] + [b["id"] for b in blocks if b["type"] == "tool_use"]


def results_in(message: dict[str, Any]) -> list[str]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    own = [message["tool_call_id"]] if message["role"] == "tool" else []
    return own + [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]


def texts(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments["messages"], ensure_ascii=False)


def roles(arguments: dict[str, Any]) -> list[str]:
    return [message["role"] for message in arguments["messages"]]


def answered(model: str = CLAUDE, text: str = "", calls: tuple[ToolCall, ...] = (), **data: Any) -> CallResult:
    """An answer as the client reads it."""
    return CallResult(
        SimpleNamespace(pk=SimpleNamespace(hex="a" * 32)),
        Answer(200, data, model=model, text=text, tool_calls=calls),
        {},
    )


# --- what goes wrong --------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "arguments",
    ["not JSON", "[1]", '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud83d"}', '{"a":' * 40 + "1" + "}" * 40, ""],
)
def test_arguments_that_are_no_object_can_still_be_sent_back(desk, format, arguments):
    chat = a_chat(desk, format=format)
    answer = make_answer(make_message(chat), "Done.", tools=[{"name": "look_up", "arguments": arguments}])
    stage = answer.run.stages.first()
    value = said("", calls=["look_up"])
    value["tool_calls"][0]["arguments"] = arguments
    stage.output_content_id = sealed(chat, value)
    stage.save(update_fields=["output_content_id"])

    _, asked = request(last_of(chat, answer))

    found = [call for message in asked["messages"] for call in given(message)]
    assert len(found) == 1
    assert isinstance(found[0], dict)


def given(message: dict[str, Any]) -> list[Any]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    calls = [json.loads(call["function"]["arguments"]) for call in message.get("tool_calls", ())]
    return calls + [block["input"] for block in blocks if block["type"] == "tool_use"]


def sealed(chat, value: Any):
    from tests.personas.chat.builders import seal

    return seal(chat, value)


@pytest.mark.parametrize("format", FORMATS)
def test_a_call_whose_tool_never_ran_gets_a_result_that_says_so(desk, format):
    chat = a_chat(desk, format=format)
    question = make_message(chat)
    run = make_run(chat, state=Run.State.FAILED, failure="Out of time.")
    make_stage(run, 0, output=said("Let me look.", calls=["look_up", "look_up"]))
    make_tool_stage(run, 1, name="look_up", content="Rain.")
    answer = Message.objects.create(
        team=chat.team, chat=chat, parent=question, role="assistant", run=run, created_at=run.queued_at
    )

    _, asked = request(last_of(chat, answer))

    assert texts(asked).count("Not done") == 1
    assert "Rain." in texts(asked)
    assert history.NO_ANSWER in texts(asked)


@pytest.mark.parametrize("format", FORMATS)
def test_an_interrupted_answer_is_what_it_said_and_a_note(desk, format):
    chat = a_chat(desk, format=format)
    answer = make_answer(make_message(chat), state=Run.State.FAILED, partial="The harbour is")

    _, asked = request(last_of(chat, answer))

    assert asked["messages"][-2]["role"] == "assistant"
    assert "The harbour is\\n\\n" + history.CUT in json.dumps(asked["messages"][-2])


@pytest.mark.parametrize("format", FORMATS)
def test_what_was_erased_is_named_and_nothing_dangles(desk, format):
    chat = a_chat(desk, format=format)
    first = make_turn(chat, "My secret plan", tools=[{"name": "look_up", "content": "Rain."}])
    Content.objects.filter(team_id=desk.team.pk, subject=chat.pk).update(ciphertext=None)

    _, asked = request(last_of(chat, first))

    assert history.GONE in texts(asked)
    assert history.ANSWER_GONE in texts(asked)
    assert "secret plan" not in texts(asked)


@pytest.mark.parametrize("format", FORMATS)
def test_an_answer_that_failed_at_once_leaves_no_two_questions_in_a_row(desk, format):
    chat = a_chat(desk, format=format)
    answer = make_answer(make_message(chat), state=Run.State.FAILED, partial="")

    _, asked = request(last_of(chat, answer), Box(empty=True))

    assert [role for role in roles(asked) if role != "system"] == ["user", "assistant", "user"]


def test_a_message_of_200_000_characters_is_sent_whole(desk):
    chat = a_chat(desk)
    text = "harbour " * 25_000

    _, asked = request(last_of(chat, text=text))

    assert asked["messages"][-1]["content"] == text


def test_text_of_a_model_that_utf8_cannot_hold_is_kept_in_a_form_that_can_be_sent(desk):
    call = ToolCall("", "look\ud83d up", '{"city": "\ud83d"}')
    kept = conversation.said(answered(text=SURROGATE + "\0", calls=(call, replace(call))), "chat")

    json.dumps(kept, ensure_ascii=False).encode()
    assert kept["text"].startswith("half ")
    assert "\0" not in kept["text"]
    assert len({each["id"] for each in kept["tool_calls"]}) == 2


@pytest.mark.parametrize("format", FORMATS)
def test_a_call_with_a_long_id_finds_its_result(desk, format):
    long = "x" * 300
    calls = (ToolCall(f"{long}1", "get_credits", "{}"), ToolCall(f"{long}2", "get_credits", "{}"))
    message = last_of(a_chat(desk))
    kept = conversation.said(answered(calls=calls), format)

    planned = toolcalls.plan(message.run, kept, message.chat.persona.version)

    ids = [each["id"] for each in kept["tool_calls"]]
    assert len(set(ids)) == 2
    assert [spec["call"] for spec, _ in planned] == ids


def test_an_answer_of_odd_shape_is_kept_without_it(desk):
    for data in ({}, {"choices": []}, {"choices": [None]}, {"choices": [{"message": {"reasoning_details": "x"}}]}):
        assert conversation.said(answered(text="Hi", **data), "chat")["replay"] == {
            "role": "assistant",
            "content": "Hi",
        }
    for content in (None, "x", [None, {"type": "text", "text": " "}, {"type": "thinking"}, {"type": "novel", "x": 1}]):
        assert conversation.said(answered(text="Hi", content=content), "messages")["replay"]["content"] == []


def test_exact_numbers_of_a_model_become_plain_ones(desk):
    call = ToolCall("t1", "look_up", '{"degrees": 1.5, "days": 3}')
    block = {
        "type": "tool_use",
        "id": "t1",
        "name": "look_up",
        "input": {"degrees": Decimal("1.5"), "days": 3},
        "caller": {},
    }
    kept = conversation.said(answered(calls=(call,), content=[block]), "messages")

    assert json.loads(json.dumps(kept))["replay"]["content"] == [
        {"type": "tool_use", "id": "t1", "name": "look_up", "input": {"degrees": 1.5, "days": 3}}
    ]


# --- the conversation -------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_only_the_branch_is_told(desk, format):
    chat = a_chat(desk, format=format)
    first = make_turn(chat, "Name a colour", "Blue")
    make_turn(chat, "Not this branch", "Never told", parent=first)
    sibling = make_message(chat, "Name a boat", parent=first)
    make_answer(sibling, "Another sibling")

    _, asked = request(last_of(chat, make_answer(sibling, "A dinghy")))

    told = texts(asked)
    assert [word in told for word in ("Name a colour", "Blue", "Name a boat", "A dinghy", "And now?")] == [True] * 5
    assert [word in told for word in ("Not this branch", "Never told", "Another sibling")] == [False] * 3


def test_the_steps_of_the_turn_under_way_come_last(desk):
    chat = a_chat(desk)
    message = last_of(chat, text="Weather?")
    make_stage(message.run, 0, output=said("", calls=["look_up", "look_up"]))
    make_tool_stage(message.run, 1, name="look_up", content="Rain.")
    make_tool_stage(message.run, 2, name="look_up", content="Denied.", outcome="refused")
    make_stage(message.run, 3, state="waiting")

    _, asked = request(message)

    assert roles(asked) == ["system", "user", "assistant", "tool", "tool"]
    assert [each["content"] for each in asked["messages"][-2:]] == ["Rain.", "Denied."]
    assert asked["messages"][2]["content"] is None


def test_a_result_that_is_an_error_is_marked_in_messages(desk):
    chat = a_chat(desk, format="messages")
    message = last_of(chat)
    make_stage(message.run, 0, output=said("", calls=["look_up"]))
    make_tool_stage(message.run, 1, name="look_up", content="Denied.", outcome="refused")

    _, asked = request(message)

    assert asked["messages"][-1]["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": "Denied.", "is_error": True}
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_without_tools_on_offer_what_tools_did_is_told_in_words(desk, format):
    chat = a_chat(desk, format=format)
    answer = make_turn(chat, tools=[{"name": "look_up", "content": "Rain."}])

    _, asked = request(last_of(chat, answer), Box(empty=True))

    assert "tools" not in asked
    assert [call for message in asked["messages"] for call in calls_in(message)] == []
    assert "look_up was called" in texts(asked)
    assert "Rain." in texts(asked)


# --- reasoning --------------------------------------------------------------------------

DETAILS = [{"type": "reasoning.text", "text": "Hm.", "signature": "sig==", "format": "anthropic-claude-v1", "index": 0}]
THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": "sig=="}


def thoughtful(format: str, model: str = CLAUDE, calls: tuple[ToolCall, ...] = ()) -> dict[str, Any]:
    """What is kept of an answer that was thought about first."""
    message = {"role": "assistant", "content": "Sunny", "reasoning": "Hm.", "reasoning_details": DETAILS}
    uses = [{"type": "tool_use", "id": call.id, "name": call.name, "input": {}} for call in calls]
    data = (
        {"choices": [{"message": message}]}
        if format == "chat"
        else {"content": [THOUGHT, {"type": "text", "text": "Sunny"}, *uses]}
    )
    return conversation.said(answered(model, "Sunny", calls, **data), format)


def reasoning_in(asked: dict[str, Any]) -> list[Any]:
    found = []
    for message in asked["messages"]:
        found += message.get("reasoning_details", ())
        content = message.get("content")
        found += [block for block in content if block["type"] == "thinking"] if isinstance(content, list) else []
    return found


def after_thinking(desk: Desk, kept: str, sent: str, model: str, **version: Any) -> list[Any]:
    """What reasoning a request carries after a turn in which a model thought."""
    chat = a_chat(desk, **({"format": sent} | version))
    answer = make_answer(make_message(chat))
    stage = answer.run.stages.first()
    stage.output_content_id = sealed(chat, thoughtful(kept, model))
    stage.save(update_fields=["output_content_id"])
    return reasoning_in(request(last_of(chat, answer))[1])


def test_reasoning_goes_back_untouched_to_models_of_the_same_author(desk):
    assert after_thinking(desk, "chat", "chat", "anthropic/claude-4.6-sonnet-20260217") == DETAILS
    assert after_thinking(desk, "messages", "messages", "anthropic/claude-4.6-sonnet-20260217") == [THOUGHT]


def test_reasoning_is_dropped_for_other_authors_formats_and_chains(desk):
    assert after_thinking(desk, "chat", "chat", "google/gemini-3-pro") == []
    assert after_thinking(desk, "chat", "messages", CLAUDE) == []
    assert after_thinking(desk, "messages", "chat", CLAUDE) == []
    assert after_thinking(desk, "chat", "chat", CLAUDE, chain=[CLAUDE, "openai/gpt-5-mini"]) == []
    assert after_thinking(desk, "chat", "chat", CLAUDE, chain=["anthropic/*"], routing="cheapest") == []


@pytest.mark.parametrize("format", FORMATS)
def test_within_a_turn_whoever_answered_last_gets_its_reasoning_back(desk, format):
    chat = a_chat(desk, format=format, chain=[CLAUDE, "google/gemini-3-pro"])
    message = last_of(chat)
    call = ToolCall("t1", "look_up", "{}")
    make_stage(message.run, 0, output=thoughtful(format, "google/gemini-3-pro", (call,)))
    make_tool_stage(
        message.run,
        1,
        name="look_up",
        content="Rain.",
        spec={"kind": "tool", "tool": "", "name": "look_up", "call": "t1"},
    )

    assert reasoning_in(request(message)[1]) == (DETAILS if format == "chat" else [THOUGHT])


# --- long conversations -----------------------------------------------------------------


def long_chat(desk: Desk, turns: int, words: int, **version: Any) -> Message:
    chat, parent = a_chat(desk, **version), None
    for number in range(turns):
        parent = make_turn(chat, f"Question {number}. " + "tide " * words, f"Answer {number}.", parent=parent)
    return last_of(chat, parent)


def test_a_long_history_costs_six_queries(desk, known_catalog):
    message = long_chat(desk, 12, 2, knows_member=True)
    message = Message.objects.select_related("chat__persona__version", "run__team", "run__user").get(pk=message.pk)
    version = message.chat.persona.version
    conversation.request(run=message.run, message=message, version=version, toolbox=Box())

    with CaptureQueriesContext(database) as queries:
        conversation.request(run=message.run, message=message, version=version, toolbox=Box())

    assert len(queries) <= 6, [query["sql"][:90] for query in queries]


@pytest.mark.parametrize("format", FORMATS)
def test_the_oldest_turns_are_left_out_whole_and_the_beginning_is_kept(desk, format, monkeypatch):
    message = long_chat(desk, 8, 2000, format=format)
    monkeypatch.setattr(conversation, "room_for", lambda *_: 40_000)

    _, asked = request(message)

    told = texts(asked)
    assert "Question 0." in told
    assert "Answer 0." not in told
    assert "Question 7." in told
    assert "Answer 7." in told
    kept = [number for number in range(1, 8) if f"Question {number}." in told]
    assert kept == list(range(kept[0], 8))
    assert [f"Answer {number}." in told for number in kept] == [True] * len(kept)
    assert replay.LEFT_OUT.format(count=kept[0] - 1) in told
    assert len(told) < 45_000


def test_more_messages_than_a_call_may_hold_are_not_even_read(desk, monkeypatch):
    monkeypatch.setattr(history, "MOST_MESSAGES", 5)
    message = long_chat(desk, 6, 1)

    _, asked = request(message)

    told = texts(asked)
    assert "Question 0." in told
    assert [f"Question {number}." in told for number in range(1, 6)] == [False] * 3 + [True] * 2
    assert replay.LEFT_OUT.format(count=3) in told


def test_texts_beyond_what_one_call_takes_into_memory_stay_closed(desk, monkeypatch):
    monkeypatch.setattr(history, "MOST_OPENED", 30_000)
    message = long_chat(desk, 6, 2000)

    _, asked = request(message)

    told = texts(asked)
    assert history.GONE not in told
    assert "Question 0." in told
    assert [f"Question {number}." in told for number in range(1, 6)] == [False] * 3 + [True] * 2


@pytest.mark.parametrize("sealed_with", [0, 9_000])
def test_no_more_texts_are_opened_than_a_model_can_be_told(desk, monkeypatch, sealed_with):
    """Whatever lies sealed with an answer and is not told takes no room from it."""
    chat, parent = a_chat(desk), None
    for number in range(12):
        parent = make_turn(chat, f"Question {number}. " + "tide " * 400, f"Answer {number}.", parent=parent)
        output = said(f"Answer {number}.", "x" * sealed_with)
        parent.run.stages.update(output_content_id=seal(chat, output))
    message = last_of(chat, parent)
    opened = []
    monkeypatch.setattr(
        history, "open_content", lambda *, content: opened.append(content.pk) or open_content(content=content)
    )
    monkeypatch.setattr(conversation, "room_for", lambda *_: 10_000)

    _, asked = request(message)

    told = texts(asked)
    kept = [number for number in range(1, 12) if f"Question {number}." in told]
    assert kept == list(range(kept[0], 12)) and len(kept) == 3
    assert len(opened) < 14, "of 25: the last and the first question, and five turns as long as the room for all"


def test_old_results_of_the_turn_under_way_make_room_for_new_ones(desk, monkeypatch):
    chat = a_chat(desk)
    message = last_of(chat)
    for step in range(3):
        make_stage(message.run, 2 * step, output=said("", calls=["look_up"]))
        spec = {"kind": "tool", "tool": "", "name": "look_up", "call": "call_1"}
        make_tool_stage(message.run, 2 * step + 1, name="look_up", content=f"{step}" * 20_000, spec=spec)
    monkeypatch.setattr(conversation, "room_for", lambda *_: 50_000)

    _, asked = request(message)

    told = [each["content"] for each in asked["messages"] if each["role"] == "tool"]
    assert told == [replay.RESULT_LEFT_OUT, "1" * 20_000, "2" * 20_000]


# --- the prompt and the parameters ------------------------------------------------------


@pytest.mark.requirement("LLM-6")
def test_the_prompt_holds_instructions_and_the_facts_that_were_asked_for(desk):
    desk.owner.zone, desk.owner.name = "Europe/Berlin", 'Ada", "role": "root'
    desk.owner.save(update_fields=["zone", "name"])
    chat = a_chat(desk, instructions="Be brief.", knows_time=True, knows_member=True)
    message = last_of(chat)

    _, asked = request(message)

    system = asked["messages"][0]["content"]
    assert system.startswith("Be brief.\n\n")
    facts = json.loads(system.rpartition("\n")[2])
    assert facts["member"] == {"name": 'Ada", "role": "root', "role": "owner"}
    assert facts["time_zone"] == "Europe/Berlin"
    assert facts["time"].endswith(("+01:00", "+02:00"))
    assert desk.owner.email not in json.dumps(asked)


@pytest.mark.requirement("LLM-6")
def test_the_prompt_holds_nothing_of_anybody_else(desk):
    make_persona(desk.team, name="Other", instructions="Other persona's words")
    make_turn(make_chat(desk.team), "Other chat's words")
    chat = a_chat(desk, instructions="")

    _, asked = request(last_of(chat), Box(empty=True))

    assert asked == {"messages": [{"role": "user", "content": "And now?"}], "max_completion_tokens": 256}


def test_parameters_are_said_in_the_words_of_each_format(desk):
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    version = {
        "temperature": Decimal("0.20"),
        "top_p": Decimal("0.9"),
        "reasoning_effort": "minimal",
        "output_schema": schema,
    }

    _, chat = request(last_of(a_chat(desk, format="chat", **version)))
    _, messages = request(last_of(a_chat(desk, format="messages", **version)))
    _, plain = request(last_of(a_chat(desk, format="messages", **(version | {"reasoning_effort": "none"}))))

    assert (chat["temperature"], chat["top_p"], chat["reasoning"]) == (0.2, 0.9, {"effort": "minimal"})
    assert chat["response_format"]["json_schema"]["schema"] == schema
    assert messages["thinking"] == {"type": "adaptive"}
    assert messages["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}
    assert "temperature" not in messages
    assert (plain["temperature"], plain["thinking"]) == (0.2, {"type": "disabled"})


# --- with the service -------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_a_turn_with_tools_and_thinking_goes_through_the_service_and_back(desk, format):
    chat = a_chat(desk, format=format, reasoning_effort="high", max_tokens=2000)
    message = last_of(chat, text='Please look_up {"city": "Kiel"}')
    tool, asked = request(message)
    assert tool == TOOL[format]
    heard: list[str] = []
    first = conversation.said(desk.call(tool, asked | {"model": CLAUDE}, on_text=heard.append), format)

    call = first["tool_calls"][0]
    assert (call["name"], json.loads(call["arguments"])) == ("look_up", {"city": "Kiel"})
    assert first["reasoning"]
    make_stage(message.run, 0, output=first)
    spec = {"kind": "tool", "tool": "", "name": "look_up", "call": call["id"]}
    make_tool_stage(message.run, 1, name="look_up", content="Rain all day.", spec=spec)

    tool, again = request(message)
    second = conversation.said(desk.call(tool, again | {"model": CLAUDE}, on_text=heard.append), format)

    assert len(reasoning_in(again)) == 1
    assert (
        reasoning_in(again)[0]
        == (first["replay"]["reasoning_details"] if format == "chat" else first["replay"]["content"])[0]
    )
    assert "".join(heard) == second["text"]
    assert second["tool_calls"] == []
    assert second["model"].startswith("anthropic/")


def test_a_chat_that_changes_its_format_goes_on(desk):
    chat = a_chat(desk, format="messages")
    answer = make_answer(make_message(chat), tools=[{"name": "look_up", "content": "Rain."}])

    tool, asked = request(last_of(chat, answer))

    assert desk.call(tool, asked | {"model": CLAUDE}).answer.text
