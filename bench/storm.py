"""
Everything that may go wrong around flows, one thing after another: for `python -m bench.chaos --flows`.

Four workers and two beats work on flows that fire each minute. What is chosen, and when, follows from the seed.
"""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import redis

from bench.installation import Installation
from definable.launcher import local
from definable.launcher.process import die_with_parent

APP_NOW = import_module("audit.migrations.0001_clock").APP_NOW
WORKERS, BEATS = 4, 2
FROZEN = 40  # seconds: longer than a lease
AHEAD = 40  # seconds: longer than a lease, shorter than the minute between two firings
FORGED = 500  # hints at runs that there are not, and as many again at one that there is
LONGEST_BREAK = 20  # seconds between two disturbances
FORGE = (
    "from uuid import uuid4; from celery import current_app; from personas.models import Run;"
    "run = str(Run.objects.order_by('?').values_list('pk', flat=True).first());"
    f"[current_app.send_task('personas.tasks.work', kwargs={{'run_id': each}})"
    f" for _ in range({FORGED}) for each in (str(uuid4()), run)]"
)


class Twin:
    """One more process like one that the launcher keeps, kept by us."""

    def __init__(self, place: Installation, program: str, number: int) -> None:
        proc, self.log = Path(f"/proc/{place.pid(program)}"), place.state / "logs" / f"{program}-{number}.log"
        said = proc.joinpath("cmdline").read_bytes().decode().split("\0")[:-1]
        self.command = [part.replace("@%h", f"{number}@%h").replace("beat/schedule", f"beat/{number}") for part in said]
        lines = proc.joinpath("environ").read_bytes().decode().split("\0")
        self.env = dict(line.split("=", 1) for line in lines if "=" in line)
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=local.CHECKOUT,
                env=self.env,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: die_with_parent(signal.SIGKILL),
            )

    def kill(self) -> None:
        """End it as a power cut would, and start it again."""
        self.stop()
        self.start()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Storm:
    """The processes of a disturbed installation, and what is done to them."""

    def __init__(self, place: Installation, chance: random.Random) -> None:
        self.place, self.chance = place, chance
        self.workers = [Twin(place, "worker", number) for number in range(1, WORKERS)]
        self.beats = [Twin(place, "beat", number) for number in range(1, BEATS)]
        self.kinds: dict[str, Callable[[], None]] = {
            "a worker is killed": self._kill_worker,
            "a worker freezes for longer than a lease": self._freeze,
            "the dispatcher is killed": lambda: place.kill("control"),
            "a beat is killed": lambda: place.kill("beat"),
            "the other beat is killed": self.beats[0].kill,
            "the broker forgets everything": lambda: self._broker().flushall(),
            "the broker is killed": lambda: place.kill("valkey"),
            "the database restarts": lambda: os.kill(place.pid("postgres"), signal.SIGINT),
            "hints are forged and repeated": lambda: place.manage("shell", "--no-imports", "-c", FORGE),
            "web is killed": lambda: place.kill("web"),
            "the clock jumps ahead and comes back": self._jump,
        }

    def blow(self, *, seconds: float) -> dict[str, int]:
        """Disturb for so long. Returns how often each thing was done."""
        done, began = dict.fromkeys(self.kinds, 0), time.monotonic()
        names: list[str] = []
        while (now := time.monotonic() - began) < seconds:
            names = names or self.chance.sample(list(self.kinds), len(self.kinds))  # each once before any twice
            name = names.pop()
            print(f"{now:6.1f} s  {name}", flush=True)
            self.kinds[name]()
            done[name] += 1
            time.sleep(self.chance.uniform(LONGEST_BREAK / 4, LONGEST_BREAK))
        return done

    def end(self) -> None:
        """Leave the installation with the processes that its launcher keeps."""
        for twin in [*self.workers, *self.beats]:
            twin.stop()

    def _kill_worker(self) -> None:
        chosen = self.chance.randrange(WORKERS)
        self.place.kill("worker") if chosen == 0 else self.workers[chosen - 1].kill()

    def _freeze(self) -> None:
        process = self.chance.choice(self.workers).process
        process.send_signal(signal.SIGSTOP)
        threading.Timer(FROZEN, process.send_signal, [signal.SIGCONT]).start()

    def _jump(self) -> None:
        """Every lease runs out at once, and what is written meanwhile lies in the future afterwards."""
        with self.place.database() as database:
            try:
                database.execute(APP_NOW.replace("'0')", f"'{AHEAD} s')"))
                time.sleep(AHEAD / 4)
            finally:
                database.execute(APP_NOW)

    def _broker(self) -> redis.Redis:
        return redis.Redis.from_url(local.broker_url(self.place.state).replace("redis+socket", "unix"))
