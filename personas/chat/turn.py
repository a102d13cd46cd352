"""
One turn of a chat: a model answers, the tools it asked for are called, and it answers again.

A turn is a run whose stages are added as it goes, each begun and ended in a fenced write. It is never
taken up in the middle of an answer: whether the request that a lost worker had sent was answered and
billed, nobody knows, so the turn ends as interrupted, and what had been said stays. An answer that came
whole is in the log, and taken from there.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db.models.functions import Coalesce

from accounts.permissions import Permission
from audit.actions import store
from audit.clock import AppNow, app_now
from integrations import purse
from integrations.approvals import NeedsApproval, NotApproved
from integrations.bookkeeping import let_go_of_database
from integrations.calls import CallResult
from integrations.errors import Withdrawn
from integrations.sweeping import note_fault
from personas import asking, attempts, ending
from personas.attempts import Parked, StageFailed, Stopped
from personas.chains import Routing
from personas.chat import bounds, conversation, left_behind, live, toolbox, toolcalls
from personas.chat.sending import add_stage
from personas.leases import Lease, LeaseLost, fenced, renew
from personas.models import Message, PersonaVersion, Run, StageRun
from personas.queue import hint_later
from vault.box import Unreadable
from vault.content import seal_content

ANSWER, TOOL = "answer", "tool"
LEAST_ANSWER = 60.0  # seconds that an answer may take, however late in its turn it begins
PATIENCE = timedelta(0)  # somebody sits before it: a chat says that models are busy, and does not wait for hours
INTERRUPTED = (
    "The worker was lost in the middle of this. What had been said by then is kept, and nothing was sent again."
)


class TooLong(Withdrawn):
    """The time of the turn is over in the middle of an answer."""

    words = "It was ended, since the time of its turn was over. What was billed is asked for."


def advance(run: Run, lease: Lease) -> None:
    """
    Take a turn as far as it goes: to its end, or to a question for a person.

    Raises LeaseLost.
    """
    ending.close_open_calls(run)
    turn = Turn(run, lease)
    try:
        _advance(turn)
    finally:
        _tell(run)


def _tell(run: Run) -> None:
    """Tell the pages how it stands now."""
    run.refresh_from_db(fields=["state"])
    if run.is_finished:
        live.end(run.pk)
    else:
        live.tell(run.pk)


def give_up_on(run: Run) -> None:
    """
    End a turn that was tried too often without finishing a step.

    An answer that its last worker got whole is taken over first, and the turn goes on from there.
    """
    ending.close_open_calls(run)
    with suppress(LeaseLost):
        if _takes_over_last(Turn(run, Lease(run.pk, run.fence))):
            hint_later([run.pk])
        else:
            ending.give_up_on(run=run)
        _tell(run)


def _takes_over_last(turn: "Turn") -> bool:
    """Whether the answer that a lost worker was at is known, so that its turn can go on or was ended with it."""
    stage = turn.run.stages.filter(kind=ANSWER, state=StageRun.State.RUNNING).select_related("persona").first()
    try:
        return bool(stage) and turn.takes_over(stage)
    except StageFailed as failure:
        ending.fail(turn.run, turn.current or stage, turn.lease, str(failure), gave_up=True)
        return True
    except LeaseLost:
        raise
    except Exception as fault:  # noqa: BLE001 - what cannot be taken over must not keep the turn from its end
        note_fault(turn.run, fault)
        return False


def _advance(turn: "Turn") -> None:
    run, lease = turn.run, turn.lease
    try:
        while stage := turn.next_stage():
            if turn.takes_over(stage):
                continue
            _check(turn, stage)
            turn.do(stage)
    except Stopped:
        ending.stop(run, turn.current, lease)
    except NeedsApproval as needed:
        asking.park(run, run.stages.get(pk=needed.question.stage_id), lease, needed.question)
    except TooLong:
        ending.fail(run, turn.current, lease, bounds.too_long(turn.version))
    except Parked as wait:
        ending.fail(run, turn.current, lease, f"{wait.why} Try again in {wait.seconds:.0f} s, or choose another model.")
    except StageFailed as failure:
        ending.fail(run, turn.current, lease, str(failure))
    else:
        ending.finish(run, lease, Run.State.SUCCEEDED)


def _check(turn: "Turn", stage: StageRun) -> None:
    """Whether this stage may begin: everything may have changed since the last one. Raises Stopped and StageFailed."""
    if Run.objects.filter(pk=turn.run.pk, stop_wanted_at__isnull=False).exists():
        raise Stopped
    ending.check_rights(turn.run, Permission.CHAT_USE)
    persona = turn.message.chat.persona
    persona.refresh_from_db(fields=["archived_at"])
    if persona.archived_at:
        raise StageFailed(f"{persona.name} was archived. Start a chat with another persona.")


class Turn:
    """A turn in the hands of one worker."""

    def __init__(self, run: Run, lease: Lease) -> None:
        self.run, self.lease = run, lease
        messages = Message.objects.select_related("chat__persona__version", "chat__user", "parent", "team")
        self.message = messages.get(run=run)
        self.version: PersonaVersion = _pinned(run) or self.message.chat.persona.version
        self.live = live.Live(run, lease)
        self.current: StageRun | None = None

    def next_stage(self) -> StageRun | None:
        """The first stage that is not done; None when the turn is over. After tools a model answers."""
        self.current = self.run.stages.exclude(state=StageRun.State.DONE).select_related("persona").first()
        if self.current is None and self.run.stages.last().kind == TOOL:
            with fenced(self.lease):
                self.current = self._add({"kind": ANSWER})
        return self.current

    def do(self, stage: StageRun) -> None:
        """Do this stage: an answer, or the tools that the last one asked for."""
        if stage.kind == ANSWER:
            self._answer(stage)
        else:
            toolcalls.do_waiting(self.run, self.lease, self._toolbox(), self.version)

    # --- one answer ---------------------------------------------------------------------

    def takes_over(self, stage: StageRun) -> bool:
        """
        Keep the answer that a lost worker had got whole, and say so. Raises StageFailed where nobody knows it.

        Tools that one had begun are their own module's to judge.
        """
        if stage.kind != ANSWER or stage.state != StageRun.State.RUNNING:
            return False
        found = left_behind.answer_of(self.run, stage, self.version.format)
        if found is None:
            raise StageFailed(INTERRUPTED)
        said = conversation.said(found, self.version.format)
        self._close(stage, said, used_fallback=left_behind.used_fallback(stage, found.call))
        return True

    def _answer(self, stage: StageRun) -> None:
        with fenced(self.lease):
            now = AppNow()
            fields = {"persona_version": self.version, "started_at": Coalesce("started_at", now)}
            StageRun.objects.filter(pk=stage.pk).update(state=StageRun.State.RUNNING, **fields)
        live.tell(self.run.pk)
        result, choice = self._ask(stage)
        said = conversation.said(result, self.version.format)
        self._close(stage, said, used_fallback=choice > 0)

    def _ask(self, stage: StageRun) -> tuple[CallResult, int]:
        """Have a model answer, and show what it says while it does."""
        try:
            asked = asking.answer(self.run, stage)
        except NotApproved as refusal:
            raise StageFailed(str(refusal)) from refusal
        except Unreadable as error:
            raise StageFailed("What was allowed is not kept any more, so it was not asked. Try again.") from error
        if asked:
            tool, arguments, chain, routing = asked.tool, asked.arguments, asked.chain or [""], Routing.ORDER
        else:
            tool, arguments = self._request()
            chain, routing = self._chain()
        waited = 0.0
        while True:
            try:
                return self._speak(stage, tool, arguments, chain, asked, routing)
            except Parked as wait:  # for the calls a minute, of which a turn with many tools makes some at once
                waited += wait.seconds
                if waited > attempts.MOST_WAITING:
                    raise
                let_go_of_database()
                time.sleep(wait.seconds)
                renew(self.lease)

    def _speak(
        self,
        stage: StageRun,
        tool: str,
        arguments: dict[str, Any],
        chain: Sequence[str],
        asked: asking.Asked | None,
        routing: str,
    ) -> tuple[CallResult, int]:
        with self.live.speaking(stage) as voice:
            return attempts.ask(
                self.run,
                stage,
                tool,
                arguments,
                chain,
                asked,
                routing=routing,
                patience=PATIENCE,
                on_text=voice.on_text,
                on_reasoning=voice.reasoning,
                on_wait=self._watch(voice.on_wait),
                most_credits=self.version.most_credits,
            )

    def _watch(self, is_wanted: Callable[[], None]) -> Callable[[], None]:
        """Look whether an answer is still wanted, and whether its turn has time left. What it calls raises."""
        waited = (self.run.started_at - self.run.queued_at).total_seconds()  # for a worker: no fault of the turn's
        left = self.version.most_seconds - max(0.0, toolcalls.seconds_at_work(self.run) - waited)
        ends_at = time.monotonic() + max(LEAST_ANSWER, left)

        def look() -> None:
            is_wanted()
            if time.monotonic() >= ends_at:
                raise TooLong

        return look

    def _request(self) -> tuple[str, dict[str, Any]]:
        box = self._toolbox()
        tool, arguments = conversation.request(run=self.run, message=self.message, version=self.version, toolbox=box)
        if self._is_last_step() and arguments.get("tools"):
            arguments["tool_choice"] = "none" if self.version.format == PersonaVersion.Format.CHAT else {"type": "none"}
        return tool, arguments

    def _chain(self) -> tuple[list[str], str]:
        """Which models are asked: the one chosen for this answer, or as the persona says."""
        if self.message.model:
            return [self.message.model], Routing.ORDER
        return self.version.chain, self.version.routing

    def _is_last_step(self) -> bool:
        """Whether one more answer is all this turn may have: then it must be one without tools."""
        return self._answers() + 1 >= self.version.most_steps

    def _close(self, stage: StageRun, said: dict[str, Any], *, used_fallback: bool) -> None:
        """Keep what was said, and add the tools that it asks for. Raises StageFailed when a bound forbids them."""
        content = self._seal("output", said)
        too_much = self._why_stop() if said["tool_calls"] else ""
        with fenced(self.lease, attempt=0):
            store(content)
            StageRun.objects.filter(pk=stage.pk).update(
                state=StageRun.State.DONE,
                output_content_id=content.id,
                partial=None,
                partial_id=None,
                used_fallback=used_fallback,
                finished_at=AppNow(),
            )
            if too_much:
                self.current = self._add({"kind": ANSWER})
            elif said["tool_calls"]:
                self._add_tools(said)
        live.tell(self.run.pk)
        if too_much:
            raise StageFailed(too_much)

    def _add_tools(self, said: dict[str, Any]) -> None:
        for spec, given in toolcalls.plan(self.run, said, self.version):
            sealed = self._seal("input", given)
            store(sealed)
            self._add(spec, input_content_id=sealed.id)

    def _why_stop(self) -> str:
        """Which hard bound keeps this turn from calling one more tool, in words; empty while none does."""
        return bounds.why_stop(
            self.version,
            steps=self._answers() + 1,
            tool_calls=self.run.stages.filter(kind=TOOL).count() + 1,
            seconds=toolcalls.seconds_at_work(self.run),
            credits=purse.taken(team_id=self.run.team_id, run_id=self.run.pk),
        )

    def _answers(self) -> int:
        return self.run.stages.filter(kind=ANSWER, state=StageRun.State.DONE).count()

    # --- shared -------------------------------------------------------------------------

    def _toolbox(self) -> toolbox.Toolbox:
        chat = self.message.chat
        return toolbox.offered(
            team=self.run.team,
            persona=chat.persona,
            user=self.run.user,
            version=self.version,
            now=app_now(),
            run_id=self.run.pk,
        )

    def _add(self, spec: dict[str, Any], **fields: Any) -> StageRun:
        return add_stage(self.run, self.run.stages.count(), self.message.chat.persona, spec, **fields)

    def _seal(self, kind: str, data: dict[str, Any]) -> Any:
        chat = self.message.chat
        return seal_content(
            team_id=self.run.team_id, subject=chat.pk, kind=kind, data=json.dumps(data).encode(), at=app_now()
        )


def _pinned(run: Run) -> PersonaVersion | None:
    """The version that the first answer of this turn was given by: a turn keeps it."""
    first = run.stages.filter(persona_version__isnull=False).select_related("persona_version").first()
    return first.persona_version if first else None
