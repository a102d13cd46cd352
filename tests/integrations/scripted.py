"""A real server on a loopback port that says exactly the bytes it was told to, in the rhythm it was told to."""

import json
import socket
import struct
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

CUT = "cut"  # reset the connection
CLOSE = "close"  # end it politely, wherever the answer is

Step = bytes | float | str  # bytes to say, seconds to wait, CUT or CLOSE


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    head: bytes


@dataclass
class ScriptedServer:
    """Answers each request with the next reply, and the last one again when they run out."""

    replies: list[list[Step]]
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self._stopping = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # closing alone would leave accept() waiting, and the port open
        self._listener.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/api/v1"

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            reader = connection.makefile("rb")
            try:
                while request := read_request(reader):
                    self.seen.append(request)
                    if not self._reply(connection):
                        return
            except OSError:
                return  # the client hung up, which several tests are about

    def _reply(self, connection: socket.socket) -> bool:
        """Play one reply; False when it ended the connection."""
        for step in self.replies[min(len(self.seen), len(self.replies)) - 1]:
            if isinstance(step, bytes):
                connection.sendall(step)
            elif isinstance(step, str):
                if step == CUT:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            elif self._stopping.wait(step):
                return False
        return True


def read_request(reader: Any) -> Seen | None:
    """Read one request with its body, or None at the end of the connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline()
        if not line:
            return None
        head += line
    first, *lines = head.decode().strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    method, target, _ = first.split(" ")
    return Seen(method, target, headers, reader.read(int(headers.get("content-length", 0))), head)


def answer(body: Any, status: int = 200, **headers: str) -> list[Step]:
    """A whole answer: a value as JSON, or bytes as they are. `x_some_header` becomes X-Some-Header."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"content_type": "application/json", "content_length": str(len(data))} | headers
    return [_head(status, fields) + data]


def stream(*steps: Any, done: bool = True, ends: bool = True, **headers: str) -> list[Step]:
    """
    An event stream: a dict is one event, bytes are said as they are, a float waits, CUT and CLOSE end it.

    `done` adds `[DONE]`, `ends` the last chunk.
    """
    reply: list[Step] = [_head(200, {"content_type": "text/event-stream", "transfer_encoding": "chunked"} | headers)]
    reply += [_chunk(event(step)) if isinstance(step, dict) else _said(step) for step in steps]
    if done:
        reply.append(_chunk(b"data: [DONE]\n\n"))
    if ends:
        reply.append(b"0\r\n\r\n")
    return reply


def event(value: dict[str, Any]) -> bytes:
    """One server-sent event, with its type in front where it has one, as /messages does."""
    name = f"event: {value['type']}\n" if "type" in value else ""
    return f"{name}data: {json.dumps(value)}\n\n".encode()


def _said(step: Step) -> Step:
    return _chunk(step) if isinstance(step, bytes) else step


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _head(status: int, fields: dict[str, str]) -> bytes:
    lines = [f"{name.replace('_', '-').title()}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"HTTP/1.1 {status} Status", *lines, "", ""]).encode()
