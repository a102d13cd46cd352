"""
Reservations per second: 32 writers on many teams, and 32 writers who want the same team's account.

A reservation is one committed statement: it moves the account, and writes the ledger's line. On many
teams the disk and the processors decide; on one team each must wait until the one before is committed.
The same again under dollar caps of the team and of each persona: one transaction then holds both.
Whatever the speed, account, counters and ledgers must say exactly what was reserved.

Last, 200 callers at once on a cap that allows 50 of them, over and over: 50 pass each time.
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import product
from statistics import quantiles
from uuid import uuid4

WRITERS = 32
TEAMS = 1_000
SECONDS = 8.0
AIMS = {TEAMS: 2_000, 1: 230}  # per second, on two cores
CALLERS, ALLOWED, ROUNDS = 200, 50, 20
CALL_USD = Decimal("0.000001")


def run() -> dict:
    """Measure, print one row per number of teams without and with caps, then the rounds, and return all."""
    from django.db import connection

    connection.pool.resize(1, WRITERS + 1)  # every writer has a connection of its own
    rows = [_measure(teams, capped) for capped, teams in product((False, True), AIMS)]
    print(f"{'teams':>8}{'caps':>6}{'writers':>9}{'per s':>9}{'aim':>8}{'median ms':>11}{'p99 ms':>9}")
    for row in rows:
        print(
            f"{row['teams']:>8,}{row['caps']:>6}{row['writers']:>9}{row['per_second']:>9,}{row['aim'] or '':>8}"
            f"{row['median_ms']:>11}{row['p99_ms']:>9}"
        )
    passed = [_passed() for _ in range(ROUNDS)]
    print(f"{CALLERS} callers on a cap that allows {ALLOWED}, {ROUNDS} rounds: {sorted(set(passed))} passed")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    return {"name": "credits", "rows": rows, "callers": CALLERS, "allowed": ALLOWED, "passed": passed}


def _measure(count: int, capped: bool) -> dict:
    teams = _teams(count)
    if capped:
        _add_caps(teams)
    times: list[list[float]] = [[] for _ in range(WRITERS)]
    together, stop = threading.Barrier(WRITERS + 1), threading.Event()
    threads = [threading.Thread(target=_write, args=(teams, capped, mine, together, stop)) for mine in times]
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
    if capped:
        _check_caps(teams, len(every) + WRITERS)
    cuts = quantiles(every, n=100)
    return {
        "teams": count,
        "caps": CAPS if capped else 0,
        "writers": WRITERS,
        "per_second": round(len(every) / taken),
        "aim": None if capped else AIMS[count],
        "median_ms": round(1000 * cuts[49], 1),
        "p99_ms": round(1000 * cuts[98], 1),
    }


def _teams(count: int) -> list:
    """Make teams whose account of the month is open and will not run out."""
    from django.utils import timezone

    from accounts import credits
    from accounts.models import Plan, Team

    key, now = uuid4().hex[:8], timezone.now()
    plan = Plan.objects.create(key=f"bench-{key}", name="Bench", monthly_credits=100_000_000)
    teams = Team.objects.bulk_create(
        Team(name="Bench", slug=f"bench-{key}-{number}", plan=plan, created_at=now) for number in range(count)
    )
    for team in teams:
        credits.open_period(team=team)
    return teams


CAPS = 2  # for a call: its team's and its persona's
PERSONAS = [uuid4() for _ in range(4)]


def _add_caps(teams: list) -> None:
    from django.utils import timezone

    from accounts.models import User
    from integrations.models import Cap

    owner, now = User.objects.create_user(email=f"bench-{uuid4().hex[:8]}@example.test", password=None), timezone.now()
    Cap.objects.bulk_create(
        Cap(team=team, kind=kind, period="month", limit_usd=1_000_000, created_by=owner, created_at=now)
        for team in teams
        for kind in ("team", "persona")
    )


def _write(teams: list, capped: bool, times: list[float], together: threading.Barrier, stop: threading.Event) -> None:
    from django.db import connection

    choose = random.Random(id(times))
    reserve: Callable = _reserve_capped if capped else _reserve
    try:
        reserve(teams[0], choose)  # connects
        together.wait(60)
        while not stop.is_set():
            began = time.perf_counter()
            reserve(choose.choice(teams), choose)
            times.append(time.perf_counter() - began)
    finally:
        connection.close()


def _reserve(team, choose: random.Random) -> None:
    from accounts import credits

    credits.reserve(team=team, credits=1, call_id=uuid4())


def _reserve_capped(team, choose: random.Random) -> None:
    """As a call does: what counts is asked for with its rights, then all is held in one transaction and round trip."""
    from django.db import transaction
    from django.utils import timezone

    from accounts import credits
    from audit.statements import one_round_trip
    from integrations import caps
    from tests.integrations.caps import demands_of

    persona, call = choose.choice(PERSONAS), uuid4()
    demands = demands_of(team, persona_id=persona)
    now = timezone.now()  # a call knows the time from looking up its rights
    with transaction.atomic(), one_round_trip() as trip:
        trip.add(credits.reserving(team=team, credits=1, call_id=call))
        trip.add(caps.holding(team_id=team.pk, demands=demands, usd=CALL_USD, call_id=call, at=now))


def _check(teams: list, made: int) -> None:
    """Account and ledger hold every reservation that was made, and none besides."""
    from django.db.models import Sum

    from accounts.models import CreditAccount, CreditEntry

    accounts = CreditAccount.objects.filter(team__in=teams).aggregate(held=Sum("reserved"))["held"]
    lines = CreditEntry.objects.filter(team__in=teams, kind=CreditEntry.Kind.RESERVE).count()
    assert accounts == lines == made, (accounts, lines, made)


def _check_caps(teams: list, made: int) -> None:
    """Counters and their lines hold every call under each of its caps."""
    from django.db.models import Sum

    from integrations.models import CapCounter, CapEntry

    counted = CapCounter.objects.filter(team__in=teams).aggregate(held=Sum("reserved_usd"))["held"]
    lines = CapEntry.objects.filter(team__in=teams).count()
    assert (counted / CALL_USD, lines) == (made * CAPS, made * CAPS), (counted, lines, made)


# --- callers at once --------------------------------------------------------------------


def _passed() -> int:
    """Let all callers hold a dollar at once under a cap that allows fewer; return how many could."""
    from integrations.models import Cap, CapCounter

    (team,) = _teams(1)
    _add_caps([team])
    Cap.objects.filter(team=team, kind="team").update(limit_usd=ALLOWED)
    together = threading.Barrier(CALLERS)
    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(_hold_a_dollar, team, together) for _ in range(CALLERS)]
        outcomes = Counter(caller.result() for caller in callers)
    held = CapCounter.objects.get(team=team).reserved_usd
    assert (outcomes, held) == ({"held": ALLOWED, "refused": CALLERS - ALLOWED}, ALLOWED), (outcomes, held)
    return outcomes["held"]


def _hold_a_dollar(team, together: threading.Barrier) -> str:
    from django.db import connection, transaction

    from audit.clock import app_now
    from integrations import caps
    from tests.integrations.caps import demands_of

    together.wait(60)
    try:
        demands = demands_of(team)
        with transaction.atomic():
            caps.hold(team_id=team.pk, demands=demands, usd=Decimal(1), call_id=uuid4(), at=app_now())
    except caps.CapReached:
        return "refused"
    finally:
        connection.close()
    return "held"
