"""Chats that stream all at once, seen from outside: readers that follow them, and what must hold after kills."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx

from bench.installation import Installation
from bench.reckoning import Check

# The rule that holds every piece of an answer back for so many seconds.
SLOW = {"match": {"path": "/chat/completions"}, "answer": {"kind": "slow", "delay": 0.25}}

STEPS = """
SELECT s.id::text, s.kind, s.state, r.state AS turn, r.failure, s.partial IS NOT NULL AS kept,
       (SELECT count(*) FROM integrations_call c WHERE c.stage_id = s.id) AS calls
  FROM personas_stagerun s JOIN personas_run r ON r.id = s.run_id WHERE r.chat_id IS NOT NULL
"""
LONG_UNDER_WAY = """
SELECT s.id::text FROM personas_stagerun s JOIN personas_run r ON r.id = s.run_id
  JOIN integrations_call c ON c.stage_id = s.id
 WHERE r.chat_id IS NOT NULL AND s.kind = 'answer' AND s.state = 'running' AND c.state = 'sent'
   AND c.generation_id <> '' AND c.started_at < app_now() - interval '4 seconds'
"""


def follow(place: Installation, session: str, team: str, chats: list[str]) -> None:
    """Read the streams of these chats, each in a thread of its own, as browsers would; a lost one is not missed."""
    for chat in chats:
        threading.Thread(target=_read, args=(place, session, team, chat), daemon=True).start()


def _read(place: Installation, session: str, team: str, chat: str) -> None:
    with (
        suppress(httpx.TransportError),
        httpx.Client(base_url=place.url, cookies={"session": session}, trust_env=False, timeout=60) as browser,
        browser.stream("GET", f"/stream/t/{team}/chats/{chat}/", params={"after": "0"}) as stream,
    ):
        for _ in stream.iter_bytes():
            pass


def long_under_way(place: Installation) -> set[str]:
    """The steps whose answers have been streaming for some seconds: text of them must survive a kill."""
    with place.database() as database:
        return {row[0] for row in database.execute(LONG_UNDER_WAY)}


def checks(place: Installation, must_be_kept: set[str]) -> Iterator[Check]:
    """What must hold of turns whose worker and web were killed."""
    with place.database() as database:
        cursor = database.execute(STEPS)
        names = [column.name for column in cursor.description]
        steps: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in cursor]
    yield Check("steps of turns that asked at most once", len(steps), [step for step in steps if step["calls"] > 1])
    lost = [step for step in steps if step["turn"] == "failed"]
    silent = [step for step in lost if "was lost in the middle" not in step["failure"]]
    yield Check("interrupted turns that say so", len(lost), silent)
    kept = [step for step in steps if step["id"] in must_be_kept]
    yield Check("texts that survived", len(kept), [s for s in kept if s["state"] != "done" and not s["kept"]])
