"""The one place that opens connections to OpenRouter, and the limits every exchange keeps to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext

import httpcore
import httpx

from integrations.deadlines import Backend, Deadline, OnWait
from integrations.errors import BadAnswer, TimedOut, Unreachable, UpstreamError

MOST_BYTES = 32 * 1024 * 1024
# Below the 5 s after which uvicorn and some proxies hang up: a request written into a
# connection that is just being closed would count as sent, and perhaps as billed.
KEEP_ALIVE = 4.0


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


class _Transport(httpx.HTTPTransport):
    def __init__(self) -> None:
        super().__init__(verify=_tls(), trust_env=False)
        self.deadline = Deadline()
        # httpx has no argument for the network backend, and only a backend sees every single
        # read: without it one byte a minute keeps an exchange open for ever.
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls(), keepalive_expiry=KEEP_ALIVE, network_backend=Backend(self.deadline)
        )
