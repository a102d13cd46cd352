"""Why a stage, or what it asks, does not go on."""

from integrations.errors import Withdrawn


class StageFailed(Exception):
    """
    The stage cannot go on; the message says why and what to do.

    `again`: later it may, as it stands, and trying doubles nothing. `seconds`: not before so long, if known.
    """

    def __init__(self, message: str, *, again: bool = False, seconds: float | None = None) -> None:
        self.again, self.seconds = again, seconds
        super().__init__(message)


class Stopped(Withdrawn):
    """Somebody stopped the run: between two tries, or in the middle of one."""


class TimeIsOver(Withdrawn):
    """The time that a stage may take is over in the middle of a call."""

    words = "It was ended, since the time of its stage was over. What was billed is asked for."


class Parked(Exception):
    """The stage must wait this many seconds for a rate limit; `why` says for which."""

    def __init__(self, seconds: float, why: str = "") -> None:
        self.seconds, self.why = seconds, why
        super().__init__(why)
