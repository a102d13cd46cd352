"""
Finding what was said in one's own chats. Texts lie sealed and there is no index of them.

So a search opens the newest messages one after another, as many as one request may take, and says how
far back it came; the next request goes on from there.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models.functions import Length

from accounts.models import Team, User
from audit.models import Content
from personas.models import Chat, Message, StageRun
from vault.content import open_content
from vault.errors import Unreadable

MOST_MESSAGES = 400  # that one request opens
MOST_SECONDS = 0.5
MOST_HITS = 20
MOST_WORDS = 8
LONGEST_QUERY = 120  # characters
LONGEST_TEXT = 1024 * 1024  # bytes, sealed
BATCH = 100  # messages that are looked up at once
MOST_AT_ONCE = 1024 * 1024  # bytes, sealed, that are read at once
AROUND = 80  # characters before and after what was found


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that says it, with some of its text: before, what was found, and after. Plain text."""

    chat: Chat
    message: Message
    before: str
    found: str
    after: str


@dataclass(frozen=True, slots=True)
class Found:
    """
    What one request found, the newest first, back to `searched_to`.

    While there is `more`, go on with `next` as `before`.
    """

    hits: list[Hit]
    searched_to: datetime | None = None
    more: bool = False
    next: UUID | None = None


def find(*, team: Team, user: User, words: str, before: UUID | None = None) -> Found:
    """
    Search the messages of a member's own chats for all these words, from the newest or from `before` on.

    Temporary chats and those of others are never searched, also not shared ones.
    """
    wanted = [word.casefold() for word in words[:LONGEST_QUERY].split()[:MOST_WORDS]]
    if not wanted:
        return Found([])
    hits: list[Hit] = []
    last, seen, until = None, 0, time.monotonic() + MOST_SECONDS
    for message, text in _texts(team, user, before):
        enough = seen >= MOST_MESSAGES or len(hits) >= MOST_HITS or time.monotonic() > until
        if last and enough:  # one message at least, so that whoever goes on arrives
            return Found(hits, last.created_at, more=True, next=last.pk)
        if hit := _hit(message, text, wanted):
            hits.append(hit)
        last, seen = message, seen + 1
    return Found(hits, last and last.created_at)


def _texts(team: Team, user: User, before: UUID | None) -> Iterator[tuple[Message, str]]:
    """The member's messages with their texts, newest first."""
    chats = Chat.objects.filter(team=team, user=user, temporary=False).values("pk")
    rows = Message.objects.filter(team=team, chat__in=chats).select_related("chat__persona").order_by("-pk")
    while batch := list((rows.filter(pk__lt=before) if before else rows)[:BATCH]):
        yield from _opened(team, batch)
        before = batch[-1].pk


def _opened(team: Team, messages: Sequence[Message]) -> Iterator[tuple[Message, str]]:
    """Each message with its text, opened when it is asked for. What was erased, or is too large for one, is empty."""
    places = _contents_of(messages)
    known = Content.objects.filter(team_id=team.pk, pk__in=[id for ids in places.values() for id in ids])
    sizes = dict(known.annotate(size=Length("ciphertext")).filter(size__lt=LONGEST_TEXT).values_list("pk", "size"))
    weights = {pk: sum(sizes.get(id, 0) for id in ids) for pk, ids in places.items()}
    for portion in _portions(messages, weights):
        ids = [id for message in portion for id in places[message.pk] if id in sizes]
        contents = {row.pk: row for row in Content.objects.filter(team_id=team.pk, pk__in=ids)} if ids else {}
        for message in portion:
            yield message, "\n".join(_text(contents[id]) for id in places[message.pk] if id in contents)


def _contents_of(messages: Sequence[Message]) -> dict[UUID, list[UUID]]:
    """Where the texts of these messages lie: of an answer those of all its steps, in order."""
    found = {message.pk: [message.content_id] if message.content_id else [] for message in messages}
    answers = {message.run_id: message.pk for message in messages if message.run_id}
    stages = StageRun.objects.filter(run_id__in=answers, kind="answer", output_content_id__isnull=False)
    for run_id, content_id in stages.order_by("position").values_list("run_id", "output_content_id"):
        found[answers[run_id]].append(content_id)
    return found


def _portions(messages: Sequence[Message], weights: Mapping[UUID, int]) -> Iterator[list[Message]]:
    """The messages in parts that are read at once, one message at least in each."""
    portion: list[Message] = []
    weight = 0
    for message in messages:
        weight += weights[message.pk]
        if portion and weight > MOST_AT_ONCE:
            yield portion
            portion, weight = [], weights[message.pk]
        portion.append(message)
    yield portion


def _text(content: Content) -> str:
    try:
        return json.loads(open_content(content=content))["text"]
    except Unreadable:
        return ""


def _hit(message: Message, text: str, wanted: Sequence[str]) -> Hit | None:
    folded = text.casefold()
    if not all(word in folded for word in wanted):
        return None
    start, end = _place(text, folded, wanted[0])
    before, after = text[max(0, start - AROUND) : start], text[end : end + AROUND]
    before = f"…{before}" if start > AROUND else before
    after = f"{after}…" if end + AROUND < len(text) else after
    return Hit(message.chat, message, _line(before), text[start:end], _line(after))


def _place(text: str, folded: str, word: str) -> tuple[int, int]:
    """Where a word stands in the text as it was written, which folding may have made longer or shorter."""
    at = folded.find(word)
    if len(folded) == len(text):
        return at, at + len(word)
    lengths = (len(character.casefold()) for character in text)
    start = end = total = 0
    for place, length in enumerate(lengths):
        if total <= at:
            start = place
        total += length
        if total >= at + len(word):
            end = place + 1
            break
    return start, end


def _line(text: str) -> str:
    """Text on one line, with the space that parts it from its neighbour."""
    return " ".join(text.split(" ")).replace("\n", " ")
