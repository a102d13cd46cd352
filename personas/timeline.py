"""The waterfall of a run: where each attempt stands on one time axis. Pure arithmetic, no rows are read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from integrations.models import Call
from personas.models import Run, StageRun

STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)  # seconds between grid lines
MOST_LINES = 5


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt, in percent of the axis. `kind` is its class: ok, bad, run or wait."""

    x: float
    width: float
    kind: str


@dataclass(frozen=True, slots=True)
class Row:
    """One stage with its attempts and their bars, and the items of its list, if it works through one."""

    stage: StageRun
    calls: list[Call]
    bars: list[Bar]
    seconds: float | None
    items: list[StageRun] = field(default_factory=list)

    @property
    def state(self) -> str:
        """The word under which pages show it."""
        if self.stage.used_fallback and self.stage.state == StageRun.State.DONE:
            return "fallback"
        return self.stage.state

    @property
    def cost_usd(self) -> Decimal | None:
        """What its attempts cost together; None when nobody named a price."""
        costs = [call.cost_usd for call in self.calls if call.cost_usd is not None]
        return sum(costs, start=Decimal(0)) if costs else None

    @property
    def items_done(self) -> int:
        """How many items of its list are done."""
        return sum(item.state == StageRun.State.DONE for item in self.items)

    @property
    def models(self) -> list[str]:
        """The models that were asked, in order, each once."""
        return list(dict.fromkeys(call.model.partition("/")[2] or call.model for call in self.calls if call.model))


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run's stages over time, with the labels of the axis: (percent, seconds)."""

    rows: list[Row]
    ticks: list[tuple[float, int]]
    elapsed: float


def lay_out(run: Run, stages: Sequence[StageRun], calls: Sequence[Call], now: datetime) -> Timeline:
    """
    Place the stages of a run on an axis that begins when it started and ends now, or when it did.

    The items of a list stand in the row of its stage.
    """
    start = run.started_at or run.queued_at
    elapsed = ((run.finished_at or now) - start).total_seconds()
    axis = _Axis(start, max(elapsed, 1.0), run.finished_at or now)
    place = {stage.pk: stage.position for stage in stages}
    by_place: dict[int, list[Call]] = {}
    for call in calls:
        by_place.setdefault(place.get(call.stage_id, -1), []).append(call)
    rows = [_row(stage, by_place.get(stage.position, []), axis) for stage in stages if not stage.item]
    for row in rows:
        row.items.extend(stage for stage in stages if stage.item and stage.position == row.stage.position)
    return Timeline(rows, axis.ticks(), elapsed)


@dataclass(frozen=True, slots=True)
class _Axis:
    start: datetime
    seconds: float
    end: datetime

    def percent(self, at: datetime) -> float:
        share = (at - self.start) / timedelta(seconds=self.seconds) * 100
        return round(min(100.0, max(0.0, share)), 2)

    def bar(self, begin: datetime, end: datetime | None, kind: str) -> Bar:
        x = self.percent(begin)
        return Bar(x, round(max(0.6, self.percent(end or self.end) - x), 2), kind)

    def ticks(self) -> list[tuple[float, int]]:
        step = next((step for step in STEPS if self.seconds / step <= MOST_LINES), STEPS[-1])
        return [(round(at / self.seconds * 100, 2), at) for at in range(0, int(self.seconds) + 1, step)][:12]


def _row(stage: StageRun, calls: list[Call], axis: _Axis) -> Row:
    bars = [axis.bar(call.started_at, call.finished_at, _kind(call)) for call in calls]
    if not calls and stage.started_at and stage.state != StageRun.State.SKIPPED:
        bars = [axis.bar(stage.started_at, stage.finished_at, _kind_without_calls(stage))]
    taken = ((stage.finished_at or axis.end) - stage.started_at).total_seconds() if stage.started_at else None
    return Row(stage, calls, bars, taken)


def _kind(call: Call) -> str:
    return {Call.State.DONE: "ok", Call.State.SENT: "run"}.get(call.state, "bad")


def _kind_without_calls(stage: StageRun) -> str:
    kinds = {StageRun.State.DONE: "ok", StageRun.State.RUNNING: "run", StageRun.State.WAITING: "wait"}
    return kinds.get(stage.state, "bad")
