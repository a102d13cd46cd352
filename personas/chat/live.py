"""
What a turn says, while it says it: to the pages that follow it, and each second to the database.

The thread that hears a model only fills a buffer. One other thread of the process carries all
buffers on: to a short-lived Valkey stream for each run, ten times a second at most, and, sealed, to
the stage's row, each second at most. So neither a slow Valkey nor a slow database holds an answer
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


# --- the thread -------------------------------------------------------------------------


class Carrier:
    """Carries what all answers of this process say, from one thread that lives as long as there are any."""

    def __init__(self) -> None:
        self._voices: set[Voice] = set()
        self._lock = threading.Lock()
        self._saving = threading.Lock()  # whoever saves last has the whole text
        self._something, self._urgent = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, voice: Voice) -> None:
        """Carry this one, too."""
        with self._lock:
            self._voices.add(voice)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._carry_for_ever, name="voices", daemon=True)
                self._thread.start()
        self._something.set()

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

    def _carry_for_ever(self) -> None:
        looked = saved = time.monotonic()
        while True:
            with self._lock:
                voices = list(self._voices)
            self._something.wait(self._pause(voices, looked))
            self._urgent.wait(ROUND)
            self._something.clear()
            self._urgent.clear()
            self._publish(voices)
            now = time.monotonic()
            if voices and now - looked >= LOOK_EVERY:
                looked = now
                saves = now - saved >= SAVE_EVERY
                saved = now if saves else saved
                self._look_and_save(voices, saves=saves)

    @staticmethod
    def _pause(voices: list[Voice], looked: float) -> float | None:
        if not voices:
            return None
        until = looked + LOOK_EVERY
        due = (voice.published_at + PUBLISH_EVERY for voice in voices if voice.waits)
        return max(0.0, min([until, *due]) - time.monotonic())

    @staticmethod
    def _publish(voices: list[Voice]) -> None:
        now = time.monotonic()
        due = [voice for voice in voices if voice.waits and voice.published_at + PUBLISH_EVERY <= now]
        if due:
            post.send([Parcel(voice.lease.run_id, voice.entries()) for voice in due])

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
            for voice in voices:
                _save(voice)


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
UPDATE personas_stagerun stage SET partial = %(partial)s, partial_id = %(partial_id)s
  FROM personas_run run
 WHERE stage.id = %(stage_id)s AND stage.state = 'running' AND run.id = stage.run_id
   AND run.id = %(run_id)s AND run.fence = %(fence)s AND run.state = 'running'
"""


def _save(voice: Voice) -> None:
    """Seal what was said so far into the stage's row. A lease that was lost writes nothing."""
    size, said = voice.so_far()
    with transaction.atomic(), connection.cursor() as cursor:
        sealed = seal_content(team_id=voice.team_id, subject=voice.chat_id, kind="partial", data=said, at=app_now())
        cursor.execute(
            SAVE,
            {
                "partial": sealed.ciphertext,
                "partial_id": sealed.id,
                "stage_id": voice.stage_id,
                "run_id": voice.lease.run_id,
                "fence": voice.lease.fence,
            },
        )
    voice.saved = size


carrier = Carrier()
