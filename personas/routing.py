"""What to try next when a model says no. Pure decisions: no clock, no rows, no network."""

from collections.abc import Sequence
from dataclasses import dataclass

from integrations.errors import EmptyAnswer, UpstreamError


@dataclass(frozen=True, slots=True)
class Try:
    """Ask this model next; `choice` is its place in the chain, 0 the first."""

    model: str
    choice: int


@dataclass(frozen=True, slots=True)
class Park:
    """Every model is busy: come back after this many seconds, with the chain afresh."""

    seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No other model would help; the last failure says why."""


Decision = Try | Park | GiveUp


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed: which place of the chain, and how."""

    choice: int
    error: UpstreamError


LONGEST_WAIT = 15 * 60.0  # seconds a run may be parked for a rate limit
SHORTEST_WAIT = 5.0


def decide(chain: Sequence[str], failures: Sequence[Failure]) -> Decision:
    """
    Decide the next attempt of a stage from what has failed so far, oldest first.

    An empty answer is worth one more try of the same model, since it is not billed. Any other
    failure uses its model up, unless no model on this key could do better.
    """
    if not failures:
        return Try(chain[0], 0)
    last = failures[-1]
    tries = sum(failure.choice == last.choice for failure in failures)
    if isinstance(last.error, EmptyAnswer) and tries == 1:
        return Try(chain[last.choice], last.choice)
    if not last.error.try_next_model:
        return GiveUp()
    if last.choice + 1 < len(chain):
        return Try(chain[last.choice + 1], last.choice + 1)
    return _park_or_give_up([failure.error for failure in failures])


def _park_or_give_up(errors: Sequence[UpstreamError]) -> Decision:
    waits = [error.retry_after for error in errors if error.retry_after is not None]
    if not all(error.retryable for error in errors) or not waits or min(waits) > LONGEST_WAIT:
        return GiveUp()
    return Park(max(SHORTEST_WAIT, min(waits)))
