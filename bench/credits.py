"""
Reservations per second: 32 writers on many teams, and 32 writers who want the same team's account.

A reservation is one committed statement: it moves the account, and writes the ledger's line. On many
teams the disk and the processors decide; on one team each must wait until the one before is committed.
Whatever the speed, account and ledger must say exactly what was reserved.
"""

import os
import random
import threading
import time
from statistics import quantiles
from uuid import uuid4

WRITERS = 32
TEAMS = 1_000
SECONDS = 8.0
AIMS = {TEAMS: 2_000, 1: 230}  # per second, on two cores


def run() -> dict:
    """Measure, print one row per number of teams, and return the rows."""
    from django.db import connection

    connection.pool.resize(1, WRITERS + 1)  # every writer has a connection of its own
    rows = [_measure(teams) for teams in AIMS]
    print(f"{'teams':>8}{'writers':>9}{'per s':>9}{'aim':>8}{'median ms':>11}{'p99 ms':>9}")
    for row in rows:
        print(
            f"{row['teams']:>8,}{row['writers']:>9}{row['per_second']:>9,}{row['aim']:>8,}"
            f"{row['median_ms']:>11}{row['p99_ms']:>9}"
        )
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    return {"name": "credits", "rows": rows}


def _measure(count: int) -> dict:
    teams = _teams(count)
    times: list[list[float]] = [[] for _ in range(WRITERS)]
    together, stop = threading.Barrier(WRITERS + 1), threading.Event()
    threads = [threading.Thread(target=_write, args=(teams, mine, together, stop)) for mine in times]
    for thread in threads:
        thread.start()
    together.wait(60)
    began = time.perf_counter()
    time.sleep(SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - began
    every = [seconds for mine in times for seconds in mine]
    _check(teams, len(every) + WRITERS)
    cuts = quantiles(every, n=100)
    return {
        "teams": count,
        "writers": WRITERS,
        "per_second": round(len(every) / taken),
        "aim": AIMS[count],
        "median_ms": round(1000 * cuts[49], 1),
        "p99_ms": round(1000 * cuts[98], 1),
    }


def _teams(count: int) -> list:
    """Make teams whose account of the month is open and will not run out."""
    from django.utils import timezone

    from accounts import credits
    from accounts.models import Plan, Team

    plan = Plan.objects.create(key=f"bench-{count}", name="Bench", monthly_credits=100_000_000)
    key, now = uuid4().hex[:8], timezone.now()
    teams = Team.objects.bulk_create(
        Team(name="Bench", slug=f"bench-{key}-{number}", plan=plan, created_at=now) for number in range(count)
    )
    for team in teams:
        credits.open_period(team=team)
    return teams


def _write(teams: list, times: list[float], together: threading.Barrier, stop: threading.Event) -> None:
    from django.db import connection

    from accounts import credits

    choose = random.Random(id(times))
    try:
        credits.reserve(team=teams[0], credits=1, call_id=uuid4())  # connects
        together.wait(60)
        while not stop.is_set():
            began = time.perf_counter()
            credits.reserve(team=choose.choice(teams), credits=1, call_id=uuid4())
            times.append(time.perf_counter() - began)
    finally:
        connection.close()


def _check(teams: list, made: int) -> None:
    """Account and ledger hold every reservation that was made, and none besides."""
    from django.db.models import Sum

    from accounts.models import CreditAccount, CreditEntry

    accounts = CreditAccount.objects.filter(team__in=teams).aggregate(held=Sum("reserved"))["held"]
    lines = CreditEntry.objects.filter(team__in=teams, kind=CreditEntry.Kind.RESERVE).count()
    assert accounts == lines == made, (accounts, lines, made)
