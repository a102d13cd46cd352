"""
Getting one answer for a stage: one model after another, until one answers or routing gives up.

Each try is a call of its own, each step a row of the stage's ledger.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from audit.clock import app_now
from integrations import catalog
from integrations.advice import in_words
from integrations.approvals import NeedsApproval
from integrations.bookkeeping import let_go_of_database
from integrations.calls import OUTCOMES, REFUSALS, Caller, CallResult, OnText, OnWait, call_tool
from integrations.caps import CapReached
from integrations.errors import NotReady, RateLimited, UpstreamError
from integrations.fitting import Needs, needs_of
from integrations.models import Connection
from integrations.pace import TooManyCalls
from integrations.policy import PolicyRefuses
from integrations.purse import StageLimit, StageLimitReached
from integrations.registry import InvalidArguments, Tool, parse_arguments, tokens_upper_bound
from integrations.scopes import pinned
from personas import choosing
from personas.asking import Asked
from personas.candidates import NoCandidates, Picked, pick, prefer
from personas.chains import Routing, named
from personas.leases import Lease, check_held, renew
from personas.ledger import Ledger, open_ledger
from personas.lending import Asker, caller_of, connection_for, limits_of, standing_of
from personas.models import Run, StageRun
from personas.resting import Rests, read_rests
from personas.routing import JITTER, Candidate, Decision, Failure, GiveUp, Park, Passed, Room, Skip, Try, decide
from personas.standstill import Parked, StageFailed, Stopped

LOOK_EVERY = 0.25  # seconds between two looks whether an answer is still wanted
POLL_EVERY = 2.0  # seconds between looks for a generation record
MOST_WAITING = 3.0  # seconds that a worker waits for rate limits within one answer; longer ones park the run
PATIENCE = timedelta(hours=1)  # how long after its start a stage may still be parked
SKIPS = (PolicyRefuses, CapReached, StageLimitReached)  # refusals of ours that another model may escape


def ask(
    run: Run,
    stage: StageRun,
    tool: str,
    arguments: dict[str, Any],
    chain: Sequence[str],
    asked: Asked | None = None,
    *,
    routing: str = Routing.ORDER,
    patience: timedelta = PATIENCE,
    on_text: OnText = None,
    on_reasoning: OnText = None,
    on_wait: OnWait = None,
    most_credits: int | None = None,
    stage_limit: StageLimit | None = None,
) -> tuple[CallResult, int]:
    """
    Call the tool with one model after another, as routing decides. Each try is a call of its own.

    `asked` is what somebody allowed, where the stage had to ask. `patience` is how long after its
    start the stage may still be parked. `on_text` gets the text of the answer piece by piece; once
    it got some, no other model is asked. `on_reasoning` and `on_wait` are as `call_tool` takes them.
    `most_credits` bounds what the whole run may take, `stage_limit` what its calls may cost. Returns the
    answer and how many candidates were passed over or failed before it. Raises Parked, Stopped,
    NeedsApproval, LeaseLost and StageFailed, and what the listeners raise.
    """
    connection = asked.connection if asked else connection_for(Asker.of(run, stage), tool)
    picked = _pick(run, stage, connection, tool, arguments, chain, routing)
    rests = read_rests(connection=connection, models=[each.model for each in picked.candidates])
    answer = _Answer(run, stage, tool, arguments, connection, picked, rests, open_ledger(run, stage), asked)
    answer.patience, answer.listener = patience, on_text and _Listener(on_text)
    answer.listeners = {"on_text": answer.listener, "on_reasoning": on_reasoning, "on_wait": on_wait}
    answer.limits = {"most_credits": most_credits, "stage_limit": stage_limit}
    if routing == Routing.CHOOSE and not asked:
        answer.let_choose()
    return answer.get()


def _pick(
    run: Run,
    stage: StageRun,
    connection: Connection,
    tool: str,
    arguments: dict[str, Any],
    chain: Sequence[str],
    routing: str,
) -> Picked:
    """The candidates for this request, each held against the catalog and the grant."""
    if list(chain) == [""]:
        return Picked((Candidate(""),))
    found = standing_of(run, stage, connection)
    fixed = pinned(found.scopes, tool).get("model") if found and found.scopes else None
    if fixed:  # whichever a chain names, this one would be asked
        chain, routing = [fixed], Routing.ORDER
    known = catalog.current(connection.integration)
    wanted = _parsed(connection, tool, arguments, next(iter(named(chain)), "any/model"))
    try:
        return pick(chain, routing, known, _needs(*wanted), limits_of(found, known, *wanted))
    except NoCandidates as error:
        raise StageFailed(str(error)) from error


def _parsed(connection: Connection, tool: str, arguments: dict[str, Any], model: str) -> tuple[Tool, BaseModel | None]:
    """The tool and its arguments as a model would get them; None where the call itself will say what is wrong."""
    found = connection.provider.tool(tool)
    try:
        return found, parse_arguments(found, arguments | {"model": model})
    except InvalidArguments:
        return found, None


def _needs(tool: Tool, arguments: BaseModel | None) -> Needs:
    return Needs() if arguments is None else needs_of(arguments, tokens_upper_bound(tool, arguments) or (0, 0))


class _Answer:
    """One answer on its way: what has been tried, and what may still be spent on it."""

    def __init__(
        self,
        run: Run,
        stage: StageRun,
        tool: str,
        arguments: dict[str, Any],
        connection: Connection,
        picked: Picked,
        rests: Rests,
        ledger: Ledger,
        asked: Asked | None,
    ) -> None:
        self.run, self.stage, self.tool, self.arguments = run, stage, tool, arguments
        self.connection, self.picked, self.rests, self.ledger = connection, picked, rests, ledger
        self.asked = asked
        self.patience, self.listener = PATIENCE, None
        self.listeners: dict[str, Any] = {}
        self.limits: dict[str, Any] = {}
        self.past: list[Failure | Passed] = []
        self.words: list[str] = []
        self.waiting_left = MOST_WAITING
        self.most_tries = ledger.tries_left

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return self.picked.candidates

    def get(self) -> tuple[CallResult, int]:
        step = self._decide()
        while True:
            match step:
                case Park(seconds, why):
                    raise Parked(seconds, why)
                case GiveUp(why):
                    raise self._failure(why) from self._last_error()
                case Skip(place, outcome, why):
                    step = self._pass_over(place, outcome, why)
                case Try(place, _, seconds):
                    self._wait(seconds)
                    result, step = self._try(place, seconds)
                    if result:
                        return result, place

    def _decide(self) -> Decision:
        now = app_now()
        candidates = [replace(each, rests=self.rests.seconds_left(each.model, now)) for each in self.candidates]
        patience = ((self.stage.started_at or now) + self.patience - now).total_seconds()
        room = Room(wait=self.waiting_left, park=max(0.0, patience), tries=self.most_tries)
        return decide(candidates, self.past, room, random.random())  # noqa: S311 - it only spreads waits

    # --- one step -----------------------------------------------------------------------

    def _pass_over(self, place: int, outcome: str, why: str, *, for_good: bool = False) -> Decision:
        model = self.candidates[place].model
        self.past.append(Passed(place, for_good))
        self.words.append(f"{model}: {why}")
        step = self._decide()
        self.ledger.passed(model, outcome, " ".join(filter(None, (why, step.why))))
        return step

    def _wait(self, seconds: float) -> None:
        if not self.past:
            return
        self.waiting_left -= seconds
        let_go_of_database()
        self._sleep(seconds)
        renew(Lease(self.run.pk, self.run.fence))  # whoever lost the run must not pay for another attempt
        if Run.objects.filter(pk=self.run.pk, stop_wanted_at__isnull=False).exists():
            raise Stopped

    def _sleep(self, seconds: float) -> None:
        on_wait = self.listeners.get("on_wait")
        while on_wait and seconds > LOOK_EVERY:
            on_wait()
            time.sleep(LOOK_EVERY)
            seconds -= LOOK_EVERY
        time.sleep(seconds)

    def _try(self, place: int, waited: float) -> tuple[CallResult | None, Decision | None]:
        """Ask one candidate: its answer, or what to do instead."""
        model = self.candidates[place].model
        if self._is_rehearsed(model):
            return None, self._rehearse(place, model, waited)
        try:
            result = self._call(place)
        except NeedsApproval:
            raise
        except TooManyCalls as refusal:
            self.ledger.passed(model, OUTCOMES[type(refusal)], str(refusal))
            raise Parked(refusal.retry_after + JITTER * random.random(), str(refusal)) from refusal  # noqa: S311
        except REFUSALS as refusal:
            if _concerns_one_model(refusal):
                return None, self._pass_over(place, OUTCOMES[type(refusal)], str(refusal), for_good=True)
            self.ledger.asked_of(model, OUTCOMES[type(refusal)], waited, str(refusal))
            raise StageFailed(str(refusal)) from refusal
        except UpstreamError as error:
            return None, self._note_failure(place, model, error, waited)
        self.rests.note(model, None)
        self.ledger.asked_of(model, "done", waited, self._how_found())
        return result, None

    def _note_failure(self, place: int, model: str, error: UpstreamError, waited: float) -> Decision:
        self.rests.note(model, error)
        if self.listener and self.listener.heard:
            self.ledger.asked_of(model, error.outcome, waited, "Part of the answer was shown, so no other is asked.")
            raise StageFailed(f"{in_words(error)} What it had said by then is kept.") from error
        self.past.append(Failure(place, error))
        self.words.append(f"{model}: {error.message}")
        step = self._decide()
        self.ledger.asked_of(model, error.outcome, waited, " ".join(filter(None, (self._how_found(), step.why))))
        return step

    def _how_found(self) -> str:
        """How the candidates were found, said once."""
        words, self.picked = self.picked.words, replace(self.picked, words="")
        return words

    def _call(self, place: int) -> CallResult:
        model = self.candidates[place].model
        arguments = self.arguments | ({"model": model} if model else {})
        caller = self._caller()
        chain = self._still_to_ask(model)
        approval_id = self.asked.approval_id if self.asked else None
        return call_once(self.run, self.connection, self.tool, arguments, caller, chain, approval_id, self.listeners)

    def _caller(self) -> Caller:
        return replace(caller_of(self.run, self.stage, self.ledger.number), **self.limits)

    def _still_to_ask(self, model: str) -> list[str]:
        """This model and those that may follow it: the dearest of them bounds what is held."""
        seen = {step.place for step in self.past}
        later = [each.model for place, each in enumerate(self.candidates) if place not in seen and not each.misfit]
        return list(dict.fromkeys(filter(None, (model, *later))))

    # --- letting the persona choose -----------------------------------------------------

    def let_choose(self) -> None:
        """Have a model choose among those that fit. Whatever it says, there is an order afterwards."""
        now = app_now()
        fitting = [each for each in self.picked.fitting if not self.rests.seconds_left(each.model, now)]
        if len(fitting) < 2:
            return
        model = fitting[0].model
        if self.run.rehearsal:
            self.ledger.rehearsed(model, RateLimited.outcome, 0.0, "It is not asked to choose; the first is asked.")
            return
        asked = choosing.question(
            fitting, self.arguments.get("messages", ()), catalog.current(self.connection.integration)
        )
        try:
            result = self._ask_for_choice(model, asked)
        except UpstreamError as error:
            self.rests.note(model, error)
            self.ledger.asked_of(model, error.outcome, 0.0, "It was asked to choose and failed; the first is asked.")
            return
        except (NeedsApproval, *REFUSALS):
            self.ledger.passed(model, "not_chosen", "Nobody may be asked to choose; the first is asked.")
            return
        found = choosing.chosen(result.answer.text, fitting)
        said = f"It chose {found.model}." if found else "It chose none of those offered; the first is asked."
        self.ledger.asked_of(model, "done", 0.0, said)
        self.picked = prefer(self.picked, found or fitting[0])

    def _ask_for_choice(self, model: str, arguments: dict[str, Any]) -> CallResult:
        caller, asked = self._caller(), arguments | {"model": model}
        heard = {"on_wait": self.listeners.get("on_wait")}
        return call_once(self.run, self.connection, "create_chat_completion", asked, caller, listeners=heard)

    # --- rehearsal ----------------------------------------------------------------------

    def _is_rehearsed(self, model: str) -> bool:
        """Whether this is the first model of a rehearsal, which is said to be busy."""
        return bool(self.run.rehearsal and model) and not any(isinstance(step, Failure) for step in self.past)

    def _rehearse(self, place: int, model: str, waited: float) -> Decision:
        error = RateLimited("Said to be rate limited, in this rehearsal.", code=429)
        self.past.append(Failure(place, error))
        self.words.append(f"{model}: {error.message}")
        step = self._decide()
        self.ledger.rehearsed(model, error.outcome, waited, step.why)
        return step

    # --- when nothing helped ------------------------------------------------------------

    def _last_error(self) -> UpstreamError | None:
        return next((step.error for step in reversed(self.past) if isinstance(step, Failure)), None)

    def _failure(self, why: str) -> StageFailed:
        error = self._last_error()
        return StageFailed(self._why_failed(why), again=self._may_heal(), seconds=error.retry_after if error else None)

    def _may_heal(self) -> bool:
        """Whether asking once more, some time later, may help and can double nothing."""
        error, tool = self._last_error(), self.connection.provider.tool(self.tool)
        if error is None or not error.retryable or error.maybe_billed or error.may_have_acted:
            return False
        only_asks = tool.hints.read_only or tool.tokens or tool.hints.keeps_id
        return bool(only_asks or not error.sent or isinstance(error, RateLimited))

    def _why_failed(self, why: str) -> str:
        error, tries = self._last_error(), sum(isinstance(step, Failure) for step in self.past)
        if error is None:
            return f"No model could be asked. {' '.join(self.words)} Choose other models."
        tried = f"After {tries} attempts: " if tries > 1 else ""
        return f"{tried}{in_words(error)} {why}"


class _Listener:
    """Hands on the text of an answer, and knows whether any came."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text, self.heard = on_text, False

    def __call__(self, text: str) -> None:
        self.heard = True
        self._on_text(text)


def call_once(
    run: Run,
    connection: Connection,
    tool: str,
    arguments: dict[str, Any],
    caller: Caller,
    chain: Sequence[str] = (),
    approval_id: UUID | None = None,
    listeners: Mapping[str, Any] | None = None,
) -> CallResult:
    """Call once; a generation record that is not there yet is waited for, as its arguments allow."""
    begun = time.monotonic()
    while True:
        check_held(run)
        try:
            return call_tool(
                team=run.team,
                connection=connection,
                tool=tool,
                arguments=arguments,
                caller=caller,
                chain=chain,
                approval_id=approval_id,
                **(listeners or {}),
            )
        except NotReady:
            # Only now: a call that was made had arguments that can be read.
            if time.monotonic() + POLL_EVERY > begun + _wait_for_record(arguments):
                raise
            time.sleep(POLL_EVERY)


def _concerns_one_model(refusal: Exception) -> bool:
    """Whether another model may pass where this one was refused by our own limits."""
    failed = [step.rule for step in getattr(refusal, "steps", ()) if not step.holds]
    return isinstance(refusal, SKIPS) or "models" in failed


def _wait_for_record(arguments: dict[str, Any]) -> float:
    """How many seconds a generation record is waited for."""
    return float(arguments.get("max_wait_seconds", 30)) if arguments.get("wait", True) else 0.0
