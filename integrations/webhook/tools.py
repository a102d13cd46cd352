"""The one tool of webhooks: a signed delivery to an address of the team's choice."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from integrations.arguments import Arguments
from integrations.invalid import refuse
from integrations.registry import Hints, Integration, Tool, Trial
from integrations.webhook.client import Webhook
from integrations.webhook.kept import CONNECTING
from integrations.wire import Answer, Request

MOST_BYTES = 256 * 1024


class DeliverArguments(Arguments):
    """What a delivery says."""

    event: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$", examples=["report.ready"])]
    """What happened, in words that the receiver knows."""
    data: dict[str, Any] = Field(default_factory=dict)
    """What to tell about it: any JSON object."""

    @model_validator(mode="after")
    def _is_not_too_long(self) -> "DeliverArguments":
        if len(body_of(self)) > MOST_BYTES:
            raise refuse(f"A delivery has at most {MOST_BYTES // 1024} KiB.", "Send less at once.", at="data")
        return self


def body_of(arguments: DeliverArguments) -> bytes:
    """The bytes that are signed and sent: the same for the same arguments, at every try."""
    said = {"type": arguments.event, "data": arguments.data}
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def _deliver(arguments: DeliverArguments, client: Webhook, platform: Mapping[str, Any] | None = None) -> Request:
    return client.delivery(body_of(arguments))


def _delivered(answer: Answer, arguments: DeliverArguments) -> dict[str, Any]:
    return {"status": answer.status, "ms": answer.latency_ms, **answer.data}


DELIVER = Tool(
    name="deliver",
    title="Deliver",
    summary="Send an event with JSON data to the connected webhook, signed.",
    when_to_use=(
        "Use it to hand a result to another system. The answer says with which status the receiver took it, "
        "and the delivery's id; what the receiver wrote is not read."
    ),
    arguments=DeliverArguments,
    hints=Hints(holds_text=True, keeps_id=True),
    prepare=_deliver,
    read=_delivered,
)

WEBHOOK = Integration(
    slug="webhook",
    name="Webhook",
    about="Signed deliveries to an address of your own: what personas and flows make goes on into other systems.",
    site_url="https://www.standardwebhooks.com",
    client=Webhook,
    tools=(DELIVER,),
    connecting=CONNECTING,
    trial=Trial("deliver", {"event": "definable.test"}, account=lambda data: {"label": data["to"]}),
)
