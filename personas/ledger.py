"""The attempt ledger of a stage: one row for every model that was asked or passed over, and why the next came."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from django.db.models import Count, Max

from audit.clock import app_now
from integrations.models import Call
from personas.leases import Lease, fenced
from personas.models import Attempt, Run, StageRun

MOST_OF_STAGE = 30  # calls of one stage over all its waits: a storm of rate limits must not spin for ever
LONGEST = 300  # characters of a reason
BEGUN_AGAIN = "Its worker ended here; another one began the stage again."


@dataclass(slots=True)
class Ledger:
    """
    What was tried for a stage, counted on over its waits and over workers that died.

    `number` is that of the next row. Each row is fenced: who lost the run writes nothing.
    """

    run: Run
    stage: StageRun
    number: int
    asked: int

    @property
    def tries_left(self) -> int:
        return max(0, MOST_OF_STAGE - self.asked)

    def passed(self, model: str, outcome: str, why: str) -> None:
        """Write down a model that was passed over: nobody was asked."""
        self._write(model=model, outcome=outcome, next_step=why)

    def rehearsed(self, model: str, outcome: str, waited: float, why: str) -> None:
        """Write down a pretended failure."""
        self._write(model=model, outcome=outcome, waited_ms=_ms(waited), next_step=why, rehearsed=True)

    def asked_of(self, model: str, outcome: str, waited: float, why: str = "") -> None:
        """Write down what came of the calls that carried this number: their cost is its cost."""
        call_id, cost = _last_call(self.run, self.stage, self.number)
        self.asked += call_id is not None
        self._write(model=model, outcome=outcome, waited_ms=_ms(waited), next_step=why, call_id=call_id, cost_usd=cost)

    def _write(self, *, next_step: str, **fields: object) -> None:
        with fenced(Lease(self.run.pk, self.run.fence)):
            Attempt.objects.create(
                team_id=self.run.team_id,
                run=self.run,
                stage=self.stage,
                number=self.number,
                next_step=next_step[:LONGEST],
                at=app_now(),
                **fields,
            )
        self.number += 1


def open_ledger(run: Run, stage: StageRun, *, why_lost: str = BEGUN_AGAIN) -> Ledger:
    """
    Continue a stage's ledger; calls whose worker died before it wrote their row get one now.

    `why_lost` is what such a row says came next. Raises LeaseLost.
    """
    rows = Attempt.objects.filter(stage=stage).aggregate(last=Max("number"), asked=Count("call_id"))
    ledger = Ledger(run, stage, (rows["last"] or 0) + 1, rows["asked"])
    lost = Call.objects.filter(team_id=run.team_id, run_id=run.pk, stage_id=stage.pk, attempt__gte=ledger.number)
    for model, outcome in lost.order_by("attempt", "started_at").values_list("model", "outcome"):
        ledger.asked_of(model, outcome, 0.0, why_lost)
    return ledger


@dataclass(frozen=True, slots=True)
class Tried:
    """A line of the ledger as pages show it: its row, and its call if one was made. A call at work has no row yet."""

    attempt: Attempt | None
    call: Call | None

    @property
    def name(self) -> str:
        """What was asked: its model, or the tool that needs none."""
        model = self.attempt.model if self.attempt else self.call.model
        return model or (self.call.tool if self.call else "this tool")


def tried(*, stage: StageRun, calls: Sequence[Call]) -> list[Tried]:
    """Return what was tried for a stage, in order; `calls` are those of the stage."""
    rows = list(stage.attempts.all())
    by_id = {call.pk: call for call in calls}
    shown = {row.call_id for row in rows}
    under_way = [Tried(None, call) for call in calls if call.pk not in shown]
    return [Tried(row, by_id.get(row.call_id)) for row in rows] + under_way


def last_word(*, run: Run) -> str:
    """Return what was decided last in a run."""
    return run.attempts.order_by("-at", "-number").values_list("next_step", flat=True).first() or ""


def _last_call(run: Run, stage: StageRun, number: int) -> tuple[UUID | None, Decimal | None]:
    rows = Call.objects.filter(team_id=run.team_id, run_id=run.pk, stage_id=stage.pk, attempt=number)
    calls = list(rows.order_by("started_at").values_list("id", "cost_usd"))
    costs = [cost for _, cost in calls if cost is not None]
    return (calls[-1][0] if calls else None), (sum(costs, start=Decimal(0)) if costs else None)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
