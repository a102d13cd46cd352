"""
How long a model is left in peace after it failed: a pure function of (rest, event).

Rows are in `personas.resting`. Only what says something about the model counts. Not our own bad
requests, a refused key, a policy, an impatience of our own, or what never left this machine.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from integrations.errors import Overloaded, RateLimited, TimedOut, UpstreamError

FIRST = 5.0  # seconds of the first rest; each further failure in a row doubles it
SHORTEST = 1.0
LONGEST = 15 * 60.0
MOST_FAILURES = 100  # counted further it would change nothing
# Failures in a row that bring no rest of our own: a busy model may be lucky next time, and a
# service that names its own time is believed until that proved too short three times.
SPARED = {"told": 3, "busy": 2}

FREE_SUFFIX = ":free"
ALL_FREE = "*:free"  # stands for every free model of a connection
DAILY = "openrouter_free_tier_daily"
A_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Rest:
    """What is known of one model on one connection. `until` None: it may be asked."""

    until: datetime | None = None
    failures: int = 0
    outcome: str = ""

    def seconds_left(self, now: datetime) -> float:
        """For how many more seconds it is left in peace."""
        return max(0.0, (self.until - now).total_seconds()) if self.until else 0.0


AWAKE = Rest()


def after(rest: Rest, error: UpstreamError | None, now: datetime) -> Rest:
    """Return the rest that follows an event: a failure, or None for a success."""
    if error is None:
        return AWAKE
    if not counts(error):
        return rest
    # A burst of calls that were under way together is one failure, not twenty.
    is_burst = rest.seconds_left(now) > 0
    failures = min(MOST_FAILURES, rest.failures + (not is_burst))
    seconds = _seconds(error, failures, now)
    until = max(filter(None, (rest.until, now + timedelta(seconds=seconds) if seconds else None)), default=None)
    return Rest(until, failures, error.outcome)


def counts(error: UpstreamError) -> bool:
    """Whether a failure says something about its model."""
    if not error.sent:
        return False
    # Without a code it was us who hung up.
    return isinstance(error, RateLimited | Overloaded) or (isinstance(error, TimedOut) and error.code is not None)


def subject(model: str, error: UpstreamError | None) -> str:
    """Return what an event is about: its model, or all free ones when their day's number is used up."""
    return ALL_FREE if error and is_free(model) and is_daily(error) else model


def is_free(model: str) -> bool:
    """Whether a model counts against the day's number of free requests."""
    return model.endswith(FREE_SUFFIX) or model == "openrouter/free"


def is_daily(error: UpstreamError) -> bool:
    """Whether a rate limit ends with the day, by the fields of the error: its source, or a reset at midnight UTC."""
    if not isinstance(error, RateLimited):
        return False
    if error.metadata.get("limit_source") == DAILY:
        return True
    headers = error.metadata.get("headers")
    reset = str(headers.get("X-RateLimit-Reset", "")) if isinstance(headers, dict) else ""
    return reset.isdecimal() and len(reset) < 16 and int(reset) % A_DAY_MS == 0


def _seconds(error: UpstreamError, failures: int, now: datetime) -> float:
    if is_daily(error):
        return _until_midnight(now)
    told = error.retry_after
    spared = SPARED["told"] if told is not None else 0 if isinstance(error, RateLimited) else SPARED["busy"]
    own = FIRST * 2 ** min(failures - spared - 1, 20) if failures > spared else 0.0
    asked = 0.0 if told is None else max(SHORTEST, told)
    return min(LONGEST, max(own, asked))


def _until_midnight(now: datetime) -> float:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return (midnight - now).total_seconds()
