"""What a scripted fault does to a finished reply on its way out."""

from .exchange import Reply
from .rules import Fault

GARBAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
GARBAGE_EVENT = b'data: {"id":"gen-0000000000-garbage","choices":[{"index":0,"delta":{"content":"half a w\n\n'
SLICES = 8
SLOW_PAUSE = 0.5


def spoil(reply: Reply, fault: Fault | None) -> Reply:
    """The reply as this fault lets it through. Faults of content were dealt with where the content was made."""
    if fault is None:
        return reply
    reply.headers |= fault.headers
    if fault.kind == "silence":
        reply.silent = float("inf") if fault.delay is None else fault.delay
    elif fault.kind == "cut":
        reply.cut = "head" if fault.at == "head" else "body"
        reply.pieces = _sliced(reply) if len(reply.pieces) == 1 else reply.pieces
        reply.pieces = reply.pieces[: max(len(reply.pieces) // 2, 1)]
    elif fault.kind == "slow":
        reply.pieces = _sliced(reply) if len(reply.pieces) == 1 else reply.pieces
        reply.spread = (SLOW_PAUSE if fault.delay is None else fault.delay) * len(reply.pieces)
    elif fault.kind == "garbage":
        reply.pieces = [reply.pieces[0], GARBAGE_EVENT] if reply.streams else [GARBAGE]
    if fault.delay is not None and fault.kind not in ("silence", "slow"):
        reply.wait += fault.delay
    return reply


def _sliced(reply: Reply) -> list[bytes]:
    """One body as several pieces."""
    body = b"".join(reply.pieces)
    size = max(len(body) // SLICES, 1)
    return [body[start : start + size] for start in range(0, len(body), size)]
