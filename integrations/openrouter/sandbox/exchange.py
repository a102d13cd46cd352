"""One request as it arrived and one reply as it will leave."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from hashlib import sha256
from typing import Any

from .errors import ApiError


@dataclass
class Request:
    """What a client sent. `path` is without the `/api/v1` in front."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @cached_property
    def bearer(self) -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    @property
    def key_sha256(self) -> str | None:
        return sha256(self.bearer.encode()).hexdigest() if self.bearer else None

    @cached_property
    def any_json(self) -> Any:
        """The body as JSON; raises ApiError where it is not."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise ApiError(400, "Invalid JSON in request body") from None

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object; raises ApiError where it is anything else."""
        if not isinstance(self.any_json, dict):
            raise ApiError(400, "Invalid request parameters: expected an object")
        return self.any_json

    @property
    def wants_metadata(self) -> bool:
        new = self.headers.get("x-openrouter-metadata")
        return (new or self.headers.get("x-openrouter-experimental-metadata", "")).lower() == "enabled"


@dataclass
class Reply:
    """
    What will be sent: `pieces` one after another, `spread` seconds over all of them.

    `silent` seconds of nothing, or `cut` (`head` before the status line, `body`
    half way through), stand for connections that go wrong.
    """

    status: int
    pieces: list[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    streams: bool = False
    wait: float = 0
    spread: float = 0
    silent: float | None = None
    cut: str = ""
    model: str | None = None
    generation_id: str | None = None
    cost: Decimal | None = None
    on_gone: Callable[[], None] | None = None


def json_bytes(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def json_reply(data: Any, status: int = 200, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    """A reply whose only piece is `data` as JSON."""
    return Reply(status, [json_bytes(data)], {"content-type": "application/json", **(headers or {})}, **more)


def chat_event(data: dict[str, Any]) -> bytes:
    return b"data: " + json_bytes(data) + b"\n\n"


def messages_event(data: dict[str, Any]) -> bytes:
    return b"event: " + data["type"].encode() + b"\n" + chat_event(data)
