"""
Stages a second, by one worker of 64 threads and by four, and how long another team waits behind 10,000 runs.

Runs of one team with four prompts in a row are queued together, and worked through until the last has ended; models
take 0 and 500 ms. "bare" is as many threads that post the same question to the same stand-in and read its answer, with
nothing around it. Everything runs on one machine: workers, database, broker and stand-in share its cores.
"""

import json
import os
import sys
import threading
import time
from statistics import median
from typing import Any
from uuid import uuid4

import httpx

from bench.installation import Installation
from bench.storm import Twin

RUNS, STAGES = 64, 4
THREADS = 64
WORKERS = (1, 4)
MODEL_MS = (0, 500)
WAITING, ASKED = 10_000, 12
MODEL, SAY = "openai/gpt-5.4-mini", "Reply with exactly: ebb and flow"
PATH = "/chat/completions"
PLENTY = {f"CALLS_A_MINUTE_{kind}": "1000000" for kind in ("TEAM", "MEMBER", "PERSONA", "TOOL")}
SECONDS = 300  # for whatever is waited for


def run() -> dict[str, Any]:
    """Measure, print two tables, and return the figures."""
    place = Installation(**PLENTY, RUNS_AT_ONCE="100000", WORKER_THREADS=str(THREADS))
    twins: list[Twin] = []
    try:
        key = place.key(balance=100_000)
        made = json.loads(_inside(place, f"prepare({key!r})"))
        print(f"{'workers':>8}{'model ms':>10}{'bare/s':>9}{'stages/s':>10}{'of bare':>9}")
        rows = []
        for workers in WORKERS:
            twins += [Twin(place, "worker", number) for number in range(len(twins) + 2, workers + 1)]
            rows += [_throughput(place, made, key, workers, ms) for ms in MODEL_MS]
        for twin in twins:
            twin.stop()
        waits = _waits(place, made)
    finally:
        for twin in twins:
            twin.stop()
        place.stop()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    return {"name": "stages", "rows": rows, "behind": WAITING, "wait_seconds": waits}


def _throughput(place: Installation, made: dict[str, Any], key: str, workers: int, ms: int) -> dict[str, Any]:
    place.rules(_slow(ms))
    bare = _bare(place, key)
    rate = float(_inside(place, f"work_through({made['flow']!r}, {RUNS})"))
    row = {"workers": workers, "model_ms": ms, "bare": round(bare, 1), "stages": round(rate, 1)}
    row["of_bare"] = round(rate / bare, 2)
    print(f"{workers:>8}{ms:>10}{row['bare']:>9}{row['stages']:>10}{row['of_bare']:>9}", flush=True)
    return row


def _slow(ms: int) -> dict[str, Any]:
    """A rule of the stand-in: answers cost what they cost, and begin so much later."""
    return {"match": {"path": PATH}, "answer": {"kind": "dear", "factor": 1, "delay": ms / 1000}}


def _bare(place: Installation, key: str) -> float:
    """Answers a second that as many threads get by themselves."""
    asked = iter(range(RUNS * STAGES))
    body = {"model": MODEL, "messages": [{"role": "user", "content": SAY}], "stream": True}

    def ask() -> None:
        with httpx.Client(base_url=place.sandbox, trust_env=False, timeout=SECONDS) as client:
            for _ in asked:
                answer = client.post(f"/api/v1{PATH}", json=body, headers={"authorization": f"Bearer {key}"})
                answer.raise_for_status()

    threads = [threading.Thread(target=ask) for _ in range(THREADS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return RUNS * STAGES / (time.perf_counter() - began)


def _waits(place: Installation, made: dict[str, Any]) -> list[float]:
    place.rules(_slow(MODEL_MS[-1]))
    waits = sorted(json.loads(_inside(place, f"wait_behind({made['flow']!r}, {made['other']!r})")))
    print(
        f"behind {WAITING:,} runs of another team a run begins after {median(waits):.2f} s, at most {waits[-1]:.2f} s"
    )
    return [round(wait, 3) for wait in waits]


def _inside(place: Installation, call: str) -> str:
    return place.manage("shell", "--no-imports", "--command", f"from bench import stages; stages.{call}")


# --- inside the installation ------------------------------------------------------------


def prepare(key: str) -> None:
    """Make two teams, each with a flow. Prints the ids of the flows, as JSON."""
    from bench.load import wait_for_workers

    flows = {name: _make_flow(name, key, count) for name, count in (("flow", STAGES), ("other", 1))}
    wait_for_workers([flow.team for flow in flows.values()])
    sys.stdout.write(json.dumps({name: str(flow.pk) for name, flow in flows.items()}))


def _make_flow(name: str, key: str, count: int) -> Any:
    from accounts.actions import create_team
    from accounts.models import Plan, User
    from audit.clock import app_now
    from integrations.actions import connect, enable_for
    from integrations.registry import get_integration
    from personas import actions, flow_actions

    owner = User.objects.create_user(email=f"{name}@load.example", name=name)
    team = create_team(name=name, owner=owner, at=app_now(), plan=Plan.objects.get(key="pro"))
    given = {"integration": get_integration("openrouter"), "label": "Main", "kind": "api_key", "posted": key}
    connection = connect(team=team, by=owner, **given)
    persona = actions.create_persona(team=team, by=owner, name="Ada", purpose="", chain=[MODEL], max_tokens=60)
    enable_for(connection=connection, persona_id=persona.pk, tools=["create_chat_completion"], by=owner)
    prompt = {"kind": "prompt", "persona": str(persona.pk), "template": SAY}
    stages = [prompt | {"name": f"stage_{number}"} for number in range(count)]
    return flow_actions.create_flow(team=team, name=name, purpose="", stage_list=stages, by=owner)


def work_through(flow_id: str, count: int) -> None:
    """Queue so many runs at one moment and wait for their ends. Prints the stages done in a second."""
    from django.db import transaction

    from personas import actions
    from personas.models import Flow, Run

    flow = Flow.objects.select_related("team", "version").get(pk=flow_id)
    with transaction.atomic():
        runs = [actions.run_flow(flow=flow, by=flow.created_by, idempotency_key=uuid4().hex).pk for _ in range(count)]
    began = time.perf_counter()
    mine = Run.objects.filter(pk__in=runs)
    _wait(lambda: not mine.unfinished().exists())
    taken = time.perf_counter() - began
    if mine.exclude(state="succeeded").exists():
        raise AssertionError(f"Not all succeeded: {list(mine.values_list('state', 'failure').distinct())}")
    sys.stdout.write(str(count * len(flow.version.stages) / taken))


def wait_behind(flow_id: str, other_id: str) -> None:
    """Queue 10,000 runs of a flow, then runs of the other one by one. Prints how long each of those waited, in s."""
    from audit.clock import app_now
    from personas import actions
    from personas.models import Flow, Run
    from personas.starting import start_run

    flow, other = (Flow.objects.select_related("team", "version").get(pk=pk) for pk in (flow_id, other_id))
    _queue_many(start_run(flow=flow, user=flow.created_by))
    waits = []
    for _ in range(ASKED):
        run = actions.run_flow(flow=other, by=other.created_by, idempotency_key=uuid4().hex)
        mine = Run.objects.filter(pk=run.pk, started_at__isnull=False)
        _wait(mine.exists)
        waits.append((mine.get().started_at - run.queued_at).total_seconds())
    Run.objects.filter(state="queued").update(state="stopped", finished_at=app_now())
    sys.stdout.write(json.dumps(waits))


def _queue_many(first: Any) -> None:
    """Copies of a queued run behind it in line, without the waits of making each."""
    from audit.ids import uuid7
    from personas.models import Run, StageRun

    stages, rows, of_stages = list(first.stages.all()), [], []
    for number in range(WAITING):
        rows.append(_copy(first, id=uuid7(), place=first.place + number + 1, idempotency_key=""))
        of_stages += [_copy(stage, id=uuid7(), run_id=rows[-1].pk) for stage in stages]
    Run.objects.bulk_create(rows, batch_size=1_000)
    StageRun.objects.bulk_create(of_stages, batch_size=1_000)


def _copy(row: Any, **changes: Any) -> Any:
    return type(row)(**{field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields} | changes)


def _wait(true: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("The workers did not get that far.")
        time.sleep(0.02)
