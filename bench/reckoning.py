"""What must add up after a disturbed run: the sandbox's journal, the log, the calls, the runs and the ledgers."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from bench.installation import Installation

# The price rule, said a second time: 1 for a read; for a model 2, and 1 per started 1,000 tokens.
READ, MODEL_CALL, TOKENS_PER_CREDIT = 1, 2, 1000
MODEL_TOOLS = {"create_chat_completion", "create_message"}

CALLS = """
SELECT c.id::text, c.tool, c.model, c.actor_kind, c.state, c.outcome, c.credits, c.credits_reserved, c.cost_usd,
       c.tokens_in, c.tokens_out,
       (SELECT count(*) FROM audit_event e WHERE e.call_id = c.id AND e.action = 'call.started') AS started,
       (SELECT count(*) FROM audit_event e WHERE e.call_id = c.id AND e.action = 'call.finished') AS finished,
       (SELECT count(*) FROM accounts_creditentry l WHERE l.call_id = c.id AND l.kind = 'reserve') AS reserved,
       (SELECT count(*) FROM accounts_creditentry l WHERE l.call_id = c.id AND l.kind <> 'reserve') AS ended
  FROM integrations_call c
"""
# A schedule that is paused within seconds of a minute may be quicker than the dispatcher.
MISSING_FIRINGS = """
SELECT s.id::text, due.minute FROM personas_schedule s,
       generate_series(date_trunc('minute', s.created_at) + interval '1 minute',
                       s.paused_at - interval '15 seconds', '1 minute') due(minute)
 WHERE s.cron = '* * * * *'
   AND (SELECT count(*) FROM personas_firing f WHERE f.schedule_id = s.id AND f.nominal_at = due.minute) <> 1
"""
FIRINGS_WITHOUT_ONE_RUN = """
SELECT f.nominal_at, f.outcome FROM personas_firing f
 WHERE (SELECT count(*) FROM personas_run r WHERE r.firing_id = f.id) <> (f.outcome = 'started')::int
    OR f.outcome = 'missed'
"""
# Of a run r: it does not wait for a person.
NOT_ASKING = "NOT EXISTS (SELECT FROM integrations_approval a WHERE a.id = r.approval_id AND a.state = 'waiting')"
# Each accepted result is sealed in the write that accepts it, so a second one would be text that no stage names.
RESULTS = """
SELECT c.id::text, count(s.id) AS stages FROM audit_content c LEFT JOIN personas_stagerun s
    ON s.output_content_id = c.id AND s.state = 'done'
 WHERE c.kind = 'output' GROUP BY c.id
"""
LEDGER = """
SELECT a.granted, a.reserved, a.spent,
       coalesce(sum(l.credits) FILTER (WHERE l.kind = 'grant'), 0) AS entries_granted,
       coalesce(sum(l.credits) FILTER (WHERE l.kind = 'settle'), 0) AS entries_spent,
       coalesce(sum(l.credits) FILTER (WHERE l.kind = 'reserve' AND NOT EXISTS (SELECT 1
           FROM accounts_creditentry e WHERE e.call_id = l.call_id AND e.kind <> 'reserve')), 0) AS entries_held
  FROM accounts_creditaccount a JOIN accounts_creditentry l ON l.account_id = a.id GROUP BY a.id
"""
# A counter's lines add up to it, also where a call cost more than was held.
COUNTERS = """
SELECT counter.id::text, counter.reserved_usd, counter.spent_usd,
       coalesce(sum(line.usd) FILTER (WHERE line.kind = 'settle'), 0) AS lines_spent,
       coalesce(sum(line.usd) FILTER (WHERE line.kind = 'reserve' AND NOT EXISTS (SELECT 1
           FROM integrations_capentry e WHERE e.counter_id = line.counter_id AND e.call_id = line.call_id
            AND e.kind <> 'reserve')), 0) AS lines_held
  FROM integrations_capcounter counter LEFT JOIN integrations_capentry line ON line.counter_id = counter.id
 GROUP BY counter.id
"""
HOLDINGS = """
SELECT c.id::text, c.state, c.cost_usd, line.counter_id::text, line.usd AS held, ended.kind, ended.usd AS spent
  FROM integrations_call c JOIN integrations_capentry line ON line.call_id = c.id AND line.kind = 'reserve'
  LEFT JOIN integrations_capentry ended
    ON ended.call_id = c.id AND ended.counter_id = line.counter_id AND ended.kind <> 'reserve'
"""
FACTS = (
    "SELECT 'calls lost with their worker', count(*) FROM audit_event"
    " WHERE action = 'call.finished' AND outcome = 'unknown'",
    "SELECT 'calls ' || state, count(*) FROM integrations_call GROUP BY 1 ORDER BY 1",
    "SELECT '   of them ' || outcome, count(*) FROM integrations_call WHERE state <> 'done' GROUP BY 1 ORDER BY 1",
    "SELECT 'refused ' || outcome, count(*) FROM audit_event WHERE action = 'call.refused' GROUP BY 1 ORDER BY 1",
    "SELECT 'answers paid for again', count(*) - count(DISTINCT stage_id) FROM integrations_call"
    " WHERE state = 'done' AND stage_id IS NOT NULL AND cost_usd > 0",
    "SELECT 'runs ' || state, count(*) FROM personas_run GROUP BY 1 ORDER BY 1",
    "SELECT '   ' || left(failure, 80), count(*) FROM personas_run WHERE failure <> '' GROUP BY 1 ORDER BY 2 DESC",
    "SELECT 'stages ' || state, count(*) FROM personas_stagerun GROUP BY 1 ORDER BY 1",
    "SELECT '   of them on a fallback', count(*) FROM personas_stagerun WHERE used_fallback",
)


@dataclass(frozen=True)
class Check:
    """One line of the table: how many were looked at, and what was wrong."""

    name: str
    looked_at: int
    breaches: list


OUR_LOGS = ("web", "worker", "control")
ERROR = re.compile(r'"level": "(error|critical)".*')


def checks(place: Installation, *, faults: bool = False, logs: bool = True) -> Iterator[Check]:
    """
    Compare everything with everything, and with `logs` look for errors in these.

    With `faults` a run may have failed for other reasons than killed workers.
    """
    with place.database() as database:
        database.row_factory = namedtuple_row
        calls = database.execute(CALLS).fetchall()
        yield from _call_checks(calls)
        yield from _journal_checks(journal(place), calls)
        yield from _firing_checks(database)
        yield from _run_checks(database, faults=faults)
        yield from _ledger_checks(database, calls)
        if faults:
            yield from _cap_checks(database)
    if logs:
        texts = [(place.state / "logs" / f"{name}.log").read_text() for name in OUR_LOGS]
        found = [match[0][:600] for text in texts for match in ERROR.finditer(text)]
        yield Check("logs without an error", len(texts), found)


def journal(place: Installation) -> list[dict[str, Any]]:
    """
    Every request that the sandbox has seen on somebody's key, with its cost as Decimal.

    Without a key comes only the public catalog, which the installation reads for all teams.
    """
    lines = [json.loads(line) for line in (place.state / "sandbox-journal.jsonl").read_text().splitlines()]
    return [line | {"cost": Decimal(line["cost"] or 0)} for line in lines if line["key_sha256"]]


def _call_checks(calls: list) -> Iterator[Check]:
    yield _check("started calls with one finished event", calls, lambda call: call.started == call.finished == 1)
    yield _check("calls in a final state", calls, lambda call: call.state in ("done", "failed", "unknown"))


def _journal_checks(lines: list[dict[str, Any]], calls: list) -> Iterator[Check]:
    times = Counter(line["request_id"] for line in lines)
    started = {call.id for call in calls if call.started == 1}
    yield Check("requests with exactly one started event", len(times), sorted(map(str, times.keys() - started)))
    yield Check("requests sent once", len(times), [request for request, count in times.items() if count > 1])
    done = [call for call in calls if call.state == "done"]
    yield _check("done calls that OpenRouter has seen", done, lambda call: call.id in times)
    costs: dict[str, Decimal] = defaultdict(Decimal, {line["request_id"]: line["cost"] for line in lines})
    settled = [call for call in calls if call.state in ("done", "failed")]
    yield _check("settled calls that cost what the journal says", settled, lambda call: _costs(call, costs[call.id]))
    differing = [call for call in calls if not _costs(call, costs[call.id])]
    yield Check("calls that differ, unless unknown and held", len(calls), [c for c in differing if not _is_held(c)])


def _costs(call: Any, usd: Decimal) -> bool:
    return (call.cost_usd or 0) == usd


def _firing_checks(database: psycopg.Connection) -> Iterator[Check]:
    firings = database.execute("SELECT count(*) FROM personas_firing").fetchone()[0]
    yield Check("minutes with exactly one firing", firings, database.execute(MISSING_FIRINGS).fetchall())
    yield Check("firings with exactly one run", firings, database.execute(FIRINGS_WITHOUT_ONE_RUN).fetchall())


def _run_checks(database: psycopg.Connection, *, faults: bool) -> Iterator[Check]:
    runs = database.execute(f"SELECT id::text, state, failure FROM personas_run r WHERE {NOT_ASKING}").fetchall()
    yield _check("runs that are not stuck", runs, lambda run: run.state not in ("queued", "running", "parked"))
    if faults:
        yield _check("runs that worked, or say why not", runs, lambda run: run.state == "succeeded" or run.failure)
    else:
        yield _check("runs that worked, or met three kills", runs, _is_explained)
    results = database.execute(RESULTS).fetchall()
    yield _check("results that exactly one stage accepted", results, lambda result: result.stages == 1)


def _is_explained(run: Any) -> bool:
    return run.state == "succeeded" or run.failure.startswith("Its worker ended")


# --- money ------------------------------------------------------------------------------


def _ledger_checks(database: psycopg.Connection, calls: list) -> Iterator[Check]:
    yield _check("calls whose reservation ended, or is held", calls, _money_is_right)
    settled = [call for call in calls if call.state in ("done", "failed")]
    yield _check("settled calls at the price of their tokens", settled, lambda call: call.credits == _price(call))
    ledger = database.execute(LEDGER).fetchall()
    yield _check("accounts that their ledger adds up to", ledger, _adds_up)


def _cap_checks(database: psycopg.Connection) -> Iterator[Check]:
    counters = database.execute(COUNTERS).fetchall()
    yield _check("cap counters that their lines add up to", counters, _counts_right)
    holdings = database.execute(HOLDINGS).fetchall()
    yield _check("dollars held while unknown, else settled", holdings, _dollars_are_right)


def _counts_right(row: Any) -> bool:
    return (row.reserved_usd, row.spent_usd) == (row.lines_held, row.lines_spent)


def _dollars_are_right(row: Any) -> bool:
    """An unknown call holds its dollars; any other has spent its cost to the last decimal, or given all back."""
    if row.state == "unknown":
        return row.kind is None
    return row.kind is not None and row.spent == (row.cost_usd or 0)


def _price(call: Any) -> int:
    """What a call takes in platform credits; a failed one for which nothing was made takes none."""
    if call.actor_kind == "system":
        return 0
    tokens = (call.tokens_in or 0) + (call.tokens_out or 0)
    price = MODEL_CALL + -(-tokens // TOKENS_PER_CREDIT) if call.tool in MODEL_TOOLS else READ
    return price if call.state == "done" or call.tokens_out or call.cost_usd else 0


def _is_held(call: Any) -> bool:
    return call.state == "unknown" and call.credits is None and call.reserved == 1 and call.ended == 0


def _money_is_right(call: Any) -> bool:
    return _is_held(call) or (call.state != "unknown" and call.reserved == call.ended == 1)


def _adds_up(row: Any) -> bool:
    return (row.granted, row.reserved, row.spent) == (row.entries_granted, row.entries_held, row.entries_spent)


# --- what people read -------------------------------------------------------------------


def facts(place: Installation) -> Iterator[tuple[str, int]]:
    """What the table says beside its checks."""
    with place.database() as database:
        for query in FACTS:
            yield from database.execute(query)


def report(done: list[Check], known: list[tuple[str, int]]) -> int:
    """Print both tables. Returns the status to exit with."""
    print(f"\n{'':48}{'looked at':>10}{'wrong':>8}")
    for check in done:
        print(f"{check.name:48}{check.looked_at:>10}{len(check.breaches):>8}")
        for breach in check.breaches[:5]:
            print(f"    {breach}")
    print()
    for name, count in known:
        print(f"{name:84}{count:>10}")
    return int(any(check.breaches or not check.looked_at for check in done))


def _check(name: str, rows: list, is_fine: Callable[[Any], Any]) -> Check:
    return Check(name, len(rows), [row for row in rows if not is_fine(row)])
