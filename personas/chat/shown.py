"""What a page shows of one message: its text, what was done for it, and what that took. Asks the database nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID

from integrations.models import Approval, Call
from personas.models import Attachment, Message, Run, StageRun

FOLD_FROM = 3  # tool calls in a row that fold into one line
UNFINISHED = (StageRun.State.WAITING, StageRun.State.RUNNING)


@dataclass(frozen=True, slots=True)
class Siblings:
    """Which of the messages with the same parent this is, and its neighbours."""

    index: int
    of: int
    previous: UUID | None
    next: UUID | None


@dataclass(frozen=True, slots=True)
class Figures:
    """
    What an answer, or one step of it, took. `usd` and tokens are None when nobody named any.

    `attempts` are calls to models, `failed` those of them that failed. `unknown` are calls of which nobody can
    say yet whether they were billed; `held` are the platform credits set aside for them.
    `retention`: zdr, terms, or empty when it is not known.
    """

    model: str = ""
    provider: str = ""
    attempts: int = 0
    failed: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    usd: Decimal | None = None
    credits: int = 0
    held: int = 0
    unknown: int = 0
    ms: int | None = None
    retention: str = ""

    @property
    def total_tokens(self) -> int:
        return (self.tokens_in or 0) + (self.tokens_out or 0)


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer of a model within a turn. While it is being given, `text` is what was saved of it."""

    stage: StageRun
    text: str
    reasoning: str
    figures: Figures
    is_running: bool = False
    is_partial: bool = False
    is_kept: bool = True

    kind = "answer"


@dataclass(frozen=True, slots=True)
class Called:
    """One tool call that a model asked for. What it asked and what it was given may be anything: it stays text."""

    stage: StageRun
    tool: str
    title: str
    arguments: Any
    result: Any
    outcome: str
    figures: Figures
    calls: Sequence[Call] = ()
    approval: Approval | None = None
    trimmed: bool = False
    said: str = ""  # by a model that was consulted

    kind = "tool"

    @property
    def asks(self) -> bool:
        """Whether a person must decide before it is made."""
        return self.approval is not None and self.approval.state == Approval.State.WAITING


@dataclass(frozen=True, slots=True)
class Part:
    """An answer of a model, or the tool calls that follow it."""

    kind: str
    steps: Sequence[Answered | Called]

    @property
    def folds(self) -> bool:
        """Whether so many calls stand in a row that one line stands for them, unless one asks something."""
        return self.kind == "tool" and len(self.steps) >= FOLD_FROM and not any(step.asks for step in self.steps)

    @property
    def usd(self) -> Decimal | None:
        return total(step.figures.usd for step in self.steps)


@dataclass(frozen=True, slots=True)
class Shown:
    """One message. `text` is None when it is not kept, or was erased; of an answer it is what all its steps said."""

    message: Message
    text: str | None
    siblings: Siblings
    attachments: Sequence[Attachment] = ()
    steps: Sequence[Answered | Called] = ()
    figures: Figures = field(default_factory=Figures)
    calls: Sequence[Call] = ()
    compared: Sequence["Shown"] = ()  # answers to be shown side by side, this one among them

    @property
    def is_answer(self) -> bool:
        return self.message.role == Message.Role.ASSISTANT

    @property
    def run(self) -> Run | None:
        return self.message.run

    @property
    def is_running(self) -> bool:
        return self.run is not None and not self.run.is_finished

    @property
    def parts(self) -> list[Part]:
        return [Part(kind, tuple(steps)) for kind, steps in groupby(self.steps, key=lambda step: step.kind)]

    @property
    def cut_short(self) -> bool:
        """Whether the turn ended before its answer did, and left some of it."""
        return bool(self.run and self.run.is_finished) and any(
            step.kind == "answer" and step.is_partial and step.text for step in self.steps
        )

    @property
    def version(self) -> str:
        """Another text whenever the page would show something else; within a second at the latest while it runs."""
        run = self.run
        if run is None:
            return str(self.message.pk)
        said = sum(len(step.text) + len(step.reasoning) for step in self.steps if step.kind == "answer")
        return f"{run.changes}-{run.state}-{len(self.steps)}-{said}-{self.figures.attempts}-{self.figures.credits}"


@dataclass(frozen=True, slots=True)
class Path:
    """Messages from one branch, the oldest first. `earlier` is the cursor of those before, if there are any."""

    messages: Sequence[Shown]
    earlier: UUID | None

    @property
    def last(self) -> Shown | None:
        return self.messages[-1] if self.messages else None

    @property
    def running(self) -> list[Shown]:
        """Answers that are still being given."""
        last = self.last
        return [shown for shown in (last.compared or [last] if last else []) if shown.is_running]


# --- figures ----------------------------------------------------------------------------


def total(amounts: Iterator[Any] | Sequence[Any]) -> Any:
    """The sum of what is known, or None when nothing is."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known[1:], start=known[0]) if known else None


def figures_of(calls: Sequence[Call], ms: int | None, retention: Mapping[UUID, str]) -> Figures:
    """Add up calls. Model, provider and retention are those of the last one that a model answered."""
    asked = [call for call in calls if call.model]
    served = next((call for call in reversed(asked) if call.state == Call.State.DONE), None)
    return Figures(
        model=served.model_served or served.model if served else "",
        provider=served.provider if served else "",
        attempts=len(asked),
        failed=sum(call.state == Call.State.FAILED for call in asked),
        tokens_in=total(call.tokens_in for call in calls),
        tokens_out=total(call.tokens_out for call in calls),
        usd=total(call.cost_usd for call in calls),
        credits=total(call.credits for call in calls) or 0,
        held=sum(call.credits_reserved for call in calls if call.credits is None),
        unknown=sum(call.state == Call.State.UNKNOWN for call in calls),
        ms=ms,
        retention=retention.get(served.pk, "") if served else "",
    )
