"""What was said along one branch of a chat: read in a few queries and opened. Plain values from here on."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import BinaryField, Case, F, When
from django.db.models.functions import Length

from audit.models import Content
from personas.chat.uploads import File, opened
from personas.models import Attachment, Message, Run, StageRun
from vault.box import Unreadable
from vault.content import open_content

MOST_MESSAGES = 400  # of the newest; a call may hold 2,000, and one answer may be many
MOST_OPENED = 8 * 1024 * 1024  # bytes of sealed text that one call takes into memory
MOST_FILES = 6 * 1024 * 1024  # bytes of pictures and documents that one call carries

GONE = "[This message is not kept any more.]"
ANSWER_GONE = "[This answer is not kept any more.]"
RESULT_GONE = "[What the tool answered is not kept any more.]"
CUT = "[This answer was cut off here.]"
NO_ANSWER = "[There was no answer.]"


@dataclass(frozen=True, slots=True)
class Result:
    """What a model is told about a tool that it asked for."""

    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A tool that a model asked for; `arguments` is text, as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Step:
    """
    One answer of a model within a turn, with what its tools said.

    `replay` is the message in the format it came in, by `model`; `note` what a reader must know of it.
    """

    text: str
    calls: tuple[Asked, ...] = ()
    results: Mapping[str, Result] = field(default_factory=dict)
    replay: Mapping[str, Any] = field(default_factory=dict)
    format: str = ""
    model: str = ""
    note: str = ""

    def result_of(self, call: Asked) -> Result:
        """What the tool said. No call is left without a result: services refuse one that dangles."""
        return self.results.get(call.id) or Result(
            "Not done: the turn ended before this tool was called.", is_error=True
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """What a member said, and the steps of the answer. `ending` stands for an answer that never came."""

    text: str
    files: tuple[File, ...] = ()
    steps: tuple[Step, ...] = ()
    ending: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """
    The turns of a branch, oldest first; the last one is under way.

    `first` is what began the chat, where that turn is not among them; `left_out` counts the turns
    between the two.
    """

    turns: tuple[Turn, ...]
    first: str = ""
    left_out: int = 0


def read(*, run: Run, message: Message, room: int) -> History:
    """
    Return what was said up to this message, which is the answer that the run writes, or its question.

    The turn under way is read whole; of the earlier ones no more than `room` bytes of text may hold,
    newest first. Five queries, or a few more where texts are sealed with much that is not told. What
    was erased is said to be so.
    """
    path = _path(message)
    kept = path[-MOST_MESSAGES:]
    branch = _Branch(run, kept if kept == path else [path[0], *kept], room)
    kept = kept[branch.first_opened(kept) :]
    if len(kept) == len(path):
        return History(tuple(branch.turns(kept)))
    questions = [said for said in path[: len(path) - len(kept)] if said.role == Message.Role.USER]
    return History(tuple(branch.turns(kept)), branch.text_of(path[0]), len(questions) - 1)


@dataclass(frozen=True, slots=True)
class _Said:
    """A row of the path."""

    id: UUID
    role: str
    content_id: UUID | None
    run_id: UUID | None


PATH = """
WITH RECURSIVE path AS (
    SELECT id, parent_id, role, content_id, run_id, 0 AS depth
      FROM personas_message WHERE id = %(id)s AND team_id = %(team)s AND chat_id = %(chat)s
    UNION ALL
    SELECT up.id, up.parent_id, up.role, up.content_id, up.run_id, path.depth + 1
      FROM personas_message up JOIN path ON up.id = path.parent_id
     WHERE up.team_id = %(team)s AND up.chat_id = %(chat)s
)
SELECT id, role, content_id, run_id FROM path ORDER BY depth DESC
"""


def _path(message: Message) -> list[_Said]:
    """From the first message of the chat to this one, or to what this one answers."""
    last = message.parent_id if message.role == Message.Role.ASSISTANT else message.pk
    with connection.cursor() as cursor:
        cursor.execute(PATH, {"id": last, "team": message.team_id, "chat": message.chat_id})
        return [_Said(*row) for row in cursor.fetchall()]


class _Branch:
    """The rows of a branch, with what of them was opened."""

    def __init__(self, run: Run, path: Sequence[_Said], room: int) -> None:
        self.run = run
        self.stages = _stages_of([*(said.run_id for said in path if said.run_id), run.pk])
        self.attachments = _attachments_of(run.team_id, [said.id for said in path])
        self.carried = {each.content_id for each in _newest(self.attachments, path)}
        current = [*self._outputs(run.pk), *self._ids(path[-1])]
        earlier = [id for said in reversed(path[:-1]) for id in self._ids(said)]
        texts = _Texts(run.team_id, [*current, *earlier])
        texts.open(current, earlier, room, also=[path[0].content_id, *self.carried])
        self.contents, self.unopened = texts.opened, texts.sizes.keys() - texts.wanted

    def first_opened(self, path: Sequence[_Said]) -> int:
        """Where the first question stands after which every text was opened."""
        closed = [place for place, said in enumerate(path) if not self.unopened.isdisjoint(self._ids(said))]
        start = closed[-1] + 1 if closed else 0
        return next((place for place in range(start, len(path)) if path[place].role == Message.Role.USER), start)

    def _ids(self, said: _Said) -> list[UUID]:
        return [said.content_id] if said.content_id else self._outputs(said.run_id)

    def _outputs(self, run_id: UUID | None) -> list[UUID]:
        ids = [stage.output_content_id for stage in self.stages.get(run_id, [])]
        return [id for id in reversed(ids) if id]

    # --- one turn -----------------------------------------------------------------------

    def turns(self, path: Sequence[_Said]) -> Iterable[Turn]:
        for place, said in enumerate(path):
            if said.role != Message.Role.USER:
                continue
            answer = path[place + 1] if place + 1 < len(path) else None
            run_id = answer.run_id if answer else self.run.pk
            yield self._turn(said, self.stages.get(run_id, []), is_over=answer is not None)

    def _turn(self, said: _Said, stages: Sequence[StageRun], *, is_over: bool) -> Turn:
        steps = tuple(self._steps(stages, is_over=is_over))
        answered = bool(steps) and not steps[-1].calls
        files = [self._file(each) for each in self.attachments.get(said.id, [])]
        return Turn(self.text_of(said), tuple(files), steps, "" if answered or not is_over else NO_ANSWER)

    def _steps(self, stages: Sequence[StageRun], *, is_over: bool) -> Iterable[Step]:
        for place, stage in enumerate(stages):
            if stage.kind == "tool":
                continue
            if stage.state == StageRun.State.DONE:
                yield self._step(stage, stages[place + 1 :])
            elif is_over and (text := _partial(stage)):
                yield Step(text, note=CUT)

    def _step(self, stage: StageRun, later: Sequence[StageRun]) -> Step:
        said = self._value(stage.output_content_id)
        if said is None:
            return Step("", note=ANSWER_GONE)
        calls = tuple(Asked(each["id"], each["name"], each["arguments"]) for each in said["tool_calls"])
        return Step(said["text"], calls, self._results(later), said["replay"], said["format"], said.get("model", ""))

    def _results(self, later: Sequence[StageRun]) -> dict[str, Result]:
        """What was given for each call: the tools up to the next answer."""
        found = {}
        for stage in later:
            if stage.kind != "tool":
                break
            found[stage.spec.get("call", "")] = self._result(stage)
        return found

    def _result(self, stage: StageRun) -> Result:
        if stage.output_content_id:
            said = self._value(stage.output_content_id)
            return Result(said["content"], said["is_error"]) if said else Result(RESULT_GONE, is_error=True)
        return Result(f"Not done: {stage.failure or 'the turn ended before this tool was called.'}", is_error=True)

    def _file(self, attachment: Attachment) -> File:
        id = attachment.content_id
        return opened(attachment, self.contents.get(id), carried=id in self.carried)

    # --- texts --------------------------------------------------------------------------

    def text_of(self, said: _Said) -> str:
        """What a member wrote."""
        value = self._value(said.content_id)
        return GONE if value is None else value["text"]

    def _value(self, content_id: UUID | None) -> dict[str, Any] | None:
        data = self.contents.get(content_id)
        return None if data is None else json.loads(data)


def _stages_of(run_ids: Sequence[UUID]) -> dict[UUID | None, list[StageRun]]:
    # What had been said is read only where that is all there is.
    unfinished = Case(When(output_content_id=None, then=F("partial")), output_field=BinaryField(null=True))
    rows = StageRun.objects.filter(run_id__in=run_ids).defer("partial").annotate(said_so_far=unfinished)
    found: dict[UUID | None, list[StageRun]] = {}
    for stage in rows.order_by("run_id", "position"):
        found.setdefault(stage.run_id, []).append(stage)
    return found


def _partial(stage: StageRun) -> str:
    """What an answer had said when it was cut off."""
    if stage.said_so_far is None or stage.partial_id is None:
        return ""
    sealed = Content(id=stage.partial_id, team_id=stage.team_id, kind="partial", ciphertext=stage.said_so_far)
    try:
        return json.loads(open_content(content=sealed))["text"]
    except Unreadable:
        return ""


def _attachments_of(team_id: UUID, message_ids: Sequence[UUID]) -> dict[UUID | None, list[Attachment]]:
    found: dict[UUID | None, list[Attachment]] = {}
    rows = Attachment.objects.filter(team_id=team_id, message_id__in=message_ids)
    for attachment in rows.order_by("created_at", "id"):
        found.setdefault(attachment.message_id, []).append(attachment)
    return found


def _newest(attachments: Mapping[UUID | None, Sequence[Attachment]], path: Sequence[_Said]) -> Iterable[Attachment]:
    """The files that one call carries: the newest, until they are too many bytes together."""
    room = MOST_FILES
    for said in reversed(path):
        for attachment in attachments.get(said.id, []):
            room -= attachment.size
            if room < 0:
                return
            yield attachment


class _Texts:
    """The sealed texts of a branch: what each weighs, and what was opened of them."""

    def __init__(self, team_id: UUID, ids: Sequence[UUID]) -> None:
        kept = Content.objects.filter(team_id=team_id, pk__in=ids, ciphertext__isnull=False)
        self.sizes = dict(kept.annotate(size=Length("ciphertext")).values_list("pk", "size"))
        self.team_id, self.left = team_id, MOST_OPENED
        self.wanted: set[UUID] = set()
        self.opened: dict[UUID | None, bytes] = {}

    def open(self, current: list[UUID], earlier: list[UUID], room: int, also: Sequence[UUID | None]) -> None:
        """Open all that is current, and of the earlier texts, newest first, what may be told in `room` bytes."""
        now, portion = self._take(current, MOST_OPENED), self._take(earlier, room)
        self._fetch([*now, *portion, *filter(None, also)])
        # Much may be sealed with a text that is not told; then there is room for more.
        while portion and (room := room - sum(map(self._told, portion))) > 0:
            portion = self._take(earlier, 2 * room)
            self._fetch(portion)

    def _take(self, ids: list[UUID], most: int) -> list[UUID]:
        """Take ids off the list: as many as are `most` sealed bytes together, and one at least, while memory lasts."""
        taken: list[UUID] = []
        while ids and (not taken or self.sizes.get(ids[0], 0) <= most):
            size = self.sizes.get(ids[0], 0)
            if size > self.left and self.wanted:
                break
            self.left, most = self.left - size, most - size
            taken.append(ids.pop(0))
            self.wanted.add(taken[-1])
        return taken

    def _fetch(self, ids: Sequence[UUID]) -> None:
        rows = Content.objects.filter(team_id=self.team_id, pk__in=ids) if ids else ()
        self.opened |= {row.pk: data for row in rows if (data := _opened(row)) is not None}

    def _told(self, id: UUID) -> int:
        """How many bytes at least a model is told of this text: what somebody said, or a tool gave."""
        said = json.loads(self.opened.get(id, b"{}"))
        return len(str(said.get("text") or said.get("content") or "").encode(errors="replace"))


def _opened(content: Content) -> bytes | None:
    try:
        return open_content(content=content)
    except Unreadable:
        return None
