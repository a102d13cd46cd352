"""
Reading a chat: one branch of it with all that its answers took, in eight queries at most.

What a tool was asked and gave is opened only for the call that is looked at, or that asks a person.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from accounts.models import Team, User
from audit.clock import AppNow
from audit.models import Content
from integrations import catalog
from integrations.facts import Catalog
from integrations.models import Approval, Call
from integrations.policy.endpoints import is_tier
from integrations.registry import UnknownTool, integration_of
from personas.chat.shown import UNFINISHED, Answered, Called, Figures, Path, Shown, figures_of
from personas.chat.tree import Node, Tree
from personas.models import Attachment, Chat, Message, StageRun
from personas.queries import Page
from vault.box import Unreadable
from vault.content import open_content

SHOWN = 12  # messages on a page: laid out within 100 ms by a slow machine, `python -m bench typing`
LISTED = 30


def path_of(
    chat: Chat, leaf: UUID | None = None, before: UUID | None = None, limit: int = SHOWN, *, ends: bool = False
) -> Path:
    """
    Return the last messages of a branch, or those before one of them.

    `leaf` is a message of the branch: the newest after it are shown too, unless it `ends` there.
    Without one, the newest branch.
    Answers that were asked for together are shown side by side while nothing follows them.
    """
    tree = _tree(Message.objects.filter(team_id=chat.team_id, chat=chat))
    branch = tree.path(leaf, ends=ends)
    end = branch.index(before) if before in branch else len(branch)
    ids = branch[max(0, end - limit) : end]
    beside = tree.compared(branch[-1]) if ids and end == len(branch) and not ends else []
    shown = _Reader(chat.team_id, tree).read([*ids, *(id for id in beside if id not in ids)])
    if len(beside) > 1:
        shown[ids[-1]] = replace(shown[ids[-1]], compared=[shown[id] for id in beside])
    return Path([shown[id] for id in ids], ids[0] if ids and end > limit else None)


def answer_view(*, team: Team, message_id: UUID) -> Shown:
    """Return one message as a page shows it. Raises Message.DoesNotExist."""
    tree = _tree(Message.objects.filter(team=team, chat__messages=message_id))
    if message_id not in tree.nodes:
        raise Message.DoesNotExist
    return _Reader(team.pk, tree).read([message_id])[message_id]


def step_view(*, chat: Chat, stage_id: UUID) -> Called:
    """Return one tool call of a chat. Raises Message.DoesNotExist."""
    answers = Message.objects.filter(team_id=chat.team_id, chat=chat)
    id = answers.values_list("pk", flat=True).get(run__stages=stage_id, run__stages__kind="tool")
    shown = _Reader(chat.team_id, Tree([Node(id, None)]), opened=stage_id).read([id])[id]
    return next(step for step in shown.steps if step.stage.pk == stage_id)


def _tree(messages: QuerySet[Message]) -> Tree:
    rows = messages.order_by("created_at", "id").values_list("id", "parent_id", "compared_with")
    return Tree(Node(*values) for values in rows)


class _Reader:
    """Reads messages, each kind of row at once for all of them. `opened` is the tool call that is looked at."""

    def __init__(self, team_id: UUID, tree: Tree, opened: UUID | None = None) -> None:
        self.team_id, self.tree, self.opened = team_id, tree, {opened}

    def read(self, ids: Sequence[UUID]) -> dict[UUID, Shown]:
        found = Message.objects.filter(team_id=self.team_id, pk__in=ids).annotate(now=AppNow())
        messages = list(found.select_related("author", "run__approval__connection"))
        self.now = messages[0].now if messages else None
        self.known = catalog.current()
        self._read_stages([message.run_id for message in messages if message.run_id])
        self.opened |= {approval.stage_id for message in messages if (approval := _question(message))}
        self._read_contents([message.content_id for message in messages])
        said = [message.pk for message in messages if message.role == Message.Role.USER]
        files = Attachment.objects.filter(team_id=self.team_id, message__in=said).order_by("created_at", "id")
        self.attachments = _by("message_id", files if said else [])
        return {message.pk: self._shown(message) for message in messages}

    def _read_stages(self, runs: list[UUID]) -> None:
        stages = StageRun.objects.filter(team_id=self.team_id, run__in=runs).order_by("run", "position")
        self.stages = _by("run_id", stages.select_related("persona_version") if runs else [])
        calls = Call.objects.filter(team_id=self.team_id, run_id__in=runs).order_by("started_at", "id")
        self.calls = _by("run_id", calls if runs else [])

    def _read_contents(self, of_messages: list[UUID | None]) -> None:
        stages = [stage for row in self.stages.values() for stage in row if self._is_opened(stage)]
        ids = {*of_messages, *(stage.input_content_id for stage in stages)}
        ids |= {stage.output_content_id for stage in stages}
        rows = Content.objects.filter(team_id=self.team_id, pk__in=ids - {None})
        self.contents = {row.pk: row for row in rows} if ids - {None} else {}

    def _is_opened(self, stage: StageRun) -> bool:
        """Whether a page shows what this step said, and not only what became of it."""
        is_folded = stage.kind == "tool" and ("outcome" in stage.spec or stage.output_content_id is None)
        return not is_folded or stage.pk in self.opened

    def _shown(self, message: Message) -> Shown:
        siblings = self.tree.siblings(message.pk)
        if message.role == Message.Role.USER:
            said = self._open(message.content_id)
            text = said.get("text", "") if said else None
            return Shown(message, text, siblings, self.attachments.get(message.pk, ()))
        calls = self.calls.get(message.run_id, [])
        steps = [self._step(message, stage, calls) for stage in self.stages.get(message.run_id, ())]
        said = [step.text for step in steps if step.kind == "answer" and step.text]
        figures = self._figures(calls, *_times(message.run))
        return Shown(message, "\n\n".join(said), siblings, steps=steps, figures=figures, calls=calls)

    # --- steps --------------------------------------------------------------------------

    def _step(self, message: Message, stage: StageRun, calls: list[Call]) -> Answered | Called:
        own = [call for call in calls if call.stage_id == stage.pk]
        figures = self._figures(own, stage.started_at, stage.finished_at)
        if stage.spec.get("kind") == "tool":
            return self._called(message, stage, own, figures)
        return self._answered(message, stage, figures)

    def _answered(self, message: Message, stage: StageRun, figures: Figures) -> Answered:
        whole = self._open(stage.output_content_id)
        said = whole or _open_partial(stage) or {}
        return Answered(
            stage,
            str(said.get("text") or ""),
            str(said.get("reasoning") or ""),
            figures,
            is_running=stage.state in UNFINISHED and not message.run.is_finished,
            is_partial=whole is None,
            is_kept=whole is not None or stage.output_content_id is None,
        )

    def _called(self, message: Message, stage: StageRun, calls: list[Call], figures: Figures) -> Called:
        asked, given = self._open(stage.input_content_id) or {}, self._open(stage.output_content_id) or {}
        tool, approval = str(stage.spec.get("tool") or ""), _question(message)
        result = given.get("result")
        return Called(
            stage,
            tool or str(stage.spec.get("name") or ""),
            _title(tool),
            _arguments(asked.get("arguments")),
            given.get("content") if result is None else result,
            str(stage.spec.get("outcome") or given.get("outcome") or ""),
            figures,
            calls,
            approval if approval and approval.stage_id == stage.pk else None,
            bool(given.get("trimmed")),
            _said(result) if _asks_model(tool) else "",
        )

    def _figures(self, calls: list[Call], start: datetime | None, end: datetime | None) -> Figures:
        ms = round(((end or self.now) - start).total_seconds() * 1000) if start else None
        return figures_of(calls, ms, {call.pk: retention(call, self.known) for call in calls})

    def _open(self, content_id: UUID | None) -> dict[str, Any] | None:
        content = self.contents.get(content_id)
        return _opened(content) if content else None


def _by(name: str, rows: Iterable[Any]) -> dict[UUID, list[Any]]:
    found: dict[UUID, list[Any]] = {}
    for row in rows:
        found.setdefault(getattr(row, name), []).append(row)
    return found


def _question(message: Message) -> Approval | None:
    """What the turn of this answer asked a person last, until it ends."""
    run = message.run
    return run.approval if run and not run.is_finished else None


def _times(run: Any) -> tuple[datetime | None, datetime | None]:
    return run.started_at or run.queued_at, run.finished_at


def _open_partial(stage: StageRun) -> dict[str, Any] | None:
    if stage.partial is None:
        return None
    return _opened(Content(id=stage.partial_id, team_id=stage.team_id, kind="partial", ciphertext=stage.partial))


def _opened(content: Content) -> dict[str, Any] | None:
    """What was sealed, or None when it was erased."""
    try:
        found = json.loads(open_content(content=content))
    except Unreadable:
        return None
    return found if isinstance(found, dict) else {}


def _asks_model(tool: str) -> bool:
    """Whether the result of a tool is what a model said."""
    try:
        return bool(tool) and integration_of(tool).tool(tool).tokens is not None
    except UnknownTool:
        return False


def _title(tool: str) -> str:
    try:
        return integration_of(tool).tool(tool).title if tool else ""
    except UnknownTool:
        return ""


def _arguments(text: Any) -> Any:
    """The arguments as a model wrote them: JSON where it is some, else its text."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text


def _said(result: Any) -> str:
    data = result.get("data") if isinstance(result, dict) else None
    return str(data.get("text") or "") if isinstance(data, dict) else ""


# --- what providers keep ----------------------------------------------------------------


def retention(call: Call, known: Catalog) -> str:
    """
    Say what the provider of a call may keep, as the catalog has it now.

    zdr: nothing. terms: whatever its terms say. Empty: not known.
    """
    facts = known.find(call.model_served) or known.find(call.model)
    if facts is None or not call.provider:
        return ""
    slugs = {slug for slug, provider in known.providers.items() if call.provider in (provider.name, slug)}
    if not any(endpoint.provider in slugs for endpoint in facts.zdr_endpoints):
        return "terms" if slugs else ""  # the list of those that keep nothing is known whole
    offers = [each for each in facts.endpoints or () if each.provider in slugs and not is_tier(each.tag)]
    return "zdr" if offers and all(endpoint.is_zdr for endpoint in offers) else ""


# --- lists ------------------------------------------------------------------------------


def chat_page(*, team: Team, user: User, which: str = "mine", search: str = "", after: UUID | None = None) -> Page:
    """
    Return a page of chats, those of the last message first.

    `which`: mine, shared (by others with the team), or archived (mine that were).
    """
    found = team.chats.select_related("persona", "user").order_by("-active_at", "-id")
    match which:
        case "shared":
            found = found.live().filter(shared_at__isnull=False).exclude(user=user)
        case "archived":
            found = found.filter(user=user, archived_at__isnull=False)
        case _:
            found = found.live().filter(user=user)
    if search:
        found = found.filter(title__icontains=search)
    readable = team.chats.filter(Q(user=user) | Q(shared_at__isnull=False), pk=after)
    place = readable.values_list("active_at", flat=True).first() if after else None
    if place:
        found = found.filter(active_at__lte=place).exclude(active_at=place, pk__gte=after)
    rows = list(found[: LISTED + 1])
    return Page(rows[:LISTED], str(rows[LISTED - 1].pk) if len(rows) > LISTED else "")
