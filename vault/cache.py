"""A small memory of unwrapped keys, so that the hot path asks neither the database nor a root."""

import time
from collections.abc import Callable, Hashable
from functools import partial
from threading import Lock
from typing import Generic, TypeVar

from django.db import transaction

Value = TypeVar("Value")
SECONDS = 60.0
ENTRIES = 4096


class KeyCache(Generic[Value]):
    """Keeps up to `entries` values for `seconds`, for all threads of this process."""

    def __init__(
        self, *, seconds: float = SECONDS, entries: int = ENTRIES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._entries = entries
        self._clock = clock
        self._kept: dict[Hashable, tuple[float, Value]] = {}
        self._lock = Lock()
        self._age = 0  # how often everything was forgotten

    def get(self, name: Hashable) -> Value | None:
        """Return what is kept under this name, or None when it is not or no longer there."""
        kept = self._kept.get(name)
        if kept is not None and kept[0] >= self._clock():
            return kept[1]
        return self._waiting(name)

    def put(self, name: Hashable, value: Value) -> None:
        """Keep a value; the one kept longest makes room."""
        with self._lock:
            self._kept.pop(name, None)
            if len(self._kept) >= self._entries:
                del self._kept[next(iter(self._kept))]
            self._kept[name] = (self._clock() + self._seconds, value)

    def put_after_commit(self, name: Hashable, value: Value) -> None:
        """
        Keep a value once the running transaction has committed.

        A key read inside it may be one that it made. Were it to roll back, a process that
        kept the key would seal content that nothing can ever open.
        """
        transaction.on_commit(partial(self._put_waiting, self._age, name, value), robust=True)

    def clear(self) -> None:
        """Forget everything, also what waits for a commit."""
        with self._lock:
            self._age += 1
            self._kept.clear()

    def _put_waiting(self, age: int, name: Hashable, value: Value) -> None:
        if age == self._age:
            self.put(name, value)

    def _waiting(self, name: Hashable) -> Value | None:
        """Return what waits for this transaction's commit. Django drops what waits for one that rolls back."""
        for _savepoints, call, _robust in transaction.get_connection().run_on_commit:
            if isinstance(call, partial) and call.func == self._put_waiting and call.args[:2] == (self._age, name):
                return call.args[2]
        return None
