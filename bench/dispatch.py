"""
Many schedules due in one second: how long until each has its firing, its run and its stages, by two dispatchers.

Of 50,000 enabled schedules of 100 teams, 0, 1,000 and 10,000 become due. "bare" is what any dispatcher must do at
least: find the due rows in batches, compute the next time of each, and write it; measured on the same rows before.
Hints are counted, not sent: the broker is not what is measured. django-celery-beat is given as many schedules on the
same server afterwards; it does less, a message for each: no firing, no run, nothing that keeps it from coming twice.
"""

import json
import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from statistics import quantiles
from uuid import uuid4

SCHEDULES, TEAMS, BATCH = 50_000, 100, 500
DUE = (1_000, 10_000)
DISPATCHERS = 2
RULES = ("0 6 * * 1", "*/5 * * * *", "30 7 * * 1-5", "0 0 1 * *", "15 */2 * * *", "0 9 * * *")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata")
IDLE_LOOKS = 200
MAKE = """
INSERT INTO personas_schedule (id, team_id, flow_id, name, kind, cron, zone, jitter_seconds, catch_up, overlap,
                               next_at, paused_why, owner_id, created_at)
SELECT gen_random_uuid(), %s, %s, 'n' || n, 'cron', (%s::text[])[1 + n %% 6], (%s::text[])[1 + n %% 4], 0, 'latest',
       'skip', app_now() + interval '1 year', '', %s, app_now() FROM generate_series(1, %s) n
"""
AIM_SECONDS = 1.5  # for 10,000 of 50,000 due in one second


def run() -> dict:
    """Measure, print, and return the figures."""
    from django.db import connection

    from personas import queue

    connection.pool.resize(1, DISPATCHERS + 1)
    hints: list[int] = []
    queue._send = lambda ids: hints.append(len(ids))
    _make_schedules()
    idle_ms = _idle()
    print(f"{SCHEDULES:,} schedules, none due: {idle_ms:.2f} ms a look, {idle_ms / 10:.2f} % of a core")
    print(f"{'due':>8}{'bare s':>9}{'fired s':>9}{'times':>8}{'p50 s':>8}{'p99 s':>8}{'hints':>8}")
    rows = [_measure(due, hints) for due in DUE]
    other = _celery_beat()
    print(f"aim: {AIM_SECONDS} s for {DUE[-1]:,}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    return {
        "name": "dispatch",
        "schedules": SCHEDULES,
        "idle_ms": round(idle_ms, 3),
        "rows": rows,
        "celery_beat": other,
    }


def _make_schedules() -> None:
    from django.db import connection

    from accounts.actions import create_team
    from accounts.models import User
    from audit.clock import app_now
    from personas.flow_actions import create_flow

    user = User.objects.create_user(email=f"{uuid4().hex}@bench.example", name="Bench")
    stage = {"kind": "combine", "name": "one", "template": "It is {{ input.time }}"}
    for number in range(TEAMS):
        team = create_team(name=f"Team {number}", owner=user, at=app_now())
        flow = create_flow(team=team, name="Digest", purpose="", stage_list=[stage], by=user)
        with connection.cursor() as cursor:
            cursor.execute(MAKE, [team.pk, flow.pk, list(RULES), list(ZONES), user.pk, SCHEDULES // TEAMS])
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _idle() -> float:
    """Milliseconds for a look that finds nothing."""
    from personas.dispatch import dispatch

    dispatch()
    began = time.perf_counter()
    for _ in range(IDLE_LOOKS):
        dispatch()
    return (time.perf_counter() - began) / IDLE_LOOKS * 1000


def _measure(due: int, hints: list[int]) -> dict:
    bare = _bare(_make_due(due))
    chosen = _make_due(due)
    hints.clear()
    began = time.perf_counter()
    _together(_dispatch)
    taken = time.perf_counter() - began
    late = _lateness(chosen)
    p50, p99 = (quantiles(late, n=100)[place] for place in (49, 98))
    row = {"due": due, "bare": round(bare, 2), "fired": round(taken, 2), "times": round(taken / bare, 1)}
    row |= {"p50": round(p50, 2), "p99": round(p99, 2), "hints": sum(hints)}
    print(
        f"{due:>8,}{row['bare']:>9}{row['fired']:>9}{row['times']:>8}{row['p50']:>8}{row['p99']:>8}{row['hints']:>8,}"
    )
    return row


def _make_due(count: int) -> list:
    """Make so many of them due this second, spread over all teams, and see that nothing is left of before."""
    from audit.clock import app_now
    from personas.models import Run, Schedule

    Run.objects.unfinished().update(state="succeeded", finished_at=app_now())
    Schedule.objects.update(next_at=app_now() + timedelta(days=365), nominal_at=None)
    chosen = list(Schedule.objects.order_by("name", "team").values_list("pk", flat=True)[:count])
    now = app_now()
    for some in batched_of(chosen):
        Schedule.objects.filter(pk__in=some).update(next_at=now, nominal_at=now)
    return chosen


def batched_of(rows: list) -> list:
    return [rows[place : place + 5_000] for place in range(0, len(rows), 5_000)]


def _bare(chosen: list) -> float:
    """Seconds in which due rows are claimed and given their next time, and no more."""
    from django.db import transaction

    from audit.clock import app_now
    from personas.models import Schedule

    began, left = time.perf_counter(), BATCH
    while left == BATCH:
        with transaction.atomic():
            found = list(Schedule.objects.due().select_for_update(skip_locked=True, of=("self",))[:BATCH])
            now = app_now()
            for schedule in found:
                schedule.next_at = schedule.rule.next(now)
            Schedule.objects.bulk_update(found, ["next_at"])
            left = len(found)
    return time.perf_counter() - began


def _together(work) -> None:
    threads = [threading.Thread(target=work) for _ in range(DISPATCHERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _dispatch() -> None:
    from django.db import connection

    from personas.dispatch import dispatch

    dispatch()
    connection.close()


def _lateness(chosen: list) -> list[float]:
    """Seconds between each nominal time and its firing's row. Each must have one firing and one run."""
    from personas.models import Firing, Run

    found = Firing.objects.filter(schedule__in=chosen, outcome="started").order_by("-nominal_at")
    latest = found.values_list("nominal_at", flat=True)[0]
    rows = list(Firing.objects.filter(nominal_at=latest).values_list("pk", "nominal_at", "fired_at"))
    runs = Run.objects.filter(firing__in=[pk for pk, *_ in rows]).count()
    if not len(rows) == runs == len(chosen):
        raise AssertionError(f"{len(chosen)} were due: {len(rows)} firings, {runs} runs")
    return [(fired - nominal).total_seconds() for _, nominal, fired in rows]


def _celery_beat() -> dict:
    """What django-celery-beat does with as many schedules, on the same database server and a broker of its own."""
    from definable.launcher.postgres import Postgres
    from definable.launcher.valkey import Valkey

    state = Path(os.environ["STATE"])
    server, broker = Postgres(state), Valkey(state)
    server.ensure_database("celery_beat")
    broker.start()
    try:
        command = [sys.executable, "-m", "bench._celery_beat", server.url("celery_beat"), broker.broker_url()]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    finally:
        broker.stop()
    print(f"django-celery-beat: idle {found['idle_percent']} % of a core")
    for row in found["rows"]:
        print(f"{row['due']:>8,}{'':>9}{row['seconds']:>9}{'':>8}{row['p50']:>8}{row['p99']:>8}{row['sent']:>8,} sent")
    return found
