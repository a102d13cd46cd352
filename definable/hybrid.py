"""
An ASGI application around a WSGI one: pages are made in a thread pool, streams are sent without a thread.

Under ASGI each of Django's middlewares makes its own hops between threads; a page costs about an
eighth of the CPU through the WSGI handler. A stream begins as a page, with all that a page is asked
for; its response has a `follow` that yields the rest, and by then its thread is free again.
"""

import asyncio
import contextvars
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from io import BytesIO
from typing import Any

from definable.middleware import HEADERS

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PIECE = 64 * 1024  # bytes of an answer handed over at once
BODY_SECONDS = 60  # a body that takes longer is an attack, or lost
SLOWEST = 30  # seconds that a browser may take for one piece of a stream


class Gone(Exception):
    """The browser went away."""


class TooLarge(Exception):
    """The body passes the limit."""


class Hybrid:
    """
    Serve `pages` (WSGI).

    A request body may have `body_limit` bytes; `on_shutdown` is called once, at the end.
    """

    def __init__(
        self,
        *,
        pages: Callable[..., Any],
        threads: int,
        body_limit: int,
        on_shutdown: Callable[[], None],
    ) -> None:
        self.pages = pages
        self.body_limit = body_limit
        self.on_shutdown = on_shutdown
        self.pool = ThreadPoolExecutor(threads, "page")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close"})
        else:
            await self._page(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.on_shutdown()
        await send({"type": "lifespan.shutdown.complete"})

    async def _page(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(scope, receive, limit=self.body_limit)
        except TooLarge:
            return await _refuse(send, 413, b"This is more than a form may send.")
        except TimeoutError:
            return await _refuse(send, 408, b"The request did not arrive in time.")
        except Gone:
            return None
        return await self._answer(_environ(scope, body), _Outlet(asyncio.get_running_loop(), receive, send))

    async def _answer(self, environ: dict[str, Any], outlet: "_Outlet") -> None:
        context = contextvars.copy_context()  # else what one request binds would show in the next one's log
        try:
            work = partial(context.run, _run, self.pages, environ, outlet)
            rest, follow = await outlet.loop.run_in_executor(self.pool, work)
            await outlet.send_all(rest)
            if follow:
                await outlet.follow(follow())
        except Gone:
            pass
        finally:
            outlet.close()


async def _body(scope: Message, receive: Receive, *, limit: int) -> BytesIO:
    """Read the request's body. Raises TooLarge before that much is in memory, and Gone."""
    if _announced(scope) > limit:
        raise TooLarge
    body, more = BytesIO(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        body.write(message.get("body", b""))
        if body.tell() > limit:  # no length was announced
            raise TooLarge
        more = message.get("more_body", False)
    body.seek(0)
    return body


def _announced(scope: Message) -> int:
    value = dict(scope["headers"]).get(b"content-length", b"")
    return int(value) if value.isdigit() else 0


async def _refuse(send: Send, status: int, text: bytes) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(text)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),  # the rest of the body is not worth reading
        *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class _Outlet:
    """Carries an answer from its thread to the browser; a thread that is ahead waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Receive, send: Send) -> None:
        self.loop, self.receive, self.send = loop, receive, send
        self.watcher: asyncio.Task[None] | None = None

    def push(self, messages: list[Message]) -> None:
        """Send from the page's thread. Raises Gone when nobody listens any more."""
        asyncio.run_coroutine_threadsafe(self._push(messages), self.loop).result()

    async def _push(self, messages: list[Message]) -> None:
        # Only a long answer is worth the watch: a server drops what is sent to nobody, silently.
        if self.watcher is None:
            self.watcher = asyncio.create_task(self._wait_for_goodbye())
        if self.watcher.done():
            raise Gone
        await self.send_all(messages)

    async def send_all(self, messages: list[Message]) -> None:
        for message in messages:
            await self.send(message)

    async def follow(self, pieces: AsyncGenerator[bytes, None]) -> None:
        """Send a stream until it ends, or the browser leaves or takes nothing any more."""
        self.watcher = asyncio.create_task(self._wait_for_goodbye())
        sender = asyncio.create_task(self._send_stream(pieces))
        try:
            await asyncio.wait({self.watcher, sender}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        fault = None if sender.cancelled() else sender.exception()
        if fault and not isinstance(fault, TimeoutError):  # else it was the browser that took nothing
            raise fault

    async def _send_stream(self, pieces: AsyncGenerator[bytes, None]) -> None:
        async with aclosing(pieces):
            async for piece in pieces:
                async with asyncio.timeout(SLOWEST):
                    await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})

    async def _wait_for_goodbye(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def close(self) -> None:
        if self.watcher:
            self.watcher.cancel()


def _run(
    pages: Callable[..., Any], environ: dict[str, Any], outlet: _Outlet
) -> tuple[list[Message], Callable[[], AsyncGenerator[bytes, None]] | None]:
    """
    Run one page in its thread and return the messages not yet sent, and what follows them in a stream.

    A short answer is returned whole, which saves a hop; a long one is pushed in pieces.
    """
    started: Message = {}

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> None:
        pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        started.update(type="http.response.start", status=int(status[:3]), headers=pairs)

    response = pages(environ, start_response)
    try:
        follow = getattr(response, "follow", None)
        if follow and environ["REQUEST_METHOD"] == "GET":
            return [started], follow
        waiting: list[Message] = [started]
        for piece in [] if environ["REQUEST_METHOD"] == "HEAD" else _pieces(response):
            if waiting[-1]["type"] == "http.response.body":
                outlet.push(waiting)
                waiting = []
            waiting.append({"type": "http.response.body", "body": piece, "more_body": True})
        return [*waiting, {"type": "http.response.body", "body": b""}], None
    finally:
        if close := getattr(response, "close", None):
            close()  # Django gives its database connection back here


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Join small chunks and cut large ones, to PIECE bytes."""
    piece = bytearray()
    for chunk in chunks:
        piece += chunk
        while len(piece) >= PIECE:
            yield bytes(piece[:PIECE])
            del piece[:PIECE]
    if piece:
        yield bytes(piece)


def _environ(scope: Message, body: BytesIO) -> dict[str, Any]:
    """Translate an ASGI request into a WSGI one."""
    host, port = (scope.get("server") or ("localhost", 80))[:2]
    address, remote_port = (scope.get("client") or ("", 0))[:2]
    return {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": str(host),
        "SERVER_PORT": str(port or 0),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": address,
        "REMOTE_PORT": str(remote_port),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        **_header_variables(scope["headers"]),
        "CONTENT_LENGTH": str(len(body.getbuffer())),  # what came, also when no length was announced
    }


def _header_variables(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if "_" in name:
            continue  # x_forwarded_proto would pass for x-forwarded-proto
        key = name.upper().replace("-", "_")
        key = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"
        if key in variables:
            value = f"{variables[key]}{'; ' if name == 'cookie' else ','}{value}"
        variables[key] = value
    return variables
