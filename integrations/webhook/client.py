"""Sends signed deliveries to the address of a connection. It knows HTTP and nothing else."""

import time
from typing import Any
from uuid import UUID

from integrations import errors, outgoing, signing
from integrations.deadlines import OnWait
from integrations.errors import UpstreamError
from integrations.outgoing import Bounds, Reply
from integrations.webhook.kept import split
from integrations.wire import Answer, Request
from vault.secret import Secret

LONGEST_WAIT = 24 * 3600  # seconds that a receiver may ask us to stay away
FAULTS: dict[int, tuple[type[UpstreamError], str]] = {
    401: (errors.KeyRefused, "Connect it anew with the secret that the receiver has."),
    403: (errors.KeyRefused, "Connect it anew with the secret that the receiver has."),
    408: (errors.Overloaded, "Try again."),
    410: (errors.Gone, "Revoke this connection: the receiver wants no more deliveries."),
    429: (errors.RateLimited, "Wait until then, or send less often."),
}


class Webhook:
    """Builds deliveries and sends them. Its address comes with each connection, so the one of the client is unused."""

    def __init__(self, base_url: str = "", *, bounds: Bounds = outgoing.BOUNDS) -> None:
        self._bounds = bounds

    def delivery(self, body: bytes) -> Request:
        """One POST of these bytes."""
        return Request("POST", "", body=body)

    def send(
        self, request: Request, *, key: Secret | None, request_id: UUID, on_wait: OnWait = None, **_of_models: Any
    ) -> Answer:
        """
        Sign and post once, and return what the receiver answered, or raise a kind of UpstreamError.

        The webhook-id is `request.once`, the same for all tries of a stage.
        """
        if key is None:
            raise errors.KeyRefused("A delivery needs a connected webhook.", sent=False)
        destination, secret = split(key)
        event = f"msg_{(request.once or request_id).hex}"
        headers = signing.sign(secret, event=event, timestamp=int(time.time()), body=request.body)
        reply = outgoing.post(
            destination,
            body=request.body,
            headers=headers | {"Content-Type": "application/json"},
            bounds=self._bounds,
            on_wait=on_wait,
        )
        if not 200 <= reply.status < 300:
            raise _fault(reply, destination.host)
        return Answer(reply.status, {"id": event, "to": destination.origin}, latency_ms=reply.latency_ms)


def _fault(reply: Reply, host: str) -> UpstreamError:
    """What an answer that is no success means. Nothing that the receiver wrote is repeated."""
    said = f"{host} answered {reply.status}."
    kind, advice = FAULTS.get(reply.status, (None, ""))
    if kind is None and reply.status >= 500:
        kind, advice = errors.Overloaded, "Look at the receiver, or try again."
    elif kind is None and reply.status < 400:
        said = f"{host} answered {reply.status}, which leads elsewhere; that is not followed."
        kind, advice = errors.InvalidRequest, "Connect the address that it leads to."
    elif kind is None:
        kind, advice = errors.InvalidRequest, "Look at the receiver: it does not take this delivery."
    return kind(said, code=reply.status, retry_after=_retry_after(reply), advice=advice)


def _retry_after(reply: Reply) -> float | None:
    told = reply.headers.get("retry-after", "")
    return float(min(int(told), LONGEST_WAIT)) if told.isascii() and told.isdigit() and len(told) < 10 else None
