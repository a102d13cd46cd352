"""
Kill workers while they are busy, then count what must add up.

    .venv/bin/python -m bench.chaos --minutes 5                       the demo alone, a kill in each minute
    .venv/bin/python -m bench.chaos --calls 2000 --kill-every 20      a mixed load with every kind of fault
    .venv/bin/python -m bench.chaos --chats 100                       so many answers streaming, web and worker killed
    .venv/bin/python -m bench.chaos --flows 30                        flows that fire each minute, all that may go wrong

The sandbox answers prompts slowly meanwhile, so that kills meet calls that are under way, and
refuses models now and then, so that fallbacks are there too. Exits non-zero on any breach.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from functools import partial

from bench import faults, talk
from bench.installation import Installation
from bench.reckoning import NOT_ASKING, checks, facts, report
from bench.storm import Storm

FIRST_MODEL = "anthropic/claude-sonnet-4.6"
SECONDS_TO_SETTLE = 240  # for leases of killed workers to run out and their runs to be done again
SECONDS_FOR_LOAD = 1800
TEAMS = 3
WORTH_A_KILL = 10  # calls since the last one
NO_RATE_LIMIT = {f"CALLS_A_MINUTE_{kind}": "1000000" for kind in ("TEAM", "MEMBER", "PERSONA", "TOOL")}
# A kill takes what all threads are at from work for half a minute: with few of them others are always waiting.
FEW_THREADS = {"WORKER_THREADS": "16", "DB_POOL": "16"}

UNDER_WAY = "SELECT count(*) FROM integrations_call WHERE state = 'sent'"
# One run of the demo waits for a person, and nobody is here to answer.
UNFINISHED_RUNS = f"SELECT count(*) FROM personas_run r WHERE state IN ('queued', 'running', 'parked') AND {NOT_ASKING}"
UNFINISHED = f"SELECT ({UNFINISHED_RUNS}) + ({UNDER_WAY})"
CALLS_MADE = "SELECT count(*) FROM integrations_call"
# Unknown calls whose record the provider still has: they settle by themselves.
TO_BE_SETTLED = "SELECT count(*) FROM integrations_call WHERE state = 'unknown' AND generation_id <> ''"


def main() -> int:
    options = _read_options()
    random.seed(options.seed)
    place = Installation(**NO_RATE_LIMIT, **(FEW_THREADS if options.calls or options.flows else {}))
    breached, must_be_kept = 1, set()
    try:
        if options.flows:
            disturb_flows(place, minutes=options.flows, seed=options.seed or 1)
        elif options.chats:
            must_be_kept = disturb_chats(place, chats=options.chats)
        elif options.calls:
            disturb_load(place, calls=options.calls, kill_every=options.kill_every, seed=options.seed or 1)
        else:
            disturb(place, minutes=options.minutes, pause=options.pause)
        settle(place)
        faulty = bool(options.calls or options.chats or options.flows)
        # Whoever loses the database or the broker says so, and is right.
        done = list(checks(place, faults=faulty, logs=not options.flows))
        if options.chats:
            done += talk.checks(place, must_be_kept)
        breached = report(done, list(facts(place)))
        if breached:
            print("Replay:", " ".join([sys.executable, "-m", "bench.chaos", *sys.argv[1:]]))
    finally:
        place.stop(keep=bool(breached))
    return breached


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos")
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.6, help="seconds between two pieces of an answer")
    parser.add_argument("--calls", type=int, help="make about so many calls in flows of every kind, with every fault")
    parser.add_argument("--chats", type=int, help="answer in so many chats at once, and kill web and worker meanwhile")
    parser.add_argument(
        "--flows", type=float, help="disturb flows for so many minutes: workers, beats, broker, database"
    )
    parser.add_argument("--kill-every", type=float, default=20, help="seconds between kills under that load")
    parser.add_argument("--seed", type=int, help="kill at the same seconds and make the same flows again")
    return parser.parse_args()


# --- the demo ---------------------------------------------------------------------------


def disturb(place: Installation, *, minutes: int, pause: float) -> None:
    """Kill the worker once in each minute, at a second of its own."""
    place.rules(
        {"match": {"model": FIRST_MODEL, "every": 3}, "answer": {"kind": "status", "status": 429, "retry_after": 5}},
        {"match": {"path": "/chat/completions"}, "answer": {"kind": "slow", "delay": pause}},
    )
    began = time.monotonic()
    for minute in range(minutes):
        _sleep_until(began + 60 * minute + random.uniform(5, 58))
        _kill_worker(place, began)
    _sleep_until(began + 60 * minutes)


def settle(place: Installation) -> None:
    """Stop the schedules and wait until nothing is unfinished, or for SECONDS_TO_SETTLE."""
    place.rules()
    with place.database() as database:
        database.execute("UPDATE personas_schedule SET paused_at = app_now() WHERE paused_at IS NULL")
    wait_until(lambda: not count(place, UNFINISHED), seconds=SECONDS_TO_SETTLE)


# --- a mixed load -----------------------------------------------------------------------


def disturb_load(place: Installation, *, calls: int, kill_every: float, seed: int) -> None:
    """Start runs for so many calls, kill the worker every so often until they are made, and let the runs end."""
    keys = [place.key(balance=1000) for _ in range(TEAMS)]
    began = time.monotonic()
    started = f"from bench.load import start; start(calls={calls}, keys={keys}, seed={seed})"
    print(json.loads(place.manage("shell", "--no-imports", "--command", started)), flush=True)
    place.rules(*faults.MIXED)
    while (made := count(place, CALLS_MADE)) < calls:
        time.sleep(kill_every * random.uniform(0.7, 1.3))
        # A worker that is still coming back, or whose runs wait for their leases, is not worth another kill.
        wait_until(partial(_is_busy_or_done, place, made + WORTH_A_KILL), seconds=SECONDS_TO_SETTLE)
        if not count(place, UNFINISHED_RUNS):
            break
        _kill_worker(place, began)
    wait_until(lambda: not count(place, UNFINISHED_RUNS), seconds=SECONDS_FOR_LOAD)
    made, seconds = count(place, CALLS_MADE), time.monotonic() - began
    print(f"{made} calls in {seconds:.0f} s: {made / seconds:.1f} a second", flush=True)
    wait_until(lambda: not count(place, TO_BE_SETTLED), seconds=SECONDS_TO_SETTLE)


def _is_busy_or_done(place: Installation, calls: int) -> bool:
    return count(place, CALLS_MADE) >= calls or not count(place, UNFINISHED_RUNS)


def _kill_worker(place: Installation, began: float) -> None:
    under_way, made = count(place, UNDER_WAY), count(place, CALLS_MADE)
    seconds = time.monotonic() - began
    print(f"{seconds:6.1f} s  worker killed with {under_way} calls under way, {made} made", flush=True)
    place.kill("worker")


# --- chats ------------------------------------------------------------------------------


def disturb_chats(place: Installation, *, chats: int) -> set[str]:
    """Let so many answers stream, kill web and worker in the middle; returns the steps that had said something."""
    began = time.monotonic()
    place.rules(talk.SLOW)
    command = f"from bench.load import start_chats; start_chats(chats={chats}, key={place.key(balance=1000)!r})"
    started = json.loads(place.manage("shell", "--no-imports", "--command", command))
    talk.follow(place, started["session"], started["team"], started["chats"])
    wait_until(lambda: len(talk.long_under_way(place)) >= WORTH_A_KILL, seconds=SECONDS_TO_SETTLE)
    must_be_kept = talk.long_under_way(place)
    place.kill("web")
    _kill_worker(place, began)
    talk.follow(place, started["session"], started["team"], started["chats"])  # as browsers come back
    wait_until(lambda: not count(place, UNFINISHED_RUNS), seconds=SECONDS_FOR_LOAD)
    wait_until(lambda: not count(place, TO_BE_SETTLED), seconds=SECONDS_TO_SETTLE)
    return must_be_kept


# --- flows ------------------------------------------------------------------------------


def disturb_flows(place: Installation, *, minutes: float, seed: int) -> None:
    """Let flows fire each minute, disturb them in every way meanwhile, and let their runs end."""
    keys = [place.key(balance=1000) for _ in range(TEAMS)]
    begun = f"from bench.load import start_flows; start_flows(keys={keys}, seed={seed})"
    print(json.loads(place.manage("shell", "--no-imports", "--command", begun)), flush=True)
    place.rules(*faults.MIXED)
    storm = Storm(place, random.Random(seed))
    try:
        storm.blow(seconds=minutes * 60)
        settle(place)
        wait_until(lambda: not count(place, UNFINISHED_RUNS), seconds=SECONDS_FOR_LOAD)
    finally:
        storm.end()
    wait_until(lambda: not count(place, TO_BE_SETTLED), seconds=SECONDS_TO_SETTLE)


# --- waiting ----------------------------------------------------------------------------


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


if __name__ == "__main__":
    sys.exit(main())
