"""
Kill the worker each minute while the demo runs, then count what must add up.

    .venv/bin/python -m bench.chaos --minutes 5

The sandbox answers prompts slowly meanwhile, so that kills meet calls that are under way, and
refuses a model now and then, so that fallbacks are there too. Exits non-zero on any breach.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import psycopg
from psycopg.rows import namedtuple_row

from bench.installation import Installation

FIRST_MODEL = "anthropic/claude-sonnet-4.6"
SECONDS_TO_SETTLE = 240  # for leases of killed workers to run out and their runs to be done again

UNFINISHED = """
SELECT (SELECT count(*) FROM personas_run WHERE state IN ('queued', 'running', 'parked'))
     + (SELECT count(*) FROM integrations_call WHERE state = 'sent')
"""
CALLS = """
SELECT c.id::text, c.state, c.credits, c.credits_reserved, c.cost_usd,
       (SELECT count(*) FROM audit_event e WHERE e.call_id = c.id AND e.action = 'call.started') AS started,
       (SELECT count(*) FROM audit_event e WHERE e.call_id = c.id AND e.action = 'call.finished') AS finished,
       (SELECT count(*) FROM accounts_creditentry l WHERE l.call_id = c.id AND l.kind = 'reserve') AS reserved,
       (SELECT count(*) FROM accounts_creditentry l WHERE l.call_id = c.id AND l.kind <> 'reserve') AS ended
  FROM integrations_call c
"""
MISSING_FIRINGS = """
SELECT s.id::text, due.minute FROM personas_schedule s,
       generate_series(date_trunc('minute', s.created_at) + interval '1 minute', s.paused_at, '1 minute') due(minute)
 WHERE s.cron = '* * * * *'
   AND (SELECT count(*) FROM personas_firing f WHERE f.schedule_id = s.id AND f.nominal_at = due.minute) <> 1
"""
FIRINGS_WITHOUT_ONE_RUN = """
SELECT f.nominal_at, f.outcome FROM personas_firing f
 WHERE (SELECT count(*) FROM personas_run r WHERE r.firing_id = f.id) <> (f.outcome = 'started')::int
    OR f.outcome = 'missed'
"""
LOST = "SELECT count(*) FROM audit_event WHERE action = 'call.finished' AND outcome = 'unknown'"
LEDGER = """
SELECT a.granted, a.reserved, a.spent,
       coalesce(sum(l.credits) FILTER (WHERE l.kind = 'grant'), 0) AS entries_granted,
       coalesce(sum(l.credits) FILTER (WHERE l.kind = 'settle'), 0) AS entries_spent,
       coalesce(sum(l.credits) FILTER (WHERE l.kind = 'reserve' AND NOT EXISTS (SELECT 1
           FROM accounts_creditentry e WHERE e.call_id = l.call_id AND e.kind <> 'reserve')), 0) AS entries_held
  FROM accounts_creditaccount a JOIN accounts_creditentry l ON l.account_id = a.id GROUP BY a.id
"""


@dataclass(frozen=True)
class Check:
    """One line of the table: how many were looked at, and what was wrong."""

    name: str
    looked_at: int
    breaches: list


def main() -> int:
    options = _read_options()
    random.seed(options.seed)
    place = Installation()
    breached = 1
    try:
        disturb(place, minutes=options.minutes, pause=options.pause)
        settle(place)
        breached = report(list(checks(place)), list(facts(place)))
    finally:
        place.stop(keep=bool(breached))
    return breached


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos")
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.6, help="seconds between two pieces of an answer")
    parser.add_argument("--seed", type=int, help="kill at the same seconds again")
    return parser.parse_args()


# --- what happens -----------------------------------------------------------------------


def disturb(place: Installation, *, minutes: int, pause: float) -> None:
    """Kill the worker once in each minute, at a second of its own."""
    place.rules(
        {"match": {"model": FIRST_MODEL, "every": 3}, "answer": {"kind": "status", "status": 429, "retry_after": 5}},
        {"match": {"path": "/chat/completions"}, "answer": {"kind": "slow", "delay": pause}},
    )
    began = time.monotonic()
    for minute in range(minutes):
        _sleep_until(began + 60 * minute + random.uniform(5, 58))
        under_way = count(place, "SELECT count(*) FROM integrations_call WHERE state = 'sent'")
        print(f"{time.monotonic() - began:6.1f} s  worker killed with {under_way} calls under way", flush=True)
        place.kill("worker")
    _sleep_until(began + 60 * minutes)


def settle(place: Installation) -> None:
    """Stop the schedules and wait until nothing is unfinished, or for SECONDS_TO_SETTLE."""
    place.rules()
    with place.database() as database:
        database.execute("UPDATE personas_schedule SET paused_at = app_now() WHERE paused_at IS NULL")
    wait_until(lambda: not count(place, UNFINISHED), seconds=SECONDS_TO_SETTLE)


def wait_until(true: Callable[[], object], *, seconds: float) -> bool:
    """Ask again and again. False when it did not become true in time."""
    deadline = time.monotonic() + seconds
    while not (is_true := bool(true())) and time.monotonic() < deadline:
        time.sleep(0.1)
    return is_true


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def count(place: Installation, query: str) -> int:
    """The one number that a query gives."""
    with place.database() as database:
        return database.execute(query).fetchone()[0]


# --- what must add up -------------------------------------------------------------------


def checks(place: Installation) -> Iterator[Check]:
    """Compare the sandbox's journal, the log, the calls, the runs and the ledger with each other."""
    with place.database() as database:
        database.row_factory = namedtuple_row
        calls = database.execute(CALLS).fetchall()
        yield from _journal_checks(place, calls)
        yield _check("started calls with one finished event", calls, lambda call: call.started == call.finished == 1)
        yield _check("calls in a final state", calls, lambda call: call.state in ("done", "failed", "unknown"))
        yield _check("calls whose reservation ended, or is held", calls, _money_is_right)
        yield from _work_checks(database)
        ledger = database.execute(LEDGER).fetchall()
        yield _check("accounts that their ledger adds up to", ledger, _adds_up)


def _journal_checks(place: Installation, calls: list) -> Iterator[Check]:
    lines = [json.loads(line) for line in (place.state / "sandbox-journal.jsonl").read_text().splitlines()]
    times = Counter(line["request_id"] for line in lines if line["path"].startswith("/api/v1"))
    started = {call.id for call in calls if call.started == 1}
    yield Check("requests with exactly one started event", len(times), sorted(map(str, times.keys() - started)))
    yield Check("requests sent once", len(times), [request for request, count in times.items() if count > 1])
    done = [call for call in calls if call.state == "done"]
    yield _check("done calls that OpenRouter has seen", done, lambda call: call.id in times)
    costs = {line["request_id"]: Decimal(line["cost"]) for line in lines if line["cost"]}
    paid = [call for call in calls if call.id in costs and call.state != "unknown"]
    yield _check("billed calls with exactly their cost", paid, lambda call: call.cost_usd == costs[call.id])


def _work_checks(database: psycopg.Connection) -> Iterator[Check]:
    firings = database.execute("SELECT count(*) FROM personas_firing").fetchone()[0]
    yield Check("minutes with exactly one firing", firings, database.execute(MISSING_FIRINGS).fetchall())
    yield Check("firings with exactly one run", firings, database.execute(FIRINGS_WITHOUT_ONE_RUN).fetchall())
    runs = database.execute("SELECT id::text, state, failure FROM personas_run").fetchall()
    yield _check("runs that are not stuck", runs, lambda run: run.state not in ("queued", "running", "parked"))
    yield _check("runs that worked, or met three kills", runs, _is_explained)


def _check(name: str, rows: list, is_fine: Callable[[object], bool]) -> Check:
    return Check(name, len(rows), [row for row in rows if not is_fine(row)])


def _is_explained(run) -> bool:
    return run.state == "succeeded" or run.failure.startswith("Its worker ended")


def _money_is_right(call) -> bool:
    held = call.state == "unknown" and call.credits is None
    return call.reserved == 1 and call.ended == (0 if held else 1)


def _adds_up(row) -> bool:
    return (row.granted, row.reserved, row.spent) == (row.entries_granted, row.entries_held, row.entries_spent)


# --- what people read -------------------------------------------------------------------


def facts(place: Installation) -> Iterator[tuple[str, int]]:
    """What the table says beside its checks."""
    with place.database() as database:
        yield "calls lost with their worker", database.execute(LOST).fetchone()[0]
        yield from database.execute("SELECT 'calls ' || state, count(*) FROM integrations_call GROUP BY 1 ORDER BY 1")
        yield from database.execute("SELECT 'runs ' || state, count(*) FROM personas_run GROUP BY 1 ORDER BY 1")
        yield from database.execute(
            "SELECT 'stages on their fallback', count(*) FROM personas_stagerun WHERE used_fallback"
        )


def report(done: list[Check], known: list[tuple[str, int]]) -> int:
    """Print both tables. Returns the status to exit with."""
    print(f"\n{'':44}{'looked at':>10}{'wrong':>8}")
    for check in done:
        print(f"{check.name:44}{check.looked_at:>10}{len(check.breaches):>8}")
        for breach in check.breaches[:5]:
            print(f"    {breach}")
    print()
    for name, count in known:
        print(f"{name:44}{count:>10}")
    return int(any(check.breaches or not check.looked_at for check in done))


if __name__ == "__main__":
    sys.exit(main())
