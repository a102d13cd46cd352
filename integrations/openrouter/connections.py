"""The one place that opens connections to OpenRouter, and the limits every exchange keeps to."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext
from typing import Any

import httpcore
import httpx

from integrations.errors import BadAnswer, TimedOut, Unreachable, UpstreamError

# At DEBUG httpcore prints the headers of answers, and a service may echo a key in one.
logging.getLogger("httpcore").setLevel(logging.INFO)

MOST_BYTES = 32 * 1024 * 1024
# Below the 5 s after which uvicorn and some proxies hang up: a request written into a
# connection that is just being closed would count as sent, and perhaps as billed.
KEEP_ALIVE = 4.0
LOOK_EVERY = 0.25  # seconds between two looks whether an answer that does not come is still wanted

OnWait = Callable[[], None] | None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, between two pieces of the answer, and for the whole exchange."""

    connect: float = 5.0
    read: float = 60.0
    total: float = 900.0


class Connections:
    """
    Open connections, each thread its own.

    httpx looks at every connection of a pool at every request. Measured on two cores, CPU per
    request with one shared pool and with one per thread: 0.53 and 0.58 ms with 1 thread, 0.87
    and 0.42 ms with 16, 3.4 and 0.57 ms with 64. And httpx.Client costs 0.13 to 0.3 ms more than
    its transport, for what must not happen here: cookies shared between teams, redirects,
    proxies from the environment, URLs in the log.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self._mine = threading.local()

    @contextmanager
    def open(self, request: httpx.Request, *, billable: bool, on_wait: OnWait = None) -> Iterator[httpx.Response]:
        """
        Send the request and hand over the answer as soon as its headers are there.

        `on_wait` is called before each piece is read, and four times a second while none comes.
        Raises Unreachable, TimedOut and what `on_wait` raises. Leaving the block closes what was
        not read to the end.
        """
        transport = self._transport()
        with transport.deadline.within(self.timeouts.total, on_wait):
            try:
                response = transport.handle_request(request)
            except httpx.TransportError as error:
                raise _lost(error, billable=billable) from None
            try:
                yield response
            finally:
                response.close()

    def _transport(self) -> "_Transport":
        if not hasattr(self._mine, "transport"):
            self._mine.transport = _Transport()
        return self._mine.transport


@cache
def connections(timeouts: Timeouts) -> Connections:
    """Return this process's connections: clients come and go with each call, sockets are kept."""
    return Connections(timeouts)


def pieces(response: httpx.Response, *, billable: bool) -> Iterator[bytes]:
    """Yield the body as it arrives. Raises Unreachable, TimedOut, or BadAnswer past the size limit."""
    # We asked for no compression, so a small answer cannot unfold into a huge one.
    if response.headers.get("content-encoding", "identity") != "identity":
        raise BadAnswer("OpenRouter sent a compressed answer that nobody asked for.", maybe_billed=billable)
    size = 0
    try:
        for piece in response.stream:  # type: ignore[union-attr]  # a synchronous transport made it
            size += len(piece)
            if size > MOST_BYTES:
                raise BadAnswer("The answer is larger than 32 MiB.", maybe_billed=billable)
            yield piece
    except httpx.TransportError as error:
        raise _lost(error, billable=billable) from None


def _lost(error: httpx.TransportError, *, billable: bool) -> UpstreamError:
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError | httpx.PoolTimeout):
        return Unreachable("OpenRouter could not be reached.", sent=False)
    if isinstance(error, httpx.TimeoutException):
        return TimedOut("OpenRouter did not answer in time.", maybe_billed=billable)
    return Unreachable("The connection to OpenRouter was lost.", maybe_billed=billable)


@cache
def _tls() -> SSLContext:
    # Reading the root certificates takes tens of milliseconds and a megabyte: once for all threads.
    return httpx.create_ssl_context(trust_env=False)


class _Deadline:
    """When the exchange under way in this thread must be over."""

    def __init__(self) -> None:
        self._at = math.inf
        self.on_wait: OnWait = None

    @contextmanager
    def within(self, seconds: float, on_wait: OnWait = None) -> Iterator[None]:
        outer = self._at, self.on_wait
        self._at, self.on_wait = time.monotonic() + seconds, on_wait
        try:
            yield
        finally:
            self._at, self.on_wait = outer

    def left(self, timeout: float | None) -> float:
        left = self._at - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the whole exchange took too long")
        return min(left, timeout or left)


class _Transport(httpx.HTTPTransport):
    def __init__(self) -> None:
        super().__init__(verify=_tls(), trust_env=False)
        self.deadline = _Deadline()
        # httpx has no argument for the network backend, and only a backend sees every single
        # read: without it one byte a minute keeps an exchange open for ever.
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(), keepalive_expiry=KEEP_ALIVE, network_backend=_Backend(self.deadline)
        )


class _Backend(httpcore.SyncBackend):
    def __init__(self, deadline: _Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(self, *args: Any, **options: Any) -> httpcore.NetworkStream:
        return _Stream(super().connect_tcp(*args, **options), self._deadline)


class _Stream(httpcore.NetworkStream):
    """A connection on which no read or write outlasts the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
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
        self._stream.write(buffer, self._deadline.left(timeout))

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._deadline)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
