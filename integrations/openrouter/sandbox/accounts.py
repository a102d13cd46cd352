"""Who pays: an account with its balance, its user and its one workspace."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from .free import Counter, FreeUse
from .money import as_text

SHARED_ACCOUNT = "shared"
# Enough for any demo; a test that wants to run out says what it has.
SHARED_BALANCE = Decimal(1000)


@dataclass
class Account:
    """Who pays, in US dollars, and who may ask free models so often."""

    total_credits: Decimal
    total_usage: Decimal = Decimal(0)
    free: FreeUse = field(default_factory=FreeUse)

    @property
    def balance(self) -> Decimal:
        return self.total_credits - self.total_usage


def user_id(account: str) -> str:
    """The user who owns an account."""
    return f"user_{sha256(account.encode()).hexdigest()[:27]}"


def workspace_id(account: str) -> str:
    """The default workspace of an account; it has no other."""
    return str(uuid5(NAMESPACE_URL, f"workspace:{account}"))


def account_data(account: Account) -> dict[str, Any]:
    """An account as it is kept in a file."""
    # The counter of the minute is not worth keeping.
    today = account.free.day
    return {
        "total_credits": as_text(account.total_credits),
        "total_usage": as_text(account.total_usage),
        "free": {"day": today.period.isoformat(), "used": today.used},
    }


def read_account(row: dict[str, Any]) -> Account:
    account = Account(Decimal(row["total_credits"]), Decimal(row["total_usage"]))
    if free := row.get("free"):
        account.free.day = Counter(datetime.fromisoformat(free["day"]), free["used"])
    return account
