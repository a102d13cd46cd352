"""A connection on which nothing outlasts its time, and whoever waits can say that they wait no more."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any

import httpcore

# At DEBUG httpcore prints the headers of answers, and a service may echo a key in one.
logging.getLogger("httpcore").setLevel(logging.INFO)

LOOK_EVERY = 0.25  # seconds between two looks whether an answer that does not come is still wanted

OnWait = Callable[[], None] | None


class Deadline:
    """When the exchange under way in this thread must be over; `has_written` once any of it has left."""

    def __init__(self) -> None:
        self._at = math.inf
        self.on_wait: OnWait = None
        self.has_written = False

    @contextmanager
    def within(self, seconds: float, on_wait: OnWait = None) -> Iterator[None]:
        """Let what is done in this block take so many seconds."""
        outer = self._at, self.on_wait
        self._at, self.on_wait = time.monotonic() + seconds, on_wait
        self.has_written = False
        try:
            yield
        finally:
            self._at, self.on_wait = outer

    def left(self, timeout: float | None) -> float:
        """Return how long one step may take, at most `timeout` seconds. Raises httpcore.ReadTimeout."""
        left = self._at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the whole exchange took too long")
        return min(left, timeout or left)


class Backend(httpcore.SyncBackend):
    """Opens connections that keep to a deadline."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        return Timed(super().connect_tcp(*args, **options), self._deadline)


class Timed(httpcore.NetworkStream):
    """A connection on which no read or write outlasts the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._deadline.on_wait is None:
            return self._stream.read(max_bytes, self._deadline.left(timeout))
        return self._read_in_slices(self._deadline.on_wait, max_bytes, time.monotonic() + (timeout or math.inf))

    def _read_in_slices(self, on_wait: Callable[[], None], max_bytes: int, until: float) -> bytes:
        # A read that ends without a byte has lost none: the next one goes on where it stood.
        while True:
            on_wait()
            left = self._deadline.left(max(until - time.monotonic(), 0.001))
            try:
                return self._stream.read(max_bytes, min(left, LOOK_EVERY))
            except httpcore.ReadTimeout:
                if left <= LOOK_EVERY:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = self._deadline.left(timeout)
        self._deadline.has_written = True
        self._stream.write(buffer, left)

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return Timed(self._stream.start_tls(ssl_context, server_hostname, timeout), self._deadline)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
