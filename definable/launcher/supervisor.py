"""Keeps services running, and ends all of them when it is told to."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from definable.launcher.errors import CannotStart

FIRST_PAUSE = 0.2  # seconds before a second start; doubles up to LAST_PAUSE
LAST_PAUSE = 10
SETTLED = 30  # seconds of life after which a service is forgiven its earlier deaths
TICK = 0.1
STOP_SECONDS = 5  # for everything that may have work in hand; the servers have SERVER_SECONDS after that
SERVER_SECONDS = 3


class Service(Protocol):
    """What the supervisor can look after."""

    name: str

    def start(self) -> None: ...
    def alive(self) -> bool: ...
    def ending(self) -> str: ...
    def ask_to_stop(self) -> None: ...
    def wait_or_kill(self, deadline: float) -> None: ...


class Life:
    """A service with its starts and deaths."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.pause = FIRST_PAUSE
        self.started_at = 0.0
        self.start_at: float | None = None

    def start(self) -> None:
        self.started_at, self.start_at = time.monotonic(), None
        self.service.start()

    def look_after(self, say: Callable[[str], None]) -> None:
        """Notice a death; start again when its pause is over."""
        now = time.monotonic()
        if self.start_at is None and not self.service.alive():
            self._note_death(now, say)
        if self.start_at is not None and now >= self.start_at:
            self._start_again(say)

    def _note_death(self, now: float, say: Callable[[str], None]) -> None:
        if now - self.started_at > SETTLED:
            self.pause = FIRST_PAUSE
        say(f"{self.service.name} {self.service.ending()}; starting it again in {self.pause:g} s.")
        self.start_at = now + self.pause
        self.pause = min(self.pause * 2, LAST_PAUSE)

    def _start_again(self, say: Callable[[str], None]) -> None:
        try:
            self.start()
        except CannotStart as problem:
            say(f"{self.service.name} does not start: {problem}")
            self.start_at = time.monotonic() + self.pause
            self.pause = min(self.pause * 2, LAST_PAUSE)


class Supervisor:
    """Looks after services until somebody asks it to stop."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.servers: list[Life] = []
        self.programs: list[Life] = []
        self.stopping = False

    def listen(self) -> None:
        """From now on SIGINT, SIGTERM and SIGHUP mean: stop everything."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._hear)

    def _hear(self, number: int, frame: object) -> None:
        self.stopping = True

    def add_server(self, service: Service) -> None:
        """Start something that the others need: it is stopped after them."""
        self._add(self.servers, service)

    def add(self, service: Service) -> None:
        """Start a program."""
        self._add(self.programs, service)

    def _add(self, lives: list[Life], service: Service) -> None:
        life = Life(service)
        lives.append(life)
        life.start()

    def run(self) -> None:
        """Look after all of them until a signal comes."""
        make = Make(os.getppid())
        while not self.stopping and not make.interrupted():
            self.tick()
            time.sleep(TICK)

    def tick(self) -> None:
        """Look after each service once."""
        for life in [*self.servers, *self.programs]:
            life.look_after(self.say)

    def stop(self) -> None:
        """End all of them within STOP_SECONDS + SERVER_SECONDS, the programs before the servers."""
        _end(reversed(self.programs), STOP_SECONDS)
        _end(reversed(self.servers), SERVER_SECONDS)


def _end(lives: Iterable[Life], seconds: float) -> None:
    services: Sequence[Service] = [life.service for life in lives]
    for service in services:
        service.ask_to_stop()
    deadline = time.monotonic() + seconds
    for service in services:
        service.wait_or_kill(deadline)


class Make:
    """
    The `make` that started us, if one did.

    A SIGINT sent to make alone (not by a terminal, which sends it to all) never reaches us:
    make stops catching it and waits for its child, for ever. Linux shows that it did.
    """

    def __init__(self, pid: int) -> None:
        self.status = Path(f"/proc/{pid}/status")
        self.watched = bool(os.environ.get("MAKELEVEL")) and self._catches_interrupts()

    def interrupted(self) -> bool:
        return self.watched and not self._catches_interrupts()

    def _catches_interrupts(self) -> bool:
        try:
            lines = self.status.read_text().splitlines()
        except OSError:
            return False
        caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
        return bool(int(caught, 16) & 1 << (signal.SIGINT - 1))
