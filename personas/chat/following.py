"""
What the turns of chats say, for the pages that follow them. Lives in the event loop of a web process.

Two tasks serve all pages together. One asks the database each second, in one query, which pages may
still be shown what, and how their turns stand; a worker that says "look" hurries it. The other reads
the turns' Valkey streams. Where those are silent while the row of a stage grows, the text is taken
from the row: nothing is shown later than a second for it, and nothing is missing.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary

import redis
import structlog
from django.conf import settings
from django.db import Error, connection
from redis.asyncio import Redis

from personas.chat.live import key_of
from personas.chat.looking import Claim, View, look, read_partials

LOOK_EVERY = 0.9  # seconds: whoever may not see more is shown nothing more within one
HURRY = 0.1  # seconds between two looks, however often workers say so
UNSURE = 5.0  # seconds without an answer of the database after which no page is shown anything any more
STALE = 1.5  # seconds without a word from Valkey after which the row counts, if it grew
BLOCK = 1000  # milliseconds that Valkey holds a question open
AWAY = (redis.RedisError, OSError, TimeoutError)

log = structlog.get_logger()


# --- texts ------------------------------------------------------------------------------


class Text:
    """What one answer said so far. Pieces may come twice; one that leaves a gap waits for the row."""

    def __init__(self) -> None:
        self.voice = ""
        self.said = {"text": "", "reasoning": ""}
        self.heard_at = time.monotonic()
        self.saved_as: UUID | None = None
        self._ahead: list[tuple[str, int, str]] = []

    @property
    def has_gap(self) -> bool:
        return bool(self._ahead)

    def add(self, voice: str, kind: str, place: int, piece: str) -> None:
        """Take a piece that begins after so many characters of its kind."""
        if voice != self.voice:
            self.voice, self.said, self._ahead = voice, {"text": "", "reasoning": ""}, []
        self.heard_at = time.monotonic()
        here = len(self.said[kind])
        if place > here:
            self._ahead.append((kind, place, piece))
        else:
            self.said[kind] += piece[here - place :]

    def load(self, said: dict[str, Any]) -> None:
        """Take what was saved, where it is longer, and then the pieces that waited for it."""
        for kind in self.said:
            saved = str(said.get(kind, ""))
            if len(saved) > len(self.said[kind]):
                self.said[kind] = saved
        ahead, self._ahead = self._ahead, []
        for kind, place, piece in ahead:
            self.add(self.voice, kind, place, piece)


# --- one page ---------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Follower:
    """One open page. `news` is set when there is something to look at."""

    claim: Claim
    hub: "Hub"
    news: asyncio.Event = field(default_factory=asyncio.Event)
    view: View | None = None
    refused: bool = False

    def said(self, stage_id: UUID) -> dict[str, str]:
        """What an answer said so far, as text and as reasoning."""
        return self.hub.texts[stage_id].said if stage_id in self.hub.texts else {"text": "", "reasoning": ""}

    async def wait(self, seconds: float) -> bool:
        """Wait for news, at most so long, and say whether there are any."""
        try:
            await asyncio.wait_for(self.news.wait(), seconds)
        except TimeoutError:
            return False
        self.news.clear()
        return True


class TooManyStreams(Exception):
    """This person, or this process, follows as many chats as it may."""


# --- all pages --------------------------------------------------------------------------


class Hub:
    """Serves all pages of one process. Its tasks run while somebody follows."""

    def __init__(self) -> None:
        self.followers: set[Follower] = set()
        self.texts: dict[UUID, Text] = {}
        self.pool = ThreadPoolExecutor(2, "stream")
        self._runs: dict[UUID, str] = {}  # those followed, with the id of the last entry read
        self._hurry = asyncio.Event()
        self._wake = f"definable:live:wake:{uuid4()}"
        self._woken = "0"
        self._store: Redis | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._sure_at = 0.0

    @asynccontextmanager
    async def following(self, claim: Claim) -> AsyncIterator[Follower]:
        """Follow a chat within the block. Raises TooManyStreams."""
        if not has_room(len(self.followers), self.count(claim.user_id)):
            raise TooManyStreams
        follower = Follower(claim, self)
        self.followers.add(follower)
        if len(self.followers) == 1:
            self._begin()
        self._hurry.set()
        try:
            yield follower
        finally:
            self.followers.discard(follower)
            self._forget()

    def count(self, user_id: UUID) -> int:
        """How many pages of one person are open. For other threads, too: it may be off by one."""
        return sum(follower.claim.user_id == user_id for follower in list(self.followers))

    def _begin(self) -> None:
        self._sure_at = time.monotonic()
        self._store = _store()
        reading = self._read_for_ever(self._store)
        self._tasks = [asyncio.create_task(self._look_for_ever()), asyncio.create_task(reading)]

    def _forget(self) -> None:
        """Let go of what nobody follows any more."""
        turns = [turn for follower in self.followers if follower.view for turn in follower.view.turns]
        live = {turn.run_id for turn in turns if turn.goes_on}
        self._runs = {run_id: last for run_id, last in self._runs.items() if run_id in live}
        stages = {stage_id for turn in turns for stage_id, _ in turn.stages}
        self.texts = {stage_id: text for stage_id, text in self.texts.items() if stage_id in stages}
        if not self.followers:
            for task in self._tasks:
                task.cancel()

    # --- the database -------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        while True:
            began = time.monotonic()
            await self._look()
            try:
                await asyncio.wait_for(self._hurry.wait(), max(0.0, began + LOOK_EVERY - time.monotonic()))
            except TimeoutError:
                pass
            await asyncio.sleep(max(0.0, began + HURRY - time.monotonic()))
            self._hurry.clear()

    async def _look(self) -> None:
        followers = list(self.followers)
        try:
            views = await in_thread(self.pool, look, [follower.claim for follower in followers])
            self._sure_at = time.monotonic()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the looks that keep strangers out
            log.warning("following.not_looked", reason=type(error).__name__)
            if time.monotonic() - self._sure_at < UNSURE:
                return
            views = [None] * len(followers)  # nobody can say who they are, so nobody is shown anything
        for follower, view in zip(followers, views, strict=True):
            if view is None:
                follower.refused = True
                follower.news.set()
            elif follower.view is None or view.turns != follower.view.turns:
                follower.view = view
                follower.news.set()
            else:
                follower.view = view
        await self._attend()

    async def _attend(self) -> None:
        """Read the streams of new turns, and from the rows what the streams do not bring."""
        turns = {turn.run_id: turn for follower in self.followers if follower.view for turn in follower.view.turns}
        running = {run_id: turn for run_id, turn in turns.items() if turn.goes_on}
        new = [run_id for run_id in running if run_id not in self._runs]
        self._runs |= dict.fromkeys(new, "0")
        self._forget()
        if new:
            await self._wake_reader()
        await self._load([pair for turn in running.values() for pair in turn.stages])

    async def _load(self, stages: Iterable[tuple[UUID, UUID | None]]) -> None:
        late = time.monotonic() - STALE
        wanted = []
        for stage_id, saved_as in stages:
            text = self.texts.setdefault(stage_id, Text())
            if saved_as and saved_as != text.saved_as and (text.has_gap or text.heard_at < late):
                text.saved_as = saved_as
                wanted.append(stage_id)
        if not wanted:
            return
        try:
            saved = await in_thread(self.pool, read_partials, wanted)
        except Error:
            return  # looked for again when more is saved
        for stage_id, said in saved.items():
            if stage_id in self.texts:
                self.texts[stage_id].load(said)
        self._tell(set(saved))

    # --- Valkey -------------------------------------------------------------------------

    async def _read_for_ever(self, store: Redis) -> None:
        """Read what turns say, and close the client in the end, whatever ends it."""
        try:
            while True:
                try:
                    await self._read(store)
                except AWAY as error:
                    log.info("following.valkey_away", reason=type(error).__name__)
                    await asyncio.sleep(1)
        finally:
            with suppress(*AWAY):
                await store.aclose()

    async def _read(self, store: Redis) -> None:
        keys = {key_of(run_id): last for run_id, last in self._runs.items()} | {self._wake: self._woken}
        grown: set[UUID] = set()
        for key, entries in await store.xread(keys, block=BLOCK):
            if key == self._wake:
                self._woken = entries[-1][0]
                continue
            run_id = UUID(key.rpartition(":")[2])
            if run_id in self._runs:
                self._runs[run_id] = entries[-1][0]
                grown |= {stage_id for _, fields in entries if (stage_id := self._take(fields.get("", "")))}
        self._tell(grown)

    def _take(self, entry: str) -> UUID | None:
        """Take one entry, and return the answer that grew by it."""
        head, _, said = entry.partition("\n")
        stage, voice, kind, place = head.split(" ")
        if kind not in ("text", "reasoning"):
            self._hurry.set()
            return None
        stage_id = UUID(stage)
        if stage_id not in self.texts:  # a stage that no look has shown yet
            self.texts[stage_id] = Text()
            self._hurry.set()
        self.texts[stage_id].add(voice, kind, int(place), said)
        return stage_id

    async def _wake_reader(self) -> None:
        """Have the reader ask again, for more streams: its question under way does not name them."""
        try:
            await self._store.xadd(self._wake, {"": ""}, maxlen=1, approximate=False)
            await self._store.expire(self._wake, 60)
        except AWAY:
            pass  # it asks again by itself

    def _tell(self, stage_ids: set[UUID]) -> None:
        if not stage_ids:
            return
        for follower in self.followers:
            turns = follower.view.turns if follower.view else ()
            if any(stage_id in stage_ids for turn in turns for stage_id, _ in turn.stages):
                follower.news.set()


def _store() -> Redis:
    return Redis.from_url(
        settings.STREAM_URL, decode_responses=True, socket_connect_timeout=1, socket_timeout=BLOCK / 1000 + 2
    )


hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """Return the hub of the running loop."""
    return hubs.setdefault(asyncio.get_running_loop(), Hub())


def may_follow(user_id: UUID) -> bool:
    """Say whether this process has room for one more page of this person."""
    found = list(hubs.values())
    return has_room(sum(len(each.followers) for each in found), sum(each.count(user_id) for each in found))


def has_room(open_streams: int, of_person: int) -> bool:
    """Say whether one more page may be followed."""
    return open_streams < settings.STREAMS_PER_PROCESS and of_person < settings.STREAMS_PER_PERSON


async def in_thread(pool: ThreadPoolExecutor, work: Any, *args: Any) -> Any:
    """Run something that waits or computes in a thread, which then lets go of the database."""

    def run() -> Any:
        try:
            return work(*args)
        finally:
            connection.close()

    return await asyncio.get_running_loop().run_in_executor(pool, run)
