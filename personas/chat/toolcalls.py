"""
The tool calls that a model asks for in a turn: planned, made, and told to the model.

Each goes through the one call path, in parallel with its neighbours, and ends in a fenced write of
what the model is given. Whatever goes wrong becomes words for the model; only a lost lease, a stop
and a question for a person end the work here.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import structlog
from django.db import DatabaseError
from django.db import connection as database

from audit.actions import store
from audit.clock import AppNow, app_now
from audit.models import Content
from integrations.advice import in_words
from integrations.approvals import NeedsApproval, NotApproved
from integrations.calls import REFUSALS, CallResult
from integrations.errors import UpstreamError, Withdrawn
from integrations.models import Approval, Call
from integrations.purse import RunLimitReached
from integrations.registry import InvalidArguments, integrations, parse_arguments
from integrations.strict_json import NotPlainJson, load_object
from personas import asking, attempts
from personas.attempts import Stopped
from personas.chat import bounds, left_behind, live
from personas.chat.outputs import (
    BROKEN,
    CUT_OFF,
    ERASED,
    IN_DOUBT,
    LIMIT,
    NO_MORE,
    NOT_APPROVED,
    NOT_AS_ALLOWED,
    REPEATED,
    Output,
    wrapped,
)
from personas.chat.replay import LONGEST_ID
from personas.chat.strangers import has_read_strangers
from personas.chat.toolbox import Offered, Toolbox
from personas.leases import Lease, LeaseLost, fenced
from personas.models import Persona, PersonaVersion, Run, StageRun
from personas.watching import Watch
from vault.box import Unreadable
from vault.content import open_content, seal_content

TOOL, ANSWER = "tool", "answer"
LONGEST_NAME = 64
UNFINISHED = (StageRun.State.WAITING, StageRun.State.RUNNING)

log = structlog.get_logger()


# --- planning ---------------------------------------------------------------------------


def plan(run: Run, said: Mapping[str, Any], version: PersonaVersion) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """
    Return a stage for each tool call of an answer, in order: its spec, and its input, which is to be sealed.

    At most as many as the turn may still have. A spec lies open, so of what the model wrote it holds
    the name of a function and the id of the call.
    """
    room = max(0, version.most_tool_calls - run.stages.filter(kind=TOOL).count())
    return [(_spec(call), _input(call)) for call in said["tool_calls"][:room]]


def _spec(call: Mapping[str, Any]) -> dict[str, Any]:
    name = str(call["name"])
    plain = name if name.isascii() and name.isidentifier() and len(name) <= LONGEST_NAME else "unknown_tool"
    return {"kind": TOOL, "tool": tool_of(name), "name": plain, "call": str(call["id"]).replace("\0", "")[:LONGEST_ID]}


def _input(call: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": str(call["id"]), "name": str(call["name"]), "arguments": str(call["arguments"])}


def tool_of(name: str) -> str:
    """Return our name of the tool that a function stands for; empty when there is none."""
    known = (tool.name for each in integrations() for tool in each.tools)
    return max((tool for tool in known if name == tool or name.startswith(f"{tool}_")), key=len, default="")


# --- doing ------------------------------------------------------------------------------


def do_waiting(run: Run, lease: Lease, toolbox: Toolbox, version: PersonaVersion) -> None:
    """
    Make every tool call of this turn that waits, up to eight at once, and keep what came of each.

    One that a lost worker had begun is made again if it only reads; what may have been billed is not.
    Raises NeedsApproval after all others are done, Stopped, and LeaseLost.
    """
    batch = Batch(run, lease, toolbox, version)
    waiting = [each for each in batch.asked if each.stage.state in UNFINISHED]
    if len(waiting) == 1:
        batch.do(waiting[0])
        return
    with ThreadPoolExecutor(bounds.MOST_CALLS_AT_ONCE, thread_name_prefix="tools") as pool:
        ends = [pool.submit(_in_thread, batch.do, each) for each in waiting]
    faults = [fault for end in ends if (fault := end.exception())]
    for kind in (LeaseLost, Stopped, NeedsApproval, Exception):
        if fault := next((each for each in faults if isinstance(each, kind)), None):
            raise fault


def _in_thread(do: Callable[["Asked"], None], each: "Asked") -> None:
    try:
        do(each)
    finally:
        database.close()  # this thread's own


@dataclass(frozen=True, slots=True)
class Asked:
    """One tool call of a turn. `is_kept`: what it asks can be read; `is_repeated`: it was made often enough before."""

    stage: StageRun
    name: str
    arguments: str = field(repr=False)
    is_kept: bool = True
    is_repeated: bool = False


class Batch:
    """The tool calls that one answer asked for, and what they may take."""

    def __init__(self, run: Run, lease: Lease, toolbox: Toolbox, version: PersonaVersion) -> None:
        self.run, self.lease, self.toolbox, self.version = run, lease, toolbox, version
        stages = list(run.stages.filter(kind=TOOL).select_related("persona"))
        contents = _opened(run, stages)
        self.asked = _asked(stages, contents)
        waiting = [each.stage for each in self.asked if each.stage.state in UNFINISHED]
        self.untrusted = has_read_strangers(run, waiting[0].position if waiting else 0)
        used = sum(len(said.get("content", "")) for stage in stages if (said := contents.get(stage.output_content_id)))
        self.room = bounds.room_for_each(used, len(waiting))
        self.ends_at = time.monotonic() + version.most_seconds - seconds_at_work(run)

    def do(self, each: Asked) -> None:
        """Make one call and keep what came of it. Raises NeedsApproval, Stopped and LeaseLost."""
        self._begin(each.stage)
        try:
            output = self._output(each)
        except (NeedsApproval, Stopped):
            self._put_back(each.stage)
            raise
        self._end(each.stage, output)

    # --- before and after ---------------------------------------------------------------

    def _begin(self, stage: StageRun) -> None:
        if Run.objects.filter(pk=self.run.pk, stop_wanted_at__isnull=False).exists():
            raise Stopped
        with fenced(self.lease):
            StageRun.objects.filter(pk=stage.pk).update(
                state=StageRun.State.RUNNING, persona_version=self.version, started_at=AppNow()
            )
        live.tell(self.run.pk)

    def _end(self, stage: StageRun, output: Output) -> None:
        content = seal_content(
            team_id=self.run.team_id, subject=self.run.chat_id, kind="output", data=output.as_json(), at=app_now()
        )
        with fenced(self.lease, attempt=0):
            store(content)
            StageRun.objects.filter(pk=stage.pk).update(
                state=StageRun.State.DONE,
                spec=stage.spec | {"outcome": output.outcome},  # open, so that a page can tell without opening more
                output_content_id=content.id,
                finished_at=AppNow(),
            )
        live.tell(self.run.pk)

    def _put_back(self, stage: StageRun) -> None:
        """Leave a stage as if it had not begun."""
        with fenced(self.lease):
            StageRun.objects.filter(pk=stage.pk).update(state=StageRun.State.WAITING, started_at=None)

    # --- one call -----------------------------------------------------------------------

    def _output(self, each: Asked) -> Output:
        offered = self.toolbox.find(each.name)
        if each.stage.state == StageRun.State.RUNNING and (lost := self._left_behind(each, offered)):
            return lost
        if not each.is_kept:
            return Output("erased", ERASED)
        if each.is_repeated:
            return Output("repeated", REPEATED.format(times=bounds.MOST_ALIKE))
        if time.monotonic() >= self.ends_at:
            return Output("limit", NO_MORE)
        if not Persona.objects.live().filter(pk=each.stage.persona_id).exists():
            return Output("refused", f"{each.stage.persona.name} was archived, so this call was not made.")
        try:
            return self._made(each, offered)
        except (Stopped, NeedsApproval, LeaseLost, DatabaseError):
            raise
        except Exception as fault:  # noqa: BLE001 - a fault of ours must not take the other calls with it
            return self._failed(each, fault)

    def _made(self, each: Asked, offered: Offered | None) -> Output:
        """Make the call, as the model asked for it or as a person allowed it."""
        if allowed := asking.answer(self.run, each.stage):
            result = self._call(each, allowed.connection, allowed.tool, allowed.arguments, allowed)
            return self._answered(each, allowed.connection.provider.tool(allowed.tool).title, result.result)
        if offered is None:
            return self._unknown(each)
        given = read_arguments(offered, each.arguments)
        result = self._call(each, offered.connection, offered.tool.name, given)
        return self._answered(each, offered.tool.title, result.result)

    def _call(
        self, each: Asked, connection: Any, tool: str, arguments: dict[str, Any], allowed: asking.Asked | None = None
    ) -> CallResult:
        caller = replace(
            attempts.caller_of(self.run, each.stage, _tries(each.stage) + 1),
            untrusted=self.untrusted,
            most_credits=self.version.most_credits,
        )
        return attempts.call_once(
            self.run,
            connection,
            tool,
            arguments,
            caller,
            chain=[model for model in allowed.chain if model] if allowed else (),
            approval_id=allowed.approval_id if allowed else None,
            listeners={"on_wait": Watch(self.run.pk, self.ends_at - time.monotonic()).look},
        )

    def _answered(self, each: Asked, title: str, result: Mapping[str, Any]) -> Output:
        data = result["data"]
        said = data.get("text") if "text" in data else data
        what = f"{title} ({data['model']})" if "text" in data and data.get("model") else title
        text, note = bounds.fitted(said if said is not None else "", self.room)
        content = "\n".join(filter(None, [wrapped(what, text, each.stage.pk), note]))
        return Output("done", content, is_error=False, trimmed=bool(note), untrusted=True, result=result)

    # --- when it was not made, or failed ------------------------------------------------

    def _unknown(self, each: Asked) -> Output:
        names = ", ".join(offered.name for offered in self.toolbox.offered)
        has = f"You have: {names}." if names else "You have no tools now."
        known = f"{each.stage.spec['name']} is not among your tools" if tool_of(each.name) else "There is no such tool"
        return Output("unknown_tool", f"{known}. {has}")

    def _failed(self, each: Asked, fault: Exception) -> Output:
        match fault:
            case NotPlainJson() | InvalidArguments():
                return Output("invalid_arguments", _problems(fault))
            case NotApproved():
                content = NOT_APPROVED.get(fault.reason, NOT_AS_ALLOWED)
                return Output("not_approved", content, str(fault))
            case RunLimitReached():
                return Output("limit", LIMIT, str(fault))
            case Unreadable():
                return Output("erased", ERASED)
            case Withdrawn():
                return Output("limit", CUT_OFF)
            case UpstreamError():
                text, note = bounds.fitted(in_words(fault), self.room)
                what = f"{each.stage.spec['name']} failed, and"
                content = wrapped(what, text, each.stage.pk)
                return Output(fault.outcome, content, text, trimmed=bool(note), untrusted=True)
            case _ if isinstance(fault, REFUSALS):
                # Who asks is the persona's to know only where its version says so.
                content = str(fault).replace(self.run.user.email, "The member")
                return Output("refused", f"This call was not made. {content}", str(fault))
            case _:
                log.error("chat.tool_failed", stage_id=str(each.stage.pk), error=type(fault).__name__)
                return Output("failed", BROKEN)

    def _left_behind(self, each: Asked, offered: Offered | None) -> Output | None:
        """What came of a call whose worker was lost before it wrote that down; None where it may be made again."""
        call = left_behind.last_call(each.stage)
        if call is None:
            return None
        if call.state == Call.State.DONE and (result := left_behind.result_of(call)):
            return self._answered(each, _title(call), result)
        if _reads(call):
            return None
        if call.state == Call.State.FAILED:
            return Output(call.outcome or "failed", f"This call failed. {call.message}".strip(), untrusted=True)
        return Output("unknown", IN_DOUBT)


# --- arguments --------------------------------------------------------------------------


def read_arguments(offered: Offered, text: str) -> dict[str, Any]:
    """
    Return the arguments that a model wrote, without what the grant pins.

    Only what was offered is taken: a consulted model gets no tools, and no address travels in a part
    of a message. Raises NotPlainJson and InvalidArguments.
    """
    given = load_object(text.strip() or "{}")
    given = {name: value for name, value in given.items() if name not in offered.pinned}
    fields = offered.tool.arguments.model_fields
    parse_arguments(offered.tool, given | {name: value for name, value in offered.pinned.items() if name in fields})
    return given


def _problems(fault: NotPlainJson | InvalidArguments) -> str:
    if isinstance(fault, NotPlainJson):
        return f"The arguments cannot be read. {fault} {fault.hint}".strip()
    listed = "\n".join(f"- {problem}" for problem in fault.problems)
    return f"The arguments do not fit this tool. Correct them:\n{listed}"


# --- reading the turn -------------------------------------------------------------------


def _opened(run: Run, stages: Sequence[StageRun]) -> dict[UUID | None, dict[str, Any]]:
    ids = [id for stage in stages for id in (stage.input_content_id, stage.output_content_id) if id]
    found = {}
    for content in Content.objects.filter(team_id=run.team_id, pk__in=ids):
        try:
            found[content.pk] = json.loads(open_content(content=content))
        except Unreadable:
            continue
    return found


def _asked(stages: Sequence[StageRun], contents: Mapping[UUID | None, dict[str, Any]]) -> list[Asked]:
    """The calls of a turn in order. Each that was made too often already is marked."""
    found = []
    for stage in stages:
        given = contents.get(stage.input_content_id)
        name, arguments = (given["name"], given["arguments"]) if given else (stage.spec["name"], "")
        found.append(Asked(stage, name, arguments, is_kept=given is not None))
    doubted = [(contents.get(each.stage.output_content_id) or {}).get("outcome") == "unknown" for each in found]
    marks = bounds.repeated([(each.name, each.arguments) for each in found], doubted)
    return [replace(each, is_repeated=mark) for each, mark in zip(found, marks, strict=True)]


def _tries(stage: StageRun) -> int:
    return Call.objects.filter(run_id=stage.run_id, stage_id=stage.pk).count()


def _reads(call: Call) -> bool:
    return call.connection.provider.tool(call.tool).hints.read_only


def _title(call: Call) -> str:
    return call.connection.provider.tool(call.tool).title


def seconds_at_work(run: Run) -> float:
    """Return for how long a turn was at work, in seconds: since it was queued, but for waits for a person."""
    now = app_now()
    asked = Approval.objects.filter(team_id=run.team_id, run_id=run.pk)
    times = asked.values_list("asked_at", "decided_at", "expires_at")
    waited = sum((min(decided or now, expires) - at).total_seconds() for at, decided, expires in times)
    return max(0.0, (now - run.queued_at).total_seconds() - waited)
