"""A flow of any kinds of stages ends the same wherever its worker dies: before or after any write of it."""

import random
import zlib
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from personas import approving, asking, ending, items, leases, performing, retrying, stage_rows
from personas.models import Persona, Run
from personas.standstill import StageFailed
from tests.factories import make_team
from tests.personas.builders import make_persona
from tests.personas.flowing import go, output_of, start

pytestmark = pytest.mark.django_db
WRITERS = (approving, asking, ending, items, retrying, stage_rows)
SEEDS = 6
TESTS = ("equals", "contains", "above", "below", "failed", "done")


class Killed(BaseException):
    """The worker's process is gone."""


class Worker:
    """Counts the writes of a run, and dies at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.writes, self.dies_at, self.writes_first = 0, 0, False
        self.asked: list[tuple[str, int]] = []
        for module in WRITERS:
            monkeypatch.setattr(module, "fenced", self.fenced)
        monkeypatch.setattr(performing.attempts, "ask", self.ask)

    @contextmanager
    def fenced(self, lease, **changes):
        self.writes += 1
        dies = self.writes == self.dies_at
        if dies and not self.writes_first:
            raise Killed
        with leases.fenced(lease, **changes):
            yield
        if dies:
            raise Killed

    def ask(self, run, stage, tool, arguments, *more, **options):
        """What a model would say, by what it is asked. Some fail, some in the first try of their stage."""
        text = arguments["messages"][-1]["content"]
        self.asked.append((stage.name, stage.item))
        if "fails" in text:
            raise StageFailed("It fails.")
        if "heals" in text and run.stages.get(position=stage.position, item=0).tries < 2:
            raise StageFailed("It fails once.", again=True)
        return SimpleNamespace(answer=SimpleNamespace(text=str(zlib.crc32(text.encode()) % 100))), 0

    def finish(self, run: Run) -> None:
        """Take a run to its end, whoever dies meanwhile; people decide, and waits pass."""
        for _ in range(40):
            try:
                go(run)
            except Killed:
                Run.objects.filter(pk=run.pk).update(lease_until=run.queued_at)
            run.refresh_from_db()
            if run.is_finished:
                return
            self._decide(run)
            Run.objects.filter(pk=run.pk, parked_until__isnull=False).update(parked_until=run.queued_at)
        raise AssertionError(f"It never ends: {ends(run)}")

    @staticmethod
    def _decide(run: Run) -> None:
        for stage in run.stages.filter(kind="approve", state="waiting", verdict=""):
            if stage.waits_for_decision and run.state == Run.State.PARKED:
                approve = zlib.crc32(stage.name.encode()) % 3 > 0
                approving.decide(run=run, number=stage.number, approve=approve, note=stage.name, by=run.user)


def ends(run: Run) -> list:
    """All that came of a run."""
    rows = [(row.name, row.item, row.state, row.failure, row.verdict, output_of(row)) for row in run.stages.all()]
    return [run.state, run.failure, *rows]


# --- flows ------------------------------------------------------------------------------


def random_flow(chance: random.Random, persona: Persona) -> list[dict]:
    """Up to seven stages of all kinds, with conditions, branches and references among them."""
    names = [f"s{number}" for number in range(chance.randint(3, 7))]
    return [_stage(chance, name, names[:place], persona) for place, name in enumerate(names)]


def _stage(chance: random.Random, name: str, earlier: list[str], persona: Persona) -> dict:
    text = " ".join(filter(None, [chance.choice(("say", "heals", "fails", "7", "12")), _reference(chance, earlier)]))
    asks = {"kind": "prompt", "persona": str(persona.pk), "template": text}
    match chance.choice(("prompt", "combine", "approve", "each", "number")):
        case "prompt":
            stage = asks | {"retries": 1}
        case "combine":
            stage = {"kind": "combine", "template": text}
        case "approve":
            stage = {"kind": "approve", "text": text}
        case "each":
            do = asks | {"template": f"{text} {{{{ item }}}}"}
            over = _reference(chance, earlier) or "one\ntwo\nthree"
            stage = {"kind": "each", "over": over, "do": do, "at_once": 1, "retries": 1}
        case _:
            stage = {"kind": "combine", "template": str(chance.randint(0, 100))}
    if earlier and chance.random() < 0.6:
        stage["when"] = {"stage": chance.choice(earlier), "is": chance.choice(TESTS), "value": "50"}
    return stage | {"name": name}


def _reference(chance: random.Random, earlier: list[str]) -> str:
    return f"{{{{ stage.{chance.choice(earlier)}.output }}}}" if earlier and chance.random() < 0.7 else ""


@pytest.mark.requirement("CRASH-1")
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_flow_ends_the_same_wherever_its_worker_dies(monkeypatch, seed):
    chance = random.Random(seed)
    team = make_team()
    stages = random_flow(chance, make_persona(team))
    worker = Worker(monkeypatch)
    undisturbed = start(team, stages)
    worker.finish(undisturbed)
    expected, asked, writes = ends(undisturbed), worker.asked, worker.writes
    places = [(at, writes_first) for at in range(1, writes + 1) for writes_first in (False, True)]

    for dies_at, writes_first in chance.sample(places, min(3, len(places))):
        worker.writes, worker.dies_at, worker.writes_first, worker.asked = 0, dies_at, writes_first, []
        run = start(team, stages)
        Run.objects.filter(pk=run.pk).update(title=undisturbed.title)
        worker.finish(run)
        assert ends(run) == expected, (seed, dies_at, writes_first, stages)
        assert len(worker.asked) <= len(asked) + 1, (seed, dies_at, writes_first, stages)


def test_the_made_up_flows_are_of_all_kinds_and_ends():
    persona = SimpleNamespace(pk="0190d3c4-0000-7000-8000-000000000001")
    made = [random_flow(random.Random(seed), persona) for seed in range(40)]
    assert {stage["kind"] for flow in made for stage in flow} == {"prompt", "combine", "approve", "each"}
    assert {stage["when"]["is"] for flow in made for stage in flow if "when" in stage} == set(TESTS)
