"""What free models allow: so many attempts a minute and a UTC day, for a whole account."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from .errors import ApiError

SUFFIX = ":free"
A_MINUTE = 20
A_DAY = 50
# In US dollars, over the account's life; whoever bought this much may ask more often.
MUCH_BOUGHT = Decimal(10)
A_DAY_IF_MUCH_BOUGHT = 1000
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass
class Counter:
    """Attempts in one period; at the next one it begins again at zero."""

    period: datetime = NEVER
    used: int = 0

    def used_in(self, period: datetime) -> int:
        return self.used if self.period == period else 0

    def add(self, period: datetime) -> None:
        self.period, self.used = period, self.used_in(period) + 1


@dataclass
class FreeUse:
    """An account's attempts at free models."""

    minute: Counter = field(default_factory=Counter)
    day: Counter = field(default_factory=Counter)

    def count(self, *, bought: Decimal, now: datetime) -> None:
        """Count one attempt, whatever comes of it; raises ApiError(429) where it is one too many."""
        limit, day, minute = daily_limit(bought), start_of_day(now), now.replace(second=0, microsecond=0)
        if self.day.used_in(day) >= limit:
            raise _refusal(_daily_message(limit), limit, resets_at=day + timedelta(days=1))
        if self.minute.used_in(minute) >= A_MINUTE:
            raise _refusal("free-models-per-min. ", A_MINUTE, resets_at=minute + timedelta(minutes=1))
        self.day.add(day)
        self.minute.add(minute)

    def today(self, *, bought: Decimal, now: datetime) -> dict[str, int]:
        """What GET /key shows."""
        limit, used = daily_limit(bought), self.day.used_in(start_of_day(now))
        return {"limit": limit, "used": used, "remaining": max(limit - used, 0)}


def daily_limit(bought: Decimal) -> int:
    return A_DAY_IF_MUCH_BOUGHT if bought >= MUCH_BOUGHT else A_DAY


def start_of_day(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _daily_message(limit: int) -> str:
    if limit == A_DAY:
        return f"free-models-per-day. Add 10 credits to unlock {A_DAY_IF_MUCH_BOUGHT} free model requests per day"
    return "free-models-per-day-high-balance. "


def _refusal(message: str, limit: int, *, resets_at: datetime) -> ApiError:
    headers = {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(int(resets_at.timestamp()) * 1000),
    }
    metadata = {"headers": headers, "provider_name": None}
    return ApiError(429, f"Rate limit exceeded: {message}", metadata=metadata, headers=headers)
