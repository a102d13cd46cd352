"""
One POST to an address that somebody else chose: to a number that was found public, in bounded time and size.

Nothing is followed, nothing is taken from the environment, and no connection is used twice.
"""

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from typing import Any

import httpcore
import httpx

from integrations.addresses_out import BadAddress, Destination, resolve
from integrations.deadlines import Backend, Deadline, OnWait
from integrations.errors import BadAnswer, InvalidRequest, TimedOut, Unreachable, UpstreamError

MOST_NUMBERS = 4  # of one name, tried one after the other
LOOK_AT_ADDRESS = "Check the address and whether the receiver runs; then try again."
MAY_HAVE_ARRIVED = "It may have arrived all the same: ask the receiver before you send it again."


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds to connect, between two pieces of the reply, and in all; and how many bytes of a reply are read."""

    connect: float = 5.0
    read: float = 15.0
    total: float = 25.0
    most_bytes: int = 16 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `body` is its beginning: the head alone says whether the receiver took it."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    latency_ms: int


BOUNDS = Bounds()


def post(
    destination: Destination,
    *,
    body: bytes,
    headers: Mapping[str, str],
    bounds: Bounds = BOUNDS,
    on_wait: OnWait = None,
) -> Reply:
    """
    Send one request and return the reply, whatever its status.

    Connecting is tried twice in that time, since nothing has left by then. Raises InvalidRequest for a name that
    leads inside, Unreachable, TimedOut and BadAnswer; `sent` says whether anything left, and
    `may_have_acted` that the receiver may have got it. What `on_wait` raises passes.
    """
    deadline, request = Deadline(), _request(destination, body, headers, bounds)
    with deadline.within(bounds.total, on_wait):
        try:
            return _exchange(destination, request, deadline, bounds.most_bytes)
        except Unreachable as failure:
            if failure.sent:
                raise
        return _exchange(destination, request, deadline, bounds.most_bytes)


def _exchange(destination: Destination, request: httpcore.Request, deadline: Deadline, most_bytes: int) -> Reply:
    began, backend = time.monotonic(), _Pinned(destination, deadline)
    with httpcore.ConnectionPool(ssl_context=_tls(), network_backend=backend) as pool:
        try:
            response = pool.handle_request(request)
        except BadAddress as refusal:
            raise InvalidRequest(str(refusal), sent=False, advice="Connect another address.") from None
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise _lost(error, destination, deadline) from None
        said = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        read = _beginning(response, most_bytes)
        return Reply(response.status, said, read, round((time.monotonic() - began) * 1000))


def _request(destination: Destination, body: bytes, headers: Mapping[str, str], bounds: Bounds) -> httpcore.Request:
    # In its parts, so that no second reader of addresses sees this one.
    url = httpcore.URL(
        scheme=destination.scheme.encode(),
        host=destination.host.encode(),
        port=destination.port,
        target=destination.target.encode(),
    )
    said = {
        "Host": destination.origin.partition("://")[2],
        "User-Agent": "Definable",
        "Accept-Encoding": "identity",
        "Connection": "close",
        "Content-Length": str(len(body)),
    }
    limits = {"connect": bounds.connect, "pool": bounds.connect, "read": bounds.read, "write": bounds.read}
    return httpcore.Request(
        "POST", url, headers=[*(said | dict(headers)).items()], content=body, extensions={"timeout": limits}
    )


def _beginning(response: httpcore.Response, most: int) -> bytes:
    """The first bytes of a reply; what is late or broken is missing, for the head was whole."""
    read = b""
    try:
        for piece in response.iter_stream():
            read += piece
            if len(read) >= most:
                break
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError):
        pass
    finally:
        response.close()
    return read[:most]


def _lost(error: Exception, destination: Destination, deadline: Deadline) -> UpstreamError:
    host = destination.host
    if not deadline.has_written:
        return Unreachable(_why_not_connected(error, host), sent=False, advice=LOOK_AT_ADDRESS)
    doubt: dict[str, Any] = {"may_have_acted": True, "retryable": False, "advice": MAY_HAVE_ARRIVED}
    if isinstance(error, httpcore.TimeoutException):
        return TimedOut(f"{host} did not answer in time.", **doubt)
    if isinstance(error, httpcore.ProtocolError):
        return BadAnswer(f"What {host} answered is no HTTP, or nothing came.", **doubt)
    return Unreachable(f"The connection to {host} was lost.", **doubt)


def _why_not_connected(error: Exception, host: str) -> str:
    cause = error.__context__  # the pool drops it as a cause
    if isinstance(cause, ssl.SSLError):
        return f"The certificate of {host} is not valid for that name, or it speaks no TLS that we do."
    if isinstance(error, httpcore.TimeoutException):
        return f"{host} did not take the connection in time."
    if isinstance(cause, ConnectionRefusedError):
        return f"{host} refused the connection."
    return f"{host} could not be reached."


class _Pinned(Backend):
    """Connects to the numbers that a destination was found to stand for, and to nothing else."""

    def __init__(self, destination: Destination, deadline: Deadline) -> None:
        super().__init__(deadline)
        self._destination = destination

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> httpcore.NetworkStream:
        try:
            numbers = resolve(self._destination)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        failure: Exception = httpcore.ConnectError("the name stands for nothing")
        for number in numbers[:MOST_NUMBERS]:
            try:
                stream = super().connect_tcp(number, port, self._deadline.left(timeout), **options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            return _checked(stream, number)
        raise failure


def _checked(stream: httpcore.NetworkStream, number: str) -> httpcore.NetworkStream:
    peer = stream.get_extra_info("server_addr")[0]
    if ip_address(peer) != ip_address(number):
        stream.close()
        raise BadAddress("The connection led to another address than the one that was checked.")
    return stream


@cache
def _tls() -> ssl.SSLContext:
    # Reading the root certificates takes tens of milliseconds and a megabyte: once for all threads.
    return httpx.create_ssl_context(trust_env=False)
