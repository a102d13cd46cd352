"""Sockets: reading requests, writing the journal, sending replies at their pace."""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

from .consent import consent_page
from .control import PREFIX as CONTROL
from .control import Control
from .errors import ApiError
from .exchange import Reply, Request, json_reply
from .journal import Journal
from .service import PREFIX, Service

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MOST_BYTES = 10 * 1024 * 1024
# A little more is read and thrown away, so that the sender hears the refusal instead of a reset.
MOST_DRAINED = 8 * MOST_BYTES
SAVE_EVERY = 1.0


class ClientGone(Exception):
    """The other side closed the connection before the reply was out."""


class App:
    """The ASGI application: `/api/v1` is the service, `/auth` asks its users, `/__sandbox` scripts it."""

    def __init__(self, service: Service, journal: Journal) -> None:
        self._service = service
        self._journal = journal
        self._control = Control(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._exchange(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        saver = asyncio.create_task(self._keep_saving())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        saver.cancel()
        self._service.books.save()
        await send({"type": "lifespan.shutdown.complete"})

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY)
            self._service.books.save()

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await _read_body(receive)
        except ClientGone:
            return
        request = _read_request(scope, body or b"")
        reply = self._reply(request, scope["path"], too_large=body is None)
        try:
            await _Line(receive, send).deliver(reply)
        except ClientGone:
            if reply.on_gone:
                reply.on_gone()

    def _reply(self, request: Request, path: str, *, too_large: bool) -> Reply:
        if path.startswith(f"{CONTROL}/"):
            return self._control.reply(request)
        if path == "/auth":
            return consent_page(request, self._service.oauth)
        if not path.startswith(f"{PREFIX}/"):
            return json_reply({"error": ApiError(404).chat_error()}, 404)
        try:
            reply = (
                json_reply({"error": ApiError(413).chat_error()}, 413) if too_large else self._service.reply(request)
            )
        except Exception:  # noqa: BLE001 -- a mistake of ours is the service's 500, and still one line in the journal
            traceback.print_exc()
            reply = json_reply({"error": ApiError(500).chat_error()}, 500)
        self._journal.write(request, reply)
        return reply


class _Line:
    """One connection, on which a reply is sent for as long as somebody listens."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._gone = asyncio.Event()

    async def deliver(self, reply: Reply) -> None:
        """Send the reply at its pace; raises ClientGone when the client leaves first."""
        watch = asyncio.create_task(self._watch())
        try:
            await self._deliver(reply)
        except asyncio.CancelledError:
            # The process is ending. Without this, uvicorn would answer 500 on the service's behalf.
            self._hang_up()
            raise
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()

    async def _deliver(self, reply: Reply) -> None:
        if reply.silent is not None:
            await self._pause(reply.silent)
            self._hang_up()
            return
        await self._pause(reply.wait)
        if reply.cut == "head":
            self._hang_up()
            return
        await self._begin(reply)
        pause = reply.spread / len(reply.pieces)
        for number, piece in enumerate(reply.pieces):
            if number:
                await self._pause(pause)
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        if reply.cut:
            await asyncio.sleep(0)
            self._hang_up()
            return
        await self._send({"type": "http.response.body", "body": b""})

    async def _begin(self, reply: Reply) -> None:
        headers = dict(reply.headers)
        if len(reply.pieces) == 1 and not reply.cut:
            headers["content-length"] = str(len(reply.pieces[0]))
        raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": reply.status, "headers": raw})

    async def _pause(self, seconds: float) -> None:
        """Wait, but not for somebody who has left."""
        if seconds <= 0:
            await asyncio.sleep(0)
        else:
            try:
                await asyncio.wait_for(self._gone.wait(), None if seconds == float("inf") else seconds)
            except TimeoutError:
                pass
        if self._gone.is_set():
            raise ClientGone

    def _hang_up(self) -> None:
        """Close the connection as it is. ASGI has no word for that, so this asks uvicorn's transport."""
        self._send.__self__.transport.close()


async def _read_body(receive: Receive) -> bytes | None:
    """The whole body, or None when it is too large; raises ClientGone."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        size += len(message.get("body", b""))
        if size <= MOST_BYTES:
            parts.append(message.get("body", b""))
        else:
            parts.clear()
        if not message.get("more_body") or size > MOST_DRAINED:
            return b"".join(parts) if size <= MOST_BYTES else None


def _read_request(scope: Scope, body: bytes) -> Request:
    # The raw path, so that an encoded slash in a model's name stays where it is.
    path = scope["raw_path"].decode("latin-1").partition("?")[0]
    return Request(
        method=scope["method"],
        path=path.removeprefix(PREFIX),
        query=dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        body=body,
    )
