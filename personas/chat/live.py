"""
What a turn says, while it says it: to the pages that follow it, and each second to the database.

The thread that hears a model only fills a buffer. Two other threads of the process carry all buffers
on: one to a short-lived Valkey stream for each run, ten times a second at most, one, sealed, to the
stage's row, each second at most. So neither a slow Valkey nor a slow database holds an answer
up, and whatever is lost on the way to a page is in the row a second later.

An entry of a stream is one text: `stage voice kind place`, a line end, and what was said. The kind is
`text`, `reasoning`, `tell` or `end`; the place is how many characters of that kind came before it.
"""

import json
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from secrets import token_hex
from uuid import UUID

import redis
import structlog
from django.conf import settings
from django.db import Error, connection, transaction

from audit.clock import app_now
from personas.attempts import Stopped
from personas.leases import Lease, LeaseLost
from personas.models import Run, StageRun
from vault.content import seal_content

PUBLISH_EVERY = 0.1  # seconds, for each answer
ROUND = 0.02  # seconds that the carrier gathers what several answers say
LOOK_EVERY = 0.5  # seconds between looks whether somebody stopped a turn
SAVE_EVERY = 1.0  # seconds
TIMEOUT = 0.5  # seconds that Valkey may take
SILENCE = 5.0  # seconds without a try after it did not answer
MOST_ENTRIES = 10_000  # a quarter of an hour at ten a second
LIFE = 3600  # seconds that a stream outlives its last entry, unless its turn ends
AFTERLIFE = 60  # seconds that it outlives its turn

log = structlog.get_logger()


class Live:
    """What one turn says. Made by the worker that holds its lease."""

    def __init__(self, run: Run, lease: Lease) -> None:
        self.run, self.lease = run, lease

    @contextmanager
    def speaking(self, stage: StageRun) -> Iterator["Voice"]:
        """
        Carry on what the answer of this stage says within the block.

        What it had said by then is kept in the stage's row if the block raises.
        """
        voice = Voice(self.run, self.lease, stage.pk)
        carrier.add(voice)
        try:
            yield voice
        except BaseException:
            carrier.drop(voice, save=True)
            raise
        carrier.drop(voice)


class Voice:
    """One answer on its way. Its methods raise Stopped or LeaseLost within a second when nobody wants it any more."""

    def __init__(self, run: Run, lease: Lease, stage_id: UUID) -> None:
        self.team_id, self.chat_id, self.lease, self.stage_id = run.team_id, run.chat_id, lease, stage_id
        self.name = token_hex(4)  # a stage that is spoken anew begins anew on the pages, too
        self.stop: type[Exception] | None = None
        self.published_at = 0.0
        self.saved = self.size = 0
        self._said: dict[str, list[str]] = {"text": [], "reasoning": []}
        self._waiting: dict[str, list[str]] = {"text": [], "reasoning": []}
        self._places = {"text": 0, "reasoning": 0}
        self._lock = threading.Lock()

    def on_text(self, text: str) -> None:
        """Take more of the answer."""
        self._take("text", text)

    def reasoning(self, text: str) -> None:
        """Take more of what the model thinks."""
        self._take("reasoning", text)

    def on_wait(self) -> None:
        """Find out whether the answer is still wanted. Costs nothing."""
        if self.stop:
            raise self.stop

    def _take(self, kind: str, text: str) -> None:
        self.on_wait()
        if not text:
            return
        text = text.encode("utf-8", "replace").decode()  # half a surrogate can be neither sent nor saved
        with self._lock:
            self._said[kind].append(text)
            self._waiting[kind].append(text)
            self.size += len(text)
        carrier.wake(urgent=not self.published_at)

    @property
    def waits(self) -> bool:
        return any(self._waiting.values())

    def entries(self) -> list[str]:
        """Return what was not published yet, as entries, and count it as published."""
        with self._lock:
            waiting = {kind: "".join(parts) for kind, parts in self._waiting.items() if parts}
            self._waiting = {"text": [], "reasoning": []}
            entries = [
                f"{self.stage_id} {self.name} {kind} {self._places[kind]}\n{said}" for kind, said in waiting.items()
            ]
            for kind, said in waiting.items():
                self._places[kind] += len(said)
        self.published_at = time.monotonic()
        return entries

    def so_far(self) -> tuple[int, bytes]:
        """Return its length in characters, and all of it as it is sealed."""
        with self._lock:
            said = {kind: "".join(parts) for kind, parts in self._said.items()}
            return self.size, json.dumps(said, ensure_ascii=False).encode()


# --- to the pages -----------------------------------------------------------------------


def key_of(run_id: UUID) -> str:
    """The name of a turn's stream. Only ids of ours go into it."""
    return f"definable:live:{run_id}"


def tell(run_id: UUID) -> None:
    """Tell the pages that something they show of this turn changed, once the caller's transaction is committed."""
    transaction.on_commit(lambda: post.send([Parcel(run_id, ["- - tell 0\n"])]))


def end(run_id: UUID) -> None:
    """Tell the pages that this turn is over, once the caller's transaction is committed. Its stream ends soon after."""
    transaction.on_commit(lambda: post.send([Parcel(run_id, ["- - end 0\n"], life=AFTERLIFE)]))


@dataclass(frozen=True, slots=True)
class Parcel:
    """Entries for one run's stream, and for how many seconds it lives on."""

    run_id: UUID
    entries: list[str]
    life: int = LIFE


class Post:
    """Sends to Valkey, or does not: no answer depends on it. After a failure it is left alone for some seconds."""

    def __init__(self) -> None:
        self._client: redis.Redis | None = None
        self._silent_until = 0.0
        self._is_away = False

    def send(self, parcels: Iterable[Parcel]) -> None:
        """Add the entries to their streams, in one round trip."""
        if time.monotonic() < self._silent_until:
            return
        try:
            self._send(parcels)
        except (redis.RedisError, OSError) as error:
            self._silent_until = time.monotonic() + SILENCE
            if not self._is_away:
                log.warning("live.not_sent", reason=type(error).__name__)
            self._is_away = True
        else:
            self._is_away = False

    def _send(self, parcels: Iterable[Parcel]) -> None:
        pipe = self._open().pipeline(transaction=False)
        for parcel in parcels:
            key = key_of(parcel.run_id)
            for entry in parcel.entries:
                pipe.xadd(key, {"": entry}, maxlen=MOST_ENTRIES, approximate=True)
            pipe.expire(key, parcel.life)
        pipe.execute()

    def _open(self) -> redis.Redis:
        if self._client is None:
            self._client = redis.Redis.from_url(
                settings.STREAM_URL, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=None
            )
        return self._client


post = Post()


# --- the threads ------------------------------------------------------------------------


class Carrier:
    """Carries what all answers of this process say: one thread to Valkey, one to the database, while there are any."""

    def __init__(self) -> None:
        self._voices: set[Voice] = set()
        self._lock = threading.Lock()
        self._saving = threading.Lock()  # whoever saves last has the whole text
        self._something, self._urgent, self._anybody = threading.Event(), threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, voice: Voice) -> None:
        """Carry this one, too."""
        with self._lock:
            self._voices.add(voice)
            if not self._threads:
                for work in (self._publish_for_ever, self._save_for_ever):
                    self._threads.append(threading.Thread(target=work, name="voices", daemon=True))
                    self._threads[-1].start()
            self._anybody.set()

    def drop(self, voice: Voice, *, save: bool = False) -> None:
        """Carry the rest of this one, save it if that is asked for, and forget it."""
        with self._lock:
            self._voices.discard(voice)
        if voice.waits:
            post.send([Parcel(voice.lease.run_id, voice.entries())])
        if save and voice.size > voice.saved:
            with suppress(Error):
                self._save([voice])

    def wake(self, *, urgent: bool) -> None:
        """Say that there is something to carry; the first words of an answer wait for no others."""
        if urgent:
            self._urgent.set()
        self._something.set()

    def _all(self) -> list[Voice]:
        with self._lock:
            return list(self._voices)

    def _publish_for_ever(self) -> None:
        while True:
            self._something.wait(_pause(self._all()))
            self._urgent.wait(ROUND)
            self._something.clear()
            self._urgent.clear()
            now = time.monotonic()
            due = [voice for voice in self._all() if voice.waits and voice.published_at + PUBLISH_EVERY <= now]
            if due:
                post.send([Parcel(voice.lease.run_id, voice.entries()) for voice in due])

    def _save_for_ever(self) -> None:
        saved = time.monotonic()
        while True:
            self._anybody.wait()
            time.sleep(LOOK_EVERY)
            voices, now = self._all(), time.monotonic()
            if not voices:
                self._rest()
                continue
            saves = now - saved >= SAVE_EVERY
            saved = now if saves else saved
            self._look_and_save(voices, saves=saves)

    def _rest(self) -> None:
        with self._lock:
            if not self._voices:
                self._anybody.clear()

    def _look_and_save(self, voices: list[Voice], *, saves: bool) -> None:
        try:
            _look(voices)
            if saves:
                self._save([voice for voice in voices if voice.size > voice.saved])
        except Exception as fault:  # noqa: BLE001 - the thread serves all answers, and the next round tries again
            log.warning("live.not_saved", count=len(voices), reason=type(fault).__name__)
        finally:
            connection.close()

    def _save(self, voices: list[Voice]) -> None:
        with self._saving:
            _save(voices)


def _pause(voices: list[Voice]) -> float | None:
    """Seconds until something that waits may be published; None while nothing waits."""
    due = [voice.published_at + PUBLISH_EVERY for voice in voices if voice.waits]
    return max(0.0, min(due) - time.monotonic()) if due else None


LOOK = """
SELECT id, CASE WHEN state = 'running' THEN fence END, stop_wanted_at IS NOT NULL FROM personas_run WHERE id = ANY(%s)
"""


def _look(voices: list[Voice]) -> None:
    """Find out which answers are still wanted, in one query."""
    with connection.cursor() as cursor:
        cursor.execute(LOOK, [[voice.lease.run_id for voice in voices]])
        found = {run_id: (fence, stopped) for run_id, fence, stopped in cursor.fetchall()}
    for voice in voices:
        fence, stopped = found.get(voice.lease.run_id, (voice.lease.fence, False))
        if fence != voice.lease.fence:
            voice.stop = LeaseLost
        elif stopped:
            voice.stop = Stopped


SAVE = """
UPDATE personas_stagerun stage SET partial = said.partial, partial_id = said.partial_id
  FROM unnest(%s::uuid[], %s::uuid[], %s::int[], %s::bytea[], %s::uuid[])
       AS said(stage_id, run_id, fence, partial, partial_id)
  JOIN personas_run run ON run.id = said.run_id AND run.fence = said.fence AND run.state = 'running'
 WHERE stage.id = said.stage_id AND stage.run_id = run.id AND stage.state = 'running'
"""


def _save(voices: list[Voice]) -> None:
    """Seal what each said so far into its stage's row, in one statement. A lease that was lost writes nothing."""
    if not voices:
        return
    sizes, rows = [], []
    with transaction.atomic(), connection.cursor() as cursor:
        now = app_now()
        for voice in voices:
            size, said = voice.so_far()
            sealed = seal_content(team_id=voice.team_id, subject=voice.chat_id, kind="partial", data=said, at=now)
            sizes.append(size)
            rows.append((voice.stage_id, voice.lease.run_id, voice.lease.fence, sealed.ciphertext, sealed.id))
        cursor.execute(SAVE, [list(column) for column in zip(*rows, strict=True)])
    for voice, size in zip(voices, sizes, strict=True):
        voice.saved = size


carrier = Carrier()
