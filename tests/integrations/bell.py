"""
A tiny integration that rings a bell, as somebody would add one: this file, and one line in the registry.

`rung` is what its client sent, with which key; `behaves` may be an exception to raise instead.
"""

import json
from typing import Annotated, Any

from pydantic import Field

from integrations.arguments import Arguments
from integrations.registry import Hints, Integration, Tool
from integrations.wire import Answer, Request

LINE = "tests.integrations.bell:BELL"
KEY = "bell-key-0123456789"

rung: list[tuple[dict[str, Any], str]] = []
behaves: list[Exception] = []


class RingArguments(Arguments):
    """How to ring."""

    tune: Annotated[str, Field(min_length=1, max_length=200)]
    """What to play."""


class Bell:
    """Builds and sends the requests."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def ring(self, tune: str) -> Request:
        return Request("POST", "/ring", body=json.dumps({"tune": tune}).encode())

    def send(self, request: Request, *, key: Any, **_listeners: Any) -> Answer:
        rung.append((json.loads(request.body), key.use()))
        if behaves:
            raise behaves.pop(0)
        return Answer(200, {"heard": json.loads(request.body)["tune"].upper()}, latency_ms=1)


RING = Tool(
    name="ring_bell",
    title="Ring the bell",
    summary="Ring the bell in the hall.",
    when_to_use="Use it when somebody should come.",
    arguments=RingArguments,
    hints=Hints(),
    prepare=lambda arguments, client, platform=None: client.ring(arguments.tune),
    read=lambda answer, arguments: answer.data,
)

BELL = Integration(
    slug="bell",
    name="Bell",
    about="The bell in the hall.",
    client=Bell,
    tools=(RING,),
    base_url="https://bell.example.com",
)
