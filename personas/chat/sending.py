"""What members do in a chat: say something, ask again, stop. Each answer is a run, which a worker takes up."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts.models import Team, User
from audit.actions import Actor, store
from audit.clock import app_now
from audit.ids import uuid7
from integrations.patterns import is_allowed
from personas import actions
from personas.chat import titles
from personas.chat.telling import tell
from personas.chat.uploads import BadFile, check_together
from personas.models import Attachment, Chat, Message, Persona, Run, StageRun
from personas.queue import hint_later
from vault.content import seal_content

LONGEST_TEXT = 200_000  # characters
MOST_COMPARED = 2


class CannotSend(Exception):
    """Nothing was sent and nothing changed; the message says what to do."""


# --- saying something -------------------------------------------------------------------


def start_chat(
    *,
    team: Team,
    persona: Persona,
    by: User,
    text: str,
    uploads: Sequence[UUID] = (),
    models: Sequence[str] = (),
    temporary: bool = False,
    idempotency_key: str,
) -> Message:
    """
    Begin a chat with its first message and return that. Sending the same form twice gives the same.

    `models`: which ones answer instead of the persona's first choice; two are compared. `uploads`
    are ids of attachments that were taken and not sent yet. Raises CannotSend.
    """

    def begin() -> Message:
        now = app_now()
        chat = Chat.objects.create(
            team=team,
            user=by,
            persona=persona,
            title=titles.OF_TEMPORARY if temporary else titles.of_text(text),
            temporary=temporary,
            created_at=now,
            active_at=now,
        )
        tell("begun", chat, Actor.user(by), now, temporary=temporary)
        return _say(chat, None, by, text, uploads, models, idempotency_key)

    return _once(team, idempotency_key, begin).parent


def send(
    *,
    chat: Chat,
    parent: Message | None,
    by: User,
    text: str,
    uploads: Sequence[UUID] = (),
    models: Sequence[str] = (),
    idempotency_key: str,
) -> Message:
    """
    Say something after an answer, and return the message. Otherwise as `start_chat`.

    Raises CannotSend, also while the answer before is still being written.
    """

    def say() -> Message:
        return _say(_mine(chat, by), parent, by, text, uploads, models, idempotency_key)

    return _once(chat.team, idempotency_key, say).parent


def edit(*, message: Message, by: User, text: str, idempotency_key: str) -> Message:
    """
    Say something else instead: a new message beside this one, with its attachments. Raises CannotSend.

    What was said before stays, as a branch of its own.
    """

    def again() -> Message:
        chat = _mine(message.chat, by)
        if message.role != Message.Role.USER:
            raise CannotSend("Only what you said yourself can be edited.")
        answer = _say(chat, message.parent, by, text, (), (), idempotency_key, carried=message)
        _carry_over(message, answer.parent)
        return answer

    return _once(message.team, idempotency_key, again).parent


def try_again(*, answer: Message, by: User, model: str = "", idempotency_key: str) -> Message:
    """Ask for another answer beside this one, of a certain model if one is named. Raises CannotSend."""

    def again() -> Message:
        chat = _mine(answer.chat, by)
        _check_models(chat.persona, [model] if model else [])
        now = _touch(chat)
        return _answer(chat, answer.parent, by, model, now, idempotency_key)

    return _once(answer.team, idempotency_key, again)


def stop(*, answer: Message, by: User) -> None:
    """Stop an answer: what it said so far stays. Raises personas.stopping.AlreadyOver."""
    actions.stop_run(run=answer.run, by=by)


# --- one message ------------------------------------------------------------------------


def _say(
    chat: Chat,
    parent: Message | None,
    by: User,
    text: str,
    uploads: Sequence[UUID],
    models: Sequence[str],
    key: str,
    carried: Message | None = None,
) -> Message:
    """Add a member's message and its answers; return the first answer."""
    _check_text(text, has_files=bool(uploads) or bool(carried and carried.attachments.exists()))
    _check_models(chat.persona, models)
    _check_parent(parent)
    now = _touch(chat)
    content = seal_content(
        team_id=chat.team_id, subject=chat.pk, kind="message", data=json.dumps({"text": text}).encode(), at=now
    )
    store(content)
    message = Message.objects.create(
        team=chat.team,
        chat=chat,
        parent=parent,
        role=Message.Role.USER,
        author=by,
        content_id=content.id,
        created_at=now,
    )
    _attach(message, by, uploads)
    compared = uuid7() if len(models) > 1 else None
    first, *others = models or [""]
    for place, model in enumerate(others, start=1):
        _answer(chat, message, by, model, now, f"{key[:60]}.{place}", compared)
    return _answer(chat, message, by, first, now, key, compared)


def _answer(
    chat: Chat, parent: Message | None, by: User, model: str, now: datetime, key: str, compared: UUID | None = None
) -> Message:
    """Queue one answer: the run of a turn with its first stage, and the message that shows it."""
    run = Run.objects.create(
        team=chat.team,
        chat=chat,
        title=f"Chat with {chat.persona.name}",
        user=by,
        idempotency_key=key,
        queued_at=now,
        hinted_at=now,
    )
    add_stage(run, 0, chat.persona, {"kind": "answer"})
    message = Message.objects.create(
        team=chat.team,
        chat=chat,
        parent=parent,
        role=Message.Role.ASSISTANT,
        run=run,
        model=model,
        compared_with=compared,
        created_at=now,
    )
    tell("asked", chat, Actor.user(by), now, run_id=run.pk)
    hint_later([run.pk])
    return message


def add_stage(run: Run, position: int, persona: Persona, spec: dict[str, Any], **fields: Any) -> StageRun:
    """Add a step to a turn: an answer of a model, or a tool that it asked for."""
    kind = spec["kind"]
    name = str(spec.get("name") or kind)[:60]
    return StageRun.objects.create(
        team=run.team, run=run, position=position, name=name, kind=kind, spec=spec, persona=persona, **fields
    )


def _attach(message: Message, by: User, uploads: Sequence[UUID]) -> None:
    waiting = Attachment.objects.filter(team=message.team, owner=by, message=None, pk__in=set(uploads))
    try:
        check_together(waiting.values_list("size", flat=True))
    except BadFile as error:
        raise CannotSend(str(error)) from error
    if waiting.update(message=message) != len(set(uploads)):
        raise CannotSend("A file is gone, or was sent already. Attach it again.")


def _carry_over(old: Message, new: Message) -> None:
    for attachment in old.attachments.order_by("created_at", "pk"):
        attachment.pk, attachment.message, attachment._state.adding = uuid7(), new, True
        attachment.save(force_insert=True)


# --- what must hold ---------------------------------------------------------------------


def _mine(chat: Chat, by: User) -> Chat:
    """The chat, locked so that two tabs answer one after the other. Only its member writes in it."""
    found = Chat.objects.select_for_update(no_key=True, of=("self",)).select_related("team", "persona__version")
    chat = found.get(pk=chat.pk)
    if chat.user_id != by.pk:
        raise CannotSend("This chat is somebody else's. Start one of your own to go on from it.")
    if chat.archived_at:
        raise CannotSend("This chat is archived. Bring it back to go on.")
    return chat


def _check_text(text: str, *, has_files: bool) -> None:
    if not text.strip() and not has_files:
        raise CannotSend("Write something first.")
    if "\0" in text:
        raise CannotSend("This holds a character that no model takes (NUL). Remove it.")
    if len(text) > LONGEST_TEXT:
        raise CannotSend(
            f"This is {len(text):,} characters long; {LONGEST_TEXT:,} are the most. Attach it as a file, or shorten it."
        )


def _check_models(persona: Persona, models: Sequence[str]) -> None:
    if persona.archived_at:
        raise CannotSend(f"{persona.name} is archived. Start a chat with another persona.")
    if persona.version is None or not persona.version.has_models:
        raise CannotSend(f"{persona.name} has no model. Choose one on the persona's page.")
    if len(models) > MOST_COMPARED or len(set(models)) != len(models):
        raise CannotSend(f"Choose {MOST_COMPARED} different models to compare.")
    chain = persona.version.chain  # without one, its rule picks from the whole catalog
    strange = [model for model in models if chain and not is_allowed(model, chain)]
    if strange:
        raise CannotSend(f"{persona.name} may not use {strange[0][:200]}. Choose one of its own models.")


def _check_parent(parent: Message | None) -> None:
    if parent is None:
        return
    if parent.role != Message.Role.ASSISTANT:
        raise CannotSend("Wait for the answer first, or edit what you said.")
    if not parent.run.is_finished:
        raise CannotSend("The answer before is still being written. Wait for it, or stop it.")


def _touch(chat: Chat) -> datetime:
    now = app_now()
    Chat.objects.filter(pk=chat.pk).update(active_at=now)
    return now


def _once(team: Team, idempotency_key: str, say: Any) -> Message:
    """Do it once for each key and return the answer; the second tab or click gets what the first one made."""
    sent = Message.objects.select_related("parent", "chat").filter(team=team, run__idempotency_key=idempotency_key)
    try:
        with transaction.atomic():
            return say()
    except IntegrityError as error:
        if error.__cause__.diag.constraint_name != "one_run_per_idempotency_key":
            raise
        return sent.get()
    except CannotSend:  # since it was sent by now: its files are gone from where they waited
        if first := sent.first():
            return first
        raise
