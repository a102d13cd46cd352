"""Chats for tests: rows as sending a message and working through its turn leave them."""

import json
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from accounts.models import Team, User
from audit.actions import store
from audit.clock import app_now
from audit.ids import uuid7
from integrations.models import Call, Connection
from personas.models import Chat, Message, Persona, Run, StageRun
from tests.factories import owner_of
from tests.personas.builders import make_persona
from vault.content import seal_content

MODEL = "openai/gpt-5-mini"


def make_chat(team: Team, *, user: User | None = None, persona: Persona | None = None, **fields: Any) -> Chat:
    """A chat without messages, of the team's owner unless told otherwise."""
    now = app_now()
    persona = persona or make_persona(team, name=f"Writer {str(uuid7())[-4:]}")
    given = {"title": "A quiet harbour", "created_at": now, "active_at": now} | fields
    return Chat.objects.create(team=team, user=user or owner_of(team), persona=persona, **given)


def seal(chat: Chat, data: Any, kind: str = "output") -> UUID:
    """Seal JSON for a chat and return the content's id."""
    sealed = seal_content(
        team_id=chat.team_id, subject=chat.pk, kind=kind, data=json.dumps(data).encode(), at=app_now()
    )
    return store(sealed).pk


def make_message(chat: Chat, text: str = "Say hello", *, parent: Message | None = None, **fields: Any) -> Message:
    """What the chat's owner said."""
    given = {"author": chat.user, "content_id": seal(chat, {"text": text}, "message")} | fields
    return Message.objects.create(
        team=chat.team, chat=chat, parent=parent, role=Message.Role.USER, created_at=app_now(), **given
    )


def make_answer(
    parent: Message,
    text: str = "Hello.",
    *,
    state: str = Run.State.SUCCEEDED,
    tools: Sequence[dict[str, Any]] = (),
    partial: str | None = None,
    failure: str = "",
    call: dict[str, Any] | None = None,
    reasoning: str = "",
    **fields: Any,
) -> Message:
    """
    An answer with its run: first the tools that the model asked for, then what it said.

    `partial` is text that was saved while the last answer was being given; then that answer is not done.
    """
    chat, now = parent.chat, app_now()
    run = make_run(chat, state=state, failure=failure)
    message = Message.objects.create(
        team=chat.team, chat=chat, parent=parent, role=Message.Role.ASSISTANT, run=run, created_at=now, **fields
    )
    if tools:
        asked = make_stage(run, 0, output=said("", calls=[tool.get("name", "get_credits") for tool in tools]))
        make_call(asked, model=MODEL)
    for place, tool in enumerate(tools, start=1):
        make_tool_stage(run, place, **tool)
    if partial is None:
        last = make_stage(run, len(tools) + bool(tools), output=said(text, reasoning))
    else:
        last = make_stage(run, len(tools) + bool(tools), state=_of_turn(state), partial=partial)
    make_call(last, **{"model": MODEL, **(call or {})})
    return message


def make_turn(
    chat: Chat, text: str = "Say hello", answer: str = "Hello.", *, parent: Message | None = None, **fields: Any
) -> Message:
    """A message and its answer; returns the answer."""
    return make_answer(make_message(chat, text, parent=parent), answer, **fields)


def make_run(chat: Chat, *, state: str = Run.State.SUCCEEDED, failure: str = "", **fields: Any) -> Run:
    """The run of a turn."""
    now = app_now()
    ended = now if state not in Run.UNFINISHED else None
    given = {"queued_at": now - timedelta(seconds=5), "started_at": now - timedelta(seconds=4)} | fields
    return Run.objects.create(
        team=chat.team,
        chat=chat,
        title=chat.title or "Chat",
        user=chat.user,
        state=state,
        failure=failure,
        finished_at=ended,
        **given,
    )


def make_stage(
    run: Run, position: int, *, output: dict[str, Any] | None = None, partial: str | None = None, **fields: Any
) -> StageRun:
    """An answer of a model: done when it has an output, else with what was saved of it."""
    now = app_now()
    done = output is not None
    given: dict[str, Any] = {"spec": {"kind": "answer"}, "kind": "answer", "name": "Answer"}
    given |= {"state": "done" if done else "running", "started_at": now - timedelta(seconds=3)}
    given |= {"finished_at": now if done else None, "persona": run.chat.persona}
    given |= {"persona_version": run.chat.persona.version}
    if done:
        given["output_content_id"] = seal(run.chat, output)
    if partial is not None:
        given |= sealed_partial(run.chat, partial)
    return StageRun.objects.create(team=run.team, run=run, position=position, **(given | fields))


def make_tool_stage(
    run: Run,
    position: int,
    *,
    name: str = "get_credits",
    tool: str | None = None,
    arguments: str = "{}",
    result: Any = None,
    content: str = "",
    outcome: str = "done",
    calls: Sequence[dict[str, Any]] = ({},),
    trimmed: bool = False,
    **fields: Any,
) -> StageRun:
    """A tool call that a model asked for. Without an outcome it is not made yet."""
    spec = {"kind": "tool", "tool": name if tool is None else tool, "name": name, "call": f"call_{position}"}
    asked = {"id": spec["call"], "name": name, "arguments": arguments}
    given = {"content": content, "is_error": outcome != "done", "trimmed": trimmed, "result": result}
    output = given | {"outcome": outcome} if outcome else None
    spec |= {"outcome": outcome} if outcome else {}
    fields = {"kind": "tool", "name": name[:60], "spec": spec} | fields
    fields |= {"input_content_id": seal(run.chat, asked, "input")}
    if not outcome:
        fields = {"state": "waiting"} | fields
    stage = make_stage(run, position, output=output, **fields)
    for call in calls if outcome else ():
        make_call(stage, **{"tool": name, "model": "", **call})
    return stage


def make_call(stage: StageRun, **fields: Any) -> Call:
    """One call of a stage, answered, unless told otherwise."""
    now, run = app_now(), stage.run
    given: dict[str, Any] = {"tool": "create_chat_completion", "state": "done", "outcome": "done"}
    given |= {"actor_kind": "user", "actor_id": str(run.user_id), "actor_name": run.user.email}
    given |= {"request_sha256": "0" * 64, "started_at": now - timedelta(seconds=2), "finished_at": now}
    given |= {"persona_id": run.chat.persona_id, "persona_name": run.chat.persona.name}
    if fields.get("model"):
        given |= {"model_served": fields["model"], "provider": "OpenAI", "tokens_in": 412, "tokens_out": 96}
        given |= {"cost_usd": Decimal("0.000295"), "credits": 2, "credits_reserved": 4}
    else:
        given |= {"credits": 1, "credits_reserved": 1}
    given |= {"connection": a_connection(run.team), "run_id": run.pk, "stage_id": stage.pk}
    return Call.objects.create(team=run.team, **(given | fields))


def a_connection(team: Team) -> Connection:
    """The team's first connection, made when there is none."""
    from tests.route_samples import a_connection as make

    return team.connections.first() or Connection.objects.get(pk=make(team))


def said(text: str, reasoning: str = "", *, calls: Sequence[str] = ()) -> dict[str, Any]:
    """The output of an answer stage."""
    asked = [{"id": f"call_{place}", "name": name, "arguments": "{}"} for place, name in enumerate(calls, start=1)]
    replay = {"role": "assistant", "content": text}
    finish = "tool_calls" if calls else "stop"
    told = {"text": text, "reasoning": reasoning, "finish_reason": finish, "replay": replay}
    return told | {"tool_calls": asked, "format": "chat"}


def sealed_partial(chat: Chat, text: str, reasoning: str = "") -> dict[str, Any]:
    """The fields of a stage whose text was saved while it ran."""
    data = json.dumps({"text": text, "reasoning": reasoning}).encode()
    sealed = seal_content(team_id=chat.team_id, subject=chat.pk, kind="partial", data=data, at=app_now())
    return {"partial": sealed.ciphertext, "partial_id": sealed.id}


def _of_turn(state: str) -> str:
    return {"failed": "failed", "stopped": "skipped"}.get(state, "running")
