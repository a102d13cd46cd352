"""
Doing one thing for each item of a list: each item is a row of its own, so what is done survives a crash.

Several are done at once. When one fails or must wait, those at work end first and no further one begins.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

from django.db import connection as database

from audit.actions import store
from integrations.approvals import NeedsApproval
from personas import stage_rows, stages, template
from personas.leases import Lease, LeaseLost, fenced
from personas.models import Run, StageRun
from personas.performing import Output
from personas.standstill import Parked, StageFailed, Stopped
from personas.texts import opened, sealed

LONGEST = template.LONGEST  # characters of all that came of a list

Do = Callable[[StageRun, Any, dict[str, str]], Output]


def read_list(text: str, most: int) -> list[str]:
    """
    Return the items of a JSON list, or of lines; empty lines are none. What is no text stays JSON.

    Raises StageFailed when there are more than `most`.
    """
    items = _from_json(text)
    if items is None:
        items = [line.strip() for line in text.splitlines() if line.strip()]
    if len(items) > most:
        raise StageFailed(
            f"The list has {len(items):,} items, and this stage takes at most {most}. Raise its limit, or have an "
            "earlier stage choose fewer."
        )
    return items


def _from_json(text: str) -> list[str] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    return [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in found]


def do_all(run: Run, stage: StageRun, spec: stages.EachStage, lease: Lease, values: dict[str, str], do: Do) -> Output:
    """
    Do what is left of a list, and return the JSON list of what came of its items, in order.

    `do` does one. Raises what it raises, the gravest of all items: LeaseLost, Stopped, StageFailed,
    NeedsApproval, Parked.
    """
    rows = _rows(run, stage) or _make_rows(run, stage, spec, lease, values)
    left = [row for row in rows if row.state != StageRun.State.DONE]
    texts = opened(run, [row.input_content_id for row in left])
    batch = _Batch(run, lease, do, halt=Event())
    if len(texts) < len(left):
        raise StageFailed("The items of this list were erased. Run the flow again.")
    jobs = [(row, values | {template.ITEM: texts[row.input_content_id]}) for row in left]
    _raise_gravest(batch.faults(jobs, spec.at_once))
    return _together(run, _rows(run, stage))


def _rows(run: Run, stage: StageRun) -> list[StageRun]:
    found = run.stages.filter(position=stage.position, item__gt=0)
    return list(found.select_related("persona", "persona__version"))


def _make_rows(
    run: Run, stage: StageRun, spec: stages.EachStage, lease: Lease, values: dict[str, str]
) -> list[StageRun]:
    """Write the items down once: whoever takes the stage up again finds the same ones."""
    do = spec.do.model_dump(mode="json")
    items = read_list(template.render(spec.over, values), spec.most)
    contents = [sealed(run, stage, "item", item) for item in items]
    rows = [
        StageRun(
            team=run.team,
            run=run,
            position=stage.position,
            item=number,
            name=stage.name,
            kind=spec.do.kind,
            spec=do,
            persona_id=stage.persona_id,
            input_content_id=content.id,
        )
        for number, content in enumerate(contents, start=1)
    ]
    with fenced(lease):
        for content in contents:
            store(content)
        StageRun.objects.bulk_create(rows)
    return _rows(run, stage)


def _together(run: Run, rows: Sequence[StageRun]) -> Output:
    texts = opened(run, [row.output_content_id for row in rows])
    found = [texts.get(row.output_content_id, "") for row in rows]
    if sum(map(len, found)) > LONGEST:
        raise StageFailed(f"What came of the items is longer than {LONGEST:,} characters together. Ask for less.")
    return Output(json.dumps(found, ensure_ascii=False), used_fallback=any(row.used_fallback for row in rows))


class _Batch:
    """The items of one list that are done now."""

    def __init__(self, run: Run, lease: Lease, do: Do, halt: Event) -> None:
        self.run, self.lease, self.do, self.halt = run, lease, do, halt

    def faults(self, jobs: Sequence[tuple[StageRun, dict[str, str]]], at_once: int) -> list[BaseException]:
        """Do each, and return what went wrong."""
        if min(at_once, len(jobs)) <= 1:
            return [fault for job in jobs if (fault := self._fault(*job))]
        with ThreadPoolExecutor(at_once, thread_name_prefix="items") as pool:
            return [fault for fault in pool.map(lambda job: self._fault_in_thread(*job), jobs) if fault]

    def _fault_in_thread(self, row: StageRun, values: dict[str, str]) -> BaseException | None:
        try:
            return self._fault(row, values)
        finally:
            database.close()  # this thread's own

    def _fault(self, row: StageRun, values: dict[str, str]) -> BaseException | None:
        if self.halt.is_set():
            return None
        try:
            self._do(row, values)
        except BaseException as fault:  # noqa: BLE001 - raised again by whoever waits for all items
            self.halt.set()
            return fault
        return None

    def _do(self, row: StageRun, values: dict[str, str]) -> None:
        if Run.objects.filter(pk=self.run.pk, stop_wanted_at__isnull=False).exists():
            raise Stopped
        stage_rows.begin(row, self.lease)
        try:
            output = self.do(row, stages.read_work(row.spec), values)
        except (Parked, NeedsApproval, Stopped):
            stage_rows.put_back(row, self.lease)
            raise
        except StageFailed as failure:
            stage_rows.fail_item(row, self.lease, str(failure))
            why = f"Item {row.item}: {failure}"
            raise StageFailed(why, again=failure.again, seconds=failure.seconds) from failure
        stage_rows.end(self.run, row, self.lease, output)


def _raise_gravest(faults: Sequence[BaseException]) -> None:
    failed_for_good = [fault for fault in faults if isinstance(fault, StageFailed) and not fault.again]
    for kind in (LeaseLost, Stopped):
        if found := [fault for fault in faults if isinstance(fault, kind)]:
            raise found[0]
    unknown = [fault for fault in faults if not isinstance(fault, (StageFailed, NeedsApproval, Parked))]
    if found := unknown or failed_for_good:
        raise found[0]
    if found := [fault for fault in faults if isinstance(fault, NeedsApproval)]:
        raise found[0]
    if waits := [fault for fault in faults if isinstance(fault, Parked)]:
        raise max(waits, key=lambda wait: wait.seconds)
    if faults:
        raise faults[0]
