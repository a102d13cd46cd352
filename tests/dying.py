"""Work in a process of its own that dies or stands still at a named point, as by a power cut."""

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from integrations import clients
from personas import queue

DONE = 3
CHILD = f"dying-{os.getpid()}"  # the name of its sessions in the database


@dataclass(frozen=True, slots=True)
class Point:
    """Before or after a function, named by where the code finds it: `module.name` or `module.Class.name`."""

    name: str
    target: str
    after: bool = False

    def arm(self, what: int) -> None:
        """Let this process send itself that signal there."""
        path, _, attribute = self.target.rpartition(".")
        place = _found(path)
        real = getattr(place, attribute)

        @functools.wraps(real)
        def signalled(*args: Any, **kwargs: Any) -> Any:
            if not self.after:
                os.kill(os.getpid(), what)
            given = real(*args, **kwargs)
            if self.after:
                os.kill(os.getpid(), what)
            return given

        setattr(place, attribute, signalled)


def die_at(point: Point, work: Callable[[], object]) -> None:
    """Do some work in a process that dies at a point. Fails if it never came there."""
    _, status = os.waitpid(_forked(point, work, signal.SIGKILL), 0)
    assert os.WIFSIGNALED(status), f"“{point.name}” was not reached: the process ended with {os.WEXITSTATUS(status)}"
    _wait_for_its_sessions()


def _wait_for_its_sessions(seconds: float = 20) -> None:
    """The database lets go of a dead process's locks when it notices, which is a moment later."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute("select count(*) from pg_stat_activity where application_name = %s", [CHILD])
            if not cursor.fetchone()[0]:
                return
        time.sleep(0.01)
    raise AssertionError("The database still holds a session of a process that has died.")


@contextmanager
def frozen_at(point: Point, work: Callable[[], object]) -> Iterator[None]:
    """Do some work in a process that stands still from a point on, until the block is done; then it goes on."""
    child = _forked(point, work, signal.SIGSTOP)
    _, status = os.waitpid(child, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"“{point.name}” was not reached: the process ended with {os.WEXITSTATUS(status)}"
    try:
        yield
    finally:
        os.kill(child, signal.SIGCONT)
        _, status = os.waitpid(child, 0)
    assert os.WEXITSTATUS(status) == DONE, "It did not end its work quietly."


def _forked(point: Point, work: Callable[[], object], what: int) -> int:
    """Start the process; returns its number."""
    if child := os.fork():
        return child
    status = 1
    with suppress(BaseException):
        _let_go_of_what_is_shared()
        point.arm(what)
        work()
        status = DONE
    os._exit(status)


def _let_go_of_what_is_shared() -> None:
    """Sockets of before the fork belong to both processes, so this one opens its own."""
    os.environ["PGAPPNAME"] = CHILD
    own = connections[DEFAULT_DB_ALIAS]
    own.connection, type(own)._connection_pools = None, {}
    clients._client.cache_clear()
    queue._send = lambda ids: None


def _found(path: str) -> Any:
    with suppress(ModuleNotFoundError):
        return import_module(path)
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
