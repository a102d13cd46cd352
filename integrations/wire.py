"""What passes between our code and a service: a request ready to leave, and the answer that came back."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from vault.secret import Secret

Streams = Literal["chat", "messages"] | None  # in whose format the answer comes piece by piece, if it does


@dataclass(frozen=True, slots=True)
class Request:
    """
    One HTTP exchange, ready to be sent.

    `body` is the exact bytes that leave, so its hash can be logged first.
    `billable` means that the service may charge for it; `needs_key` that it
    refuses strangers; `mints` that the answer brings a new key. `secrets` are
    what the body holds that nobody may read in an answer or an error. `once` is set
    when it is sent: the same for all tries of one stage, for services that know a repetition by it.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)  # holds a prompt: never printed
    streams: Streams = None
    billable: bool = False
    needs_key: bool = True
    mints: bool = False
    secrets: tuple[Secret, ...] = field(default=(), repr=False, compare=False)
    once: UUID | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the model wants called. `arguments` is its JSON text, unchecked, at least `{}`."""

    id: str
    name: str
    arguments: str = field(default="{}", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What a service said.

    `data` is the JSON body; for a stream, the body the same request would have
    got without streaming. `cost_usd` and the token counts are None when the
    service did not say; `first_token_ms` is set for streams only. `secret` is
    the key that a request made with `mints`: it is nowhere in `data`.
    """

    status: int
    data: dict[str, Any] = field(repr=False)
    generation_id: str = ""
    model: str = ""
    provider: str = ""
    text: str = field(default="", repr=False)
    finish_reason: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: Decimal | None = None
    first_token_ms: int | None = None
    latency_ms: int = 0
    tool_calls: tuple[ToolCall, ...] = ()
    secret: Secret | None = field(default=None, compare=False)
