"""Turns of chats whose model has just asked for tools, and what comes of that."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from audit.actions import store
from audit.clock import app_now
from audit.models import Content
from integrations import actions
from integrations.models import Approval, Connection
from integrations.scopes import read_scopes
from personas import asking
from personas.chat import toolbox, toolcalls
from personas.leases import Lease
from personas.models import Chat, Message, Run, StageRun
from tests.integrations.desk import Desk
from tests.personas.builders import make_persona
from vault.content import open_content, seal_content

Wanted = tuple[str, Any]  # the name of a function, and its arguments as a value or as text


class Talk:
    """A persona of a team, its grants, and turns in which its model asks for tools."""

    def __init__(self, desk: Desk, **persona: Any) -> None:
        self.desk, self.team, self.user = desk, desk.team, desk.owner
        self.persona = make_persona(desk.team, **persona)
        now = app_now()
        self.chat = Chat.objects.create(
            team=self.team, user=self.user, persona=self.persona, title="Chat", created_at=now, active_at=now
        )
        self.last: Message | None = None

    def lend(self, tools: dict[str, Any], *, connection: Connection | None = None, **more: Any) -> None:
        actions.set_scopes(
            connection=connection or self.desk.connection,
            holder=self.persona.pk,
            name=self.persona.name,
            scopes=read_scopes({"tools": tools} | more),
            by=self.desk.owner,
        )

    def turn(self, *wanted: Wanted, **version: Any) -> "Turn":
        """A turn that goes on from the last one, whose model asked for these tools."""
        if version:
            row = self.persona.version
            row.pk, row._state.adding, row.number = uuid4(), True, row.number + 1
            for name, value in version.items():
                setattr(row, name, value)
            row.save()
        now = app_now()
        said = Message.objects.create(
            team=self.team,
            chat=self.chat,
            parent=self.last,
            role=Message.Role.USER,
            author=self.user,
            content_id=self.seal("message", {"text": "Go on"}),
            created_at=now,
        )
        run = Run.objects.create(
            team=self.team,
            chat=self.chat,
            title="Chat",
            user=self.user,
            state=Run.State.RUNNING,
            fence=1,
            queued_at=now,
            started_at=now,
        )
        self.last = Message.objects.create(
            team=self.team, chat=self.chat, parent=said, role=Message.Role.ASSISTANT, run=run, created_at=now
        )
        turn = Turn(self, run)
        turn.asks(*wanted)
        return turn

    def seal(self, kind: str, data: Any) -> Any:
        sealed = seal_content(
            team_id=self.team.pk, subject=self.chat.pk, kind=kind, data=json.dumps(data).encode(), at=app_now()
        )
        return store(sealed).pk


class Turn:
    """One turn under way."""

    def __init__(self, talk: Talk, run: Run) -> None:
        self.talk, self.run = talk, run
        self.version = talk.persona.version

    def asks(self, *wanted: Wanted) -> None:
        """Add an answer of its model that asks for these tools."""
        calls = [
            {
                "id": f"c{uuid4().hex[:6]}",
                "name": name,
                "arguments": given if isinstance(given, str) else json.dumps(given),
            }
            for name, given in wanted
        ]
        said = {"text": "", "tool_calls": calls, "finish_reason": "tool_calls", "format": "chat"}
        self.add("answer", {"kind": "answer"}, state="done", output_content_id=self.talk.seal("output", said))
        for spec, given in toolcalls.plan(self.run, said, self.version):
            self.add("tool", spec, input_content_id=self.talk.seal("input", given))

    def add(self, kind: str, spec: dict[str, Any], **fields: Any) -> StageRun:
        return StageRun.objects.create(
            team=self.run.team,
            run=self.run,
            position=self.run.stages.count(),
            name=kind,
            kind=kind,
            spec=spec,
            persona=self.talk.persona,
            **fields,
        )

    @property
    def box(self) -> toolbox.Toolbox:
        return toolbox.offered(
            team=self.talk.team, persona=self.talk.persona, user=self.run.user, version=self.version, now=app_now()
        )

    @property
    def lease(self) -> Lease:
        return Lease(self.run.pk, self.run.fence)

    def do(self, box: toolbox.Toolbox | None = None) -> list[dict[str, Any]]:
        """Make the calls that wait, as a worker does; return the outputs of the turn's tools so far."""
        toolcalls.do_waiting(self.run, self.lease, box or self.box, self.version)
        return self.outputs()

    def outputs(self) -> list[dict[str, Any]]:
        return opened_outputs(self.run)

    def tools(self) -> list[StageRun]:
        return list(self.run.stages.filter(kind="tool"))

    def states(self) -> list[str]:
        return [stage.state for stage in self.tools()]

    # --- asking a person ----------------------------------------------------------------

    def park(self, needed: Any) -> Approval:
        """Let the turn wait for a person, as its worker does."""
        asking.park(self.run, self.run.stages.get(pk=needed.question.stage_id), self.lease, needed.question)
        self.run.refresh_from_db()
        return self.run.approval

    def go_on(self) -> None:
        """Take the turn up again, as the next worker."""
        Run.objects.filter(pk=self.run.pk).update(state=Run.State.RUNNING, fence=self.run.fence + 1, parked_until=None)
        self.run.refresh_from_db()


def opened_outputs(run: Run) -> list[dict[str, Any]]:
    """What the tools of a turn put out so far, in order."""
    ids = run.stages.filter(kind="tool", output_content_id__isnull=False).values_list("output_content_id", flat=True)
    return [json.loads(open_content(content=Content.objects.get(pk=id))) for id in ids]


def outcomes(outputs: Sequence[dict[str, Any]]) -> list[str]:
    return [output["outcome"] for output in outputs]
