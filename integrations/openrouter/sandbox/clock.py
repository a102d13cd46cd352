"""The service's own time, which a test can move forward."""

from datetime import UTC, datetime, timedelta
from typing import Any

from .errors import invalid

FURTHEST = timedelta(days=3660)


class Clock:
    """Real time in UTC, and whatever it was moved forward by."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def advance(self, data: dict[str, Any]) -> None:
        """Move by the `advance` seconds of a request; raises ApiError(400)."""
        seconds = data.get("advance")
        if set(data) != {"advance"} or isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise invalid("expected {advance: seconds}")
        if not 0 <= seconds <= (FURTHEST - self._ahead).total_seconds():
            raise invalid(f"advance: expected seconds from 0, and at most {FURTHEST.days} days in all")
        self._ahead += timedelta(seconds=seconds)

    def reset(self) -> None:
        self._ahead = timedelta()

    def describe(self) -> dict[str, Any]:
        return {"now": self.now().isoformat(), "ahead": self._ahead.total_seconds()}
