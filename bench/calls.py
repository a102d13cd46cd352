"""
What a call costs over the bare HTTP exchange, against the stand-in.

Bare is one `httpx.Client` that posts the same bytes and reads the same stream to its end, with no
check, no record and no parsing. Ours is `call_tool`: rights, grant, two events with sealed prompt and
response, the reservation and its settling, all committed, and the key decrypted for each call. A
third side does the same inside limits: scopes with pinned arguments and patterns, the policies of
team, persona and flow, and three dollar caps.
CPU is that of this process, all threads together; the database and the stand-in are others.
"""

import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

AIM = 2.5  # times the CPU of the bare exchange
LIMITS_AIM = 1.15  # times the same call without limits, in CPU and in median time
MODEL = "openai/gpt-oss-20b"
QUESTION = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "What grows in a quiet harbour? " * 60}],
    "max_completion_tokens": 60,
}
SCOPES = {
    "tools": {
        "create_chat_completion": {
            "rule": "allowed",
            "pinned": {"temperature": 0.2},
            "max_tokens": 100,
            "max_messages": 10,
            "unattended": True,
        },
        "get_current_key": {"rule": "ask"},
    },
    "models": {"allow": ["openai/*", "anthropic/*"], "deny": ["openai/gpt-audio*"]},
    "providers": {"allow": [], "deny": ["deepseek"]},
    "ends_at": "2999-01-01T00:00:00Z",
}
POLICIES = {
    "team": {"data_collection": "deny"},
    "persona": {"max_price_in": "10", "max_price_out": "50"},
    "flow": {"providers_never": ["mistral"]},
}
CAPS = [("team", "month"), ("persona", "day"), ("run", "ever")]
ROUNDS = 6
CALLS = 60
SECONDS = 4.0
THREADS = (1, 16, 64)
IN_FLIGHT = 200
LATENCY_MS = 3000

Exchange = Callable[[], object]
Round = tuple[list[float], float]


class Place:
    """A team with a persona that may ask a model, inside limits or not, and the same question as bare bytes."""

    def __init__(self, sandbox: Any, *, limits: bool = False) -> None:
        from audit.actions import Actor
        from audit.ids import uuid7
        from integrations import actions
        from integrations.calls import Caller, client_for
        from integrations.openrouter.tools import OPENROUTER
        from tests.factories import make_team, owner_of

        self.team = make_team(plan=_plan())
        owner = owner_of(self.team)
        self.key = sandbox.key(balance=100_000)
        self.connection = actions.connect(
            team=self.team, integration=OPENROUTER, label="Bench", kind="api_key", posted=self.key, by=owner
        )
        actions.run_test(connection=self.connection)
        self.connection.refresh_from_db()
        persona_id = uuid7()
        actions.enable_for(
            connection=self.connection, persona_id=persona_id, tools=["create_chat_completion"], by=owner
        )
        self.caller = Caller(
            user=owner,
            actor=Actor.user(owner),
            persona_id=persona_id,
            persona_name="Bench",
            flow_id=uuid7(),
            run_id=uuid7(),
        )
        if limits:
            self._limit(owner, sandbox)
        self.url = f"{sandbox.url}/chat/completions"
        tool = OPENROUTER.tool("create_chat_completion")
        self.body = tool.prepare(tool.arguments.model_validate(QUESTION), client_for(OPENROUTER)).body

    def _limit(self, owner: Any, sandbox: Any) -> None:
        from audit.clock import app_now
        from integrations.models import Cap, Policy
        from tests.integrations.catalog_fixture import read_catalog
        from vault.models import Grant

        read_catalog(sandbox, wanted=[MODEL])
        Grant.objects.filter(team=self.team).update(scopes=SCOPES)
        holders = {"team": self.team.pk, "persona": self.caller.persona_id, "flow": self.caller.flow_id}
        for holder, rules in POLICIES.items():
            Policy.objects.create(
                team=self.team, holder=holders[holder], rules=rules, changed_by=owner, changed_at=app_now()
            )
        for kind, period in CAPS:
            Cap.objects.create(
                team=self.team, kind=kind, period=period, limit_usd=1000, created_by=owner, created_at=app_now()
            )

    def call(self) -> object:
        """One call through everything; at its end the database connection goes back, as after each task."""
        from django.db import connection

        from integrations.calls import call_tool

        try:
            return call_tool(
                team=self.team,
                connection=self.connection,
                tool="create_chat_completion",
                arguments=QUESTION,
                caller=self.caller,
            )
        finally:
            connection.close()

    def bare(self, client: Any) -> Exchange:
        """The same exchange with nothing around it."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}

        def exchange() -> object:
            return client.post(self.url, content=self.body, headers=headers).raise_for_status().content

        return exchange


def _plan() -> Any:
    from accounts.models import Plan

    known = {"name": "Bench", "monthly_credits": 100_000_000}
    return Plan.objects.get_or_create(key="bench", defaults=known)[0]


# --- one after another ------------------------------------------------------------------


def overhead(place: Place, limited: Place) -> list[dict]:
    """
    Bare, ours and ours inside limits in turns, so that what else the machine does falls on all.

    CPU is that of the best round: other load only makes a round dearer.
    """
    import httpx

    with httpx.Client(trust_env=False) as client:
        sides = {"bare": place.bare(client), "call_tool": place.call, "inside limits": limited.call}
        rounds: dict[str, list[Round]] = {name: [] for name in sides}
        for exchange in sides.values():
            repeat(exchange, 20)
        for _ in range(ROUNDS):
            for name, exchange in sides.items():
                rounds[name].append(repeat(exchange, CALLS))
    return [_summary(name, done) for name, done in rounds.items()]


def repeat(exchange: Exchange, count: int) -> Round:
    """Do it so often; return the wall seconds of each and the CPU seconds of one on average."""
    walls, cpu = [], time.process_time()
    for _ in range(count):
        began = time.perf_counter()
        exchange()
        walls.append(time.perf_counter() - began)
    return walls, (time.process_time() - cpu) / count


def _summary(name: str, rounds: list[Round]) -> dict:
    walls = [wall for walls, _ in rounds for wall in walls]
    return {
        "what": name,
        "calls": len(walls),
        "median_ms": round(1000 * median(walls), 2),
        "p99_ms": round(1000 * quantiles(walls, n=100)[98], 2),
        "cpu_ms": round(1000 * min(cpu for _, cpu in rounds), 3),
    }


# --- many at once -----------------------------------------------------------------------


def throughput(place: Place) -> list[dict]:
    """Calls per second in this one process, beside bare exchanges with one client for all and one per thread."""
    import httpx

    rows = []
    for count in THREADS:
        with httpx.Client(trust_env=False, limits=httpx.Limits(max_connections=None)) as shared:
            rows.append(_rate("bare, one client", count, lambda client=shared: place.bare(client)))
        rows.append(_rate("bare, one per thread", count, lambda: place.bare(httpx.Client(trust_env=False))))
        rows.append(_rate("call_tool", count, lambda: place.call))
    return rows


def _rate(name: str, count: int, make: Callable[[], Exchange]) -> dict:
    done = [0] * count
    warm, stop = threading.Barrier(count + 1), threading.Event()

    def work(place: int) -> None:
        exchange = make()
        exchange()
        warm.wait(60)
        while not stop.is_set():
            exchange()
            done[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    warm.wait(60)
    wall, cpu = time.perf_counter(), time.process_time()
    time.sleep(SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    calls = sum(done)
    return {
        "what": name,
        "threads": count,
        "per_second": round(calls / wall, 1),
        "cpu_ms": round(1000 * cpu / calls, 3),
    }


def memory(sandbox: Any) -> dict:
    """Resident memory with many calls waiting for a slow model, each in its own thread."""
    place = Place(sandbox)
    place.call()
    before = resident_mb()
    threads = [threading.Thread(target=place.call) for _ in range(IN_FLIGHT)]
    for thread in threads:
        thread.start()
    time.sleep(LATENCY_MS / 1000 * 0.8)
    during, waiting = resident_mb(), sum(thread.is_alive() for thread in threads)
    for thread in threads:
        thread.join()
    return {"in_flight": waiting, "before_mb": before, "during_mb": during}


def resident_mb() -> float:
    """What this process keeps in memory, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20, 1)


# --- what people read -------------------------------------------------------------------


def run() -> dict:
    """Measure, print three tables, and return the figures."""
    from django.conf import settings

    from tests.sandbox_fixture import start_sandbox

    quick, slow = start_sandbox(latency_ms=0), start_sandbox(latency_ms=LATENCY_MS)
    try:
        settings.CALLS_A_MINUTE = dict.fromkeys(settings.CALLS_A_MINUTE, 10**9)
        settings.INTEGRATION_URLS = {"openrouter": slow.url}
        held = memory(slow)
        settings.INTEGRATION_URLS = {"openrouter": quick.url}
        place = Place(quick)
        one, many = overhead(place, Place(quick, limits=True)), throughput(place)
    finally:
        quick.stop()
        slow.stop()
    bare, ours, limited = one
    ratios = {
        "cpu_ratio": _ratio(ours, bare, "cpu_ms"),
        "limits_cpu_ratio": _ratio(limited, ours, "cpu_ms"),
        "limits_median_ratio": _ratio(limited, ours, "median_ms"),
    }
    _print(one, many, held, ratios)
    aims = {"aim": AIM, "limits_aim": LIMITS_AIM}
    return {"name": "calls", **aims, **ratios, "one": one, "many": many, "memory": held}


def _ratio(one: dict, other: dict, what: str) -> float:
    return round(one[what] / other[what], 2)


def _print(one: list[dict], many: list[dict], held: dict, ratios: dict) -> None:
    print(f"{'one after another':<24}{'median ms':>11}{'p99 ms':>9}{'CPU ms':>9}")
    for row in one:
        print(f"{row['what']:<24}{row['median_ms']:>11}{row['p99_ms']:>9}{row['cpu_ms']:>9}")
    print(f"{'call_tool, CPU of bare':<34}{ratios['cpu_ratio']:>6}x  aim {AIM}x")
    print(f"{'limits, CPU of call_tool':<34}{ratios['limits_cpu_ratio']:>6}x  aim {LIMITS_AIM}x")
    print(f"{'limits, median of call_tool':<34}{ratios['limits_median_ratio']:>6}x  aim {LIMITS_AIM}x\n")
    print(f"{'at once':<24}{'threads':>11}{'per s':>9}{'CPU ms':>9}")
    for row in many:
        print(f"{row['what']:<24}{row['threads']:>11}{row['per_second']:>9}{row['cpu_ms']:>9}")
    print(f"\n{held['in_flight']} calls in flight: {held['before_mb']} MB before, {held['during_mb']} MB meanwhile")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
