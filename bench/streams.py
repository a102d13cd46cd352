"""
Chats that stream all at once, through one web and one worker process, from outside.

So many chats stream in the background, five pieces a second each. Meanwhile single ones are begun,
one after another, and their first words timed: from the moment the stand-in lets an answer out to
the moment a page has its first word (`relay`), and from sending the message to that first word, less
what the stand-in itself takes when asked directly (`whole`: with the turn, the call and its record).
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from bench.installation import Installation

AIM_MS = 15  # median of `relay` with 50 chats
SIZES = (1, 50, 200)
PROBES = 30
PROBE_EVERY = 0.5  # seconds
SECONDS = 10  # for which the background is counted
CROWD, PROBE = "openai/gpt-5.4-mini", "openai/gpt-5.4"
WAIT = 3.0  # seconds that the stand-in thinks, so that the page is there before the first word
WORDS = {CROWD: 1500, PROBE: 60}
RULES = [
    {"match": {"model": CROWD, "path": "/chat/completions"}, "answer": {"kind": "slow", "delay": 0.2}},
    {"match": {"model": PROBE, "path": "/chat/completions"}, "answer": {"kind": "dear", "factor": 1, "delay": WAIT}},
]
ENV = {
    "STREAMS_PER_PERSON": "1000",
    "WORKER_THREADS": "256",
    **{f"CALLS_A_MINUTE_{kind}": "1000000" for kind in ("TEAM", "MEMBER", "PERSONA", "TOOL")},
}
TEXT_ORDER = b'hx-target="#text-'
DONE = b"event: done"


def run() -> dict[str, Any]:
    """Measure with each size, and print a table."""
    print("chats         relay ms         whole ms  pieces/s  KiB a stream  ended early  web CPU")
    found = []
    for size in SIZES:
        place = Installation(**ENV)
        try:
            place.rules(*RULES)
            found.append(asyncio.run(_measure(place, size)))
        finally:
            place.stop()
        print(_row(found[-1]), flush=True)
    return {"name": "streams", "aim_ms": AIM_MS, "sizes": found}


def _row(figures: dict[str, Any]) -> str:
    relay, whole = (f"{figures[name]['median']:.1f} / {figures[name]['p99']:.1f}" for name in ("relay_ms", "whole_ms"))
    counted = f"{figures['pieces_per_second']:9.0f} {figures['kib_per_stream']:13.0f}"
    counted += f" {figures['ended_early']:12} {figures['web_cpu']:8.2f}"
    return f"{figures['chats']:5} {relay:>16} {whole:>16} {counted}"


async def _measure(place: Installation, size: int) -> dict[str, Any]:
    key = place.key(balance=10_000)
    own_first, own_gap = _of_the_stand_in(place, key)
    with driver(place, key) as ask:
        session, team = ask("session"), ask("team")
        before = _memory_kib(place)
        crowd = [Page(chat) for chat in ask(f"start {size} {CROWD}")["chats"]]
        tasks = [asyncio.create_task(page.read(place, team, session)) for page in crowd]
        await _until(lambda: all(page.pieces > 1 for page in crowd))
        memory = _memory_kib(place) - before
        counted, cpu = sum(page.pieces for page in crowd), _cpu_seconds(place)
        await asyncio.sleep(SECONDS)
        rate, cpu = (sum(page.pieces for page in crowd) - counted) / SECONDS, _cpu_seconds(place, cpu) / SECONDS
        asked = await _probes(place, ask, team, session)
        early = sum(task.done() and not page.over for page, task in zip(crowd, tasks, strict=True))
        for task in tasks:
            task.cancel()
    out = _let_out(place)
    probes = [(page, sent) for page, sent in asked if page.first]
    return {
        "chats": size,
        "relay_ms": _spread([page.first - out[page.chat] - own_gap for page, _ in probes]),
        "whole_ms": _spread([page.first - sent - own_first for page, sent in probes]),
        "pieces_per_second": round(rate, 1),
        "kib_per_stream": round(memory / size, 1),
        "ended_early": early,
        "missed": len(asked) - len(probes),  # the page was there after the answer: too late to time anything
        "web_cpu": round(cpu, 2),
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    return {
        "median": round(median(seconds) * 1000, 2),
        "p99": round(quantiles(seconds, n=100, method="inclusive")[98] * 1000, 2),
    }


# --- pages ------------------------------------------------------------------------------


@dataclass
class Page:
    """One open page. `first` is when it had its first word; `over` whether the stream said goodbye."""

    chat: str
    first: float = 0.0
    pieces: int = 0
    over: bool = False

    async def read(self, place: Installation, team: str, session: str) -> None:
        async for line in _lines(place, f"/stream/t/{team}/chats/{self.chat}/?after=0", session):
            if TEXT_ORDER in line:
                self.first = self.first or time.time()
                self.pieces += 1
            elif line.startswith(DONE):
                self.over = True


async def _lines(place: Installation, path: str, session: str) -> AsyncIterator[bytes]:
    address = urlsplit(place.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**24)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nCookie: session={session}\r\n\r\n".encode())
    try:
        if b" 200 " not in await reader.readline():
            return
        while line := await reader.readline():
            yield line
    finally:
        writer.close()


async def _probes(place: Installation, ask: Any, team: str, session: str) -> list[tuple[Page, float]]:
    """Begin one chat after another and follow each to its end; returns them with the times they were sent at."""
    asked, tasks = [], []
    for _ in range(PROBES):
        started = await asyncio.to_thread(ask, f"start 1 {PROBE}")
        page = Page(started["chats"][0])
        asked.append((page, started["at"]))
        tasks.append(asyncio.create_task(page.read(place, team, session)))
        await asyncio.sleep(PROBE_EVERY)
    await asyncio.wait(tasks, timeout=60)
    return asked


async def _until(true: Any, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("Not all chats stream.")
        await asyncio.sleep(0.1)


# --- the stand-in -----------------------------------------------------------------------


def _of_the_stand_in(place: Installation, key: str) -> tuple[float, float]:
    """Seconds to its own first word: from the question, and from the moment that its journal names."""
    asked, gaps = [], []
    body = {"model": PROBE, "stream": True, "messages": [{"role": "user", "content": _text(PROBE)}]}
    for _ in range(10):
        name = str(uuid4())
        headers = {"Authorization": f"Bearer {key}", "X-Request-Id": name}
        began = time.time()
        url = f"{place.sandbox}/api/v1/chat/completions"
        with httpx.stream("POST", url, json=body, headers=headers, timeout=30, trust_env=False) as stream:
            for line in stream.iter_lines():
                if line.startswith("data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                    break
            asked.append(time.time() - began)
        gaps.append(began + asked[-1] - _journal(place)[name])
    return median(asked), median(gaps)


def _journal(place: Installation) -> dict[str, float]:
    """When each answer was let out, by the name of its request."""
    lines = map(json.loads, Path(place.state, "sandbox-journal.jsonl").read_text().splitlines())
    return {line["request_id"]: datetime.fromisoformat(line["at"]).timestamp() for line in lines}


def _let_out(place: Installation) -> dict[str, float]:
    """When the answer of each chat was let out."""
    query = "SELECT r.chat_id::text, c.id::text FROM integrations_call c JOIN personas_run r ON r.id = c.run_id"
    journal = _journal(place)
    with place.database() as database:
        return {chat: journal[call] for chat, call in database.execute(query) if call in journal}


def _cpu_seconds(place: Installation, since: float = 0.0) -> float:
    """CPU seconds that the web process took."""
    numbers = Path(f"/proc/{place.pid('web')}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK") - since


def _memory_kib(place: Installation) -> int:
    status = Path(f"/proc/{place.pid('web')}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


# --- the driver: another process, inside the installation -------------------------------


@contextmanager
def driver(place: Installation, key: str) -> Any:
    """A process that begins chats on demand: `ask(words)` gives its answer."""
    command = f"from bench.streams import drive; drive({key!r})"
    process = subprocess.Popen(
        [sys.executable, "manage.py", "shell", "--no-imports", "--command", command],
        env=place.env | {"DEFINABLE_ROLE": "manage"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(words: str) -> Any:
        process.stdin.write(f"{words}\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    try:
        yield ask
    finally:
        process.stdin.close()
        process.wait(30)


def drive(key: str) -> None:
    """Make a team, then do as the lines of the standard input say."""
    from accounts.actions import create_team
    from accounts.models import Plan, User
    from audit.clock import app_now
    from bench.load import _session_of, wait_for_workers
    from integrations.actions import connect, enable_for
    from integrations.registry import get_integration
    from personas import actions
    from personas.chat import sending

    owner = User.objects.create_user(email="talker@load.example", name="Talker")
    team = create_team(name="Talking", owner=owner, at=app_now(), plan=Plan.objects.get(key="pro"))
    given = {"integration": get_integration("openrouter"), "label": "Main", "kind": "api_key", "posted": key}
    connection = connect(team=team, by=owner, **given)
    personas = {
        model: actions.create_persona(team=team, by=owner, name=model, purpose="", chain=[model]) for model in WORDS
    }
    for persona in personas.values():
        enable_for(connection=connection, persona_id=persona.pk, tools=["create_chat_completion"], by=owner)
    wait_for_workers([team])
    session = _session_of(owner)
    for line in sys.stdin:
        match line.split():
            case ["session"]:
                said: Any = session
            case ["team"]:
                said = team.slug
            case ["start", number, model]:
                at, text = time.time(), _text(model)
                begun = [
                    sending.start_chat(
                        team=team, persona=personas[model], by=owner, text=text, idempotency_key=uuid4().hex
                    )
                    for _ in range(int(number))
                ]
                said = {"at": at, "chats": [str(message.chat_id) for message in begun]}
        os.write(1, json.dumps(said).encode() + b"\n")


def _text(model: str) -> str:
    return "Reply with exactly: " + " ".join(f"tide{number}" for number in range(WORDS[model]))
