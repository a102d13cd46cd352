"""Keys, the accounts they spend from, and what has been spent."""

import json
import os
import secrets
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

from .errors import ApiError
from .free import Counter, FreeUse, start_of_day
from .money import as_text

INTERVALS = ("daily", "weekly", "monthly")
SHARED_ACCOUNT = "shared"
# Enough for any demo; a test that wants to run out says what it has.
SHARED_BALANCE = Decimal(1000)
KEPT_DAYS = 40


@dataclass
class Account:
    """Who pays, in US dollars, and who may ask free models so often."""

    total_credits: Decimal
    total_usage: Decimal = Decimal(0)
    free: FreeUse = field(default_factory=FreeUse)

    @property
    def balance(self) -> Decimal:
        return self.total_credits - self.total_usage


@dataclass
class Key:
    """One key. Only its hash is kept; `spent` is by UTC day."""

    sha256: str
    label: str
    account: str = SHARED_ACCOUNT
    management: bool = False
    limit: Decimal | None = None
    limit_reset: str | None = None
    disabled: bool = False
    expires_at: datetime | None = None
    usage: Decimal = Decimal(0)
    spent: dict[date, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def spent_in(self, interval: str | None, now: datetime) -> Decimal:
        """US dollars since the interval began; since ever for None."""
        if interval is None:
            return self.usage
        start = interval_start(interval, now)
        return sum((amount for day, amount in self.spent.items() if day >= start), Decimal(0))

    def limit_remaining(self, now: datetime) -> Decimal | None:
        return None if self.limit is None else self.limit - self.spent_in(self.limit_reset, now)


class Keys:
    """All keys and accounts, kept in a file when there is one."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._changed = False
        self.keys: dict[str, Key] = {}
        self.accounts = {SHARED_ACCOUNT: Account(SHARED_BALANCE)}
        if path and path.exists():
            self._load(json.loads(path.read_text()))

    def hand_out(self, wish: dict[str, Any], *, now: datetime) -> str:
        """
        Make a key and return it, for the only time; or change the one that `key` names, and only as wished.

        A `balance` gives the key an account of its own, `account` names one to share;
        `free_used` says how often that account asked free models today.
        """
        if wish.get("limit_reset") not in (None, *INTERVALS):
            raise ApiError(400, f"limit_reset is one of {', '.join(INTERVALS)}")
        text = wish.get("key") or f"sk-or-v1-{secrets.token_hex(32)}"
        key = self.keys.setdefault(_hash(text), Key(_hash(text), label=f"{text[:12]}...{text[-4:]}"))
        if "balance" in wish or "account" in wish:
            key.account = self._account(wish, key)
        if "limit" in wish:
            key.limit = None if wish["limit"] is None else Decimal(str(wish["limit"]))
        if "expired" in wish:
            key.expires_at = now - timedelta(minutes=1) if wish["expired"] else None
        if "free_used" in wish:
            self.account_of(key).free.day = Counter(start_of_day(now), wish["free_used"])
        key.limit_reset = wish.get("limit_reset", key.limit_reset)
        key.management = bool(wish.get("management", key.management))
        key.disabled = bool(wish.get("disabled", key.disabled))
        self._changed = True
        self.save()
        return text

    def _account(self, wish: dict[str, Any], key: Key) -> str:
        """The name of the account wished for, opened or topped up if need be."""
        name = wish.get("account") or f"of-{key.sha256[:12]}"
        if "balance" in wish or name not in self.accounts:
            self.accounts[name] = Account(Decimal(str(wish.get("balance", SHARED_BALANCE))))
        return name

    def find(self, bearer: str | None, *, now: datetime) -> Key | None:
        """The live key of this text, or None."""
        key = self.keys.get(_hash(bearer)) if bearer else None
        dead = key is None or key.disabled or (key.expires_at and key.expires_at <= now)
        return None if dead else key

    def need(self, bearer: str | None, *, now: datetime) -> Key:
        """The live key of this text; raises ApiError(401) and says what is wrong with it."""
        if not bearer:
            raise ApiError(401)
        key = self.keys.get(_hash(bearer))
        if key is None:
            raise ApiError(401, "User not found.")
        if key.disabled:
            raise ApiError(401, "This API key is disabled.")
        if key.expires_at and key.expires_at <= now:
            raise ApiError(401, "This API key has expired.")
        return key

    def account_of(self, key: Key) -> Account:
        return self.accounts[key.account]

    def charge(self, key: Key, amount: Decimal, *, now: datetime) -> None:
        """Take an amount in US dollars off the key's account."""
        key.usage += amount
        key.spent[now.date()] += amount
        self.account_of(key).total_usage += amount
        self._changed = True

    def count_free(self, key: Key, *, now: datetime) -> None:
        """Count one attempt at a free model; raises ApiError(429) where the account has none left."""
        account = self.account_of(key)
        account.free.count(bought=account.total_credits, now=now)
        self._changed = True

    def save(self) -> None:
        """Write everything to the file, all or nothing, if anything changed."""
        if not self._path or not self._changed:
            return
        data = {
            "accounts": {name: _account_data(account) for name, account in self.accounts.items()},
            "keys": [_key_data(key) for key in self.keys.values()],
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(f"{self._path.name}.new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(data, file, indent=1)
        fresh.replace(self._path)
        self._changed = False

    def _load(self, data: dict[str, Any]) -> None:
        for name, row in data["accounts"].items():
            self.accounts[name] = _read_account(row)
        for row in data["keys"]:
            self.keys[row["sha256"]] = _read_key(row)


def interval_start(interval: str, now: datetime) -> date:
    """The first UTC day of the current day, week (from Monday) or month."""
    today = now.date()
    if interval == "weekly":
        return today - timedelta(days=today.weekday())
    return today.replace(day=1) if interval == "monthly" else today


def interval_end(interval: str, now: datetime) -> datetime:
    """When the current interval is over, at 00:00 UTC."""
    start = interval_start(interval, now)
    if interval == "monthly":
        end = (start + timedelta(days=32)).replace(day=1)
    else:
        end = start + timedelta(days=7 if interval == "weekly" else 1)
    return datetime(end.year, end.month, end.day, tzinfo=UTC)


def key_data(key: Key, account: Account, *, now: datetime) -> dict[str, Any]:
    """The answer of GET /key."""
    remaining = key.limit_remaining(now)
    budget = _budget(key, now) if key.limit is not None else None
    usage = {f"usage_{interval}": float(key.spent_in(interval, now)) for interval in INTERVALS}
    return {
        "label": key.label,
        "limit": None if key.limit is None else float(key.limit),
        "limit_remaining": None if remaining is None else float(remaining),
        "limit_reset": key.limit_reset,
        "include_byok_in_limit": False,
        "usage": float(key.usage),
        **usage,
        "byok_usage": 0,
        **{f"byok_{name}": 0 for name in usage},
        "is_free_tier": account.total_credits == 0,
        "is_management_key": key.management,
        "is_provisioning_key": key.management,
        "creator_user_id": user_id(key),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "rate_limit": {"interval": "1h", "note": "This field is deprecated and safe to ignore.", "requests": -1},
        "allowed_data_regions": ["global"],
        "budgets": [budget] if budget else [],
        "effective_budget": budget,
        "free_model_daily_requests": account.free.today(bought=account.total_credits, now=now),
        "organization_id": None,
        "workspace_id": None,
    }


def user_id(key: Key) -> str:
    return f"user_{sha256(key.account.encode()).hexdigest()[:27]}"


def _budget(key: Key, now: datetime) -> dict[str, Any]:
    spent = key.spent_in(key.limit_reset, now)
    return {
        "scope": "key_limit",
        "limit_usd": float(key.limit),
        "spend_usd": float(spent),
        "remaining_usd": float(key.limit - spent),
        "reset_interval": key.limit_reset,
        "resets_at": interval_end(key.limit_reset, now).isoformat() if key.limit_reset else None,
        "include_byok": False,
        "guardrail_id": None,
        "budget_id": None,
    }


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _account_data(account: Account) -> dict[str, Any]:
    # The counter of the minute is not worth keeping.
    today = account.free.day
    return {
        "total_credits": as_text(account.total_credits),
        "total_usage": as_text(account.total_usage),
        "free": {"day": today.period.isoformat(), "used": today.used},
    }


def _read_account(row: dict[str, Any]) -> Account:
    account = Account(Decimal(row["total_credits"]), Decimal(row["total_usage"]))
    if free := row.get("free"):
        account.free.day = Counter(datetime.fromisoformat(free["day"]), free["used"])
    return account


def _key_data(key: Key) -> dict[str, Any]:
    days = sorted(key.spent)[-KEPT_DAYS:]
    return {
        "sha256": key.sha256,
        "label": key.label,
        "account": key.account,
        "management": key.management,
        "limit": None if key.limit is None else as_text(key.limit),
        "limit_reset": key.limit_reset,
        "disabled": key.disabled,
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "usage": as_text(key.usage),
        "spent": {day.isoformat(): as_text(key.spent[day]) for day in days},
    }


def _read_key(row: dict[str, Any]) -> Key:
    return Key(
        sha256=row["sha256"],
        label=row["label"],
        account=row["account"],
        management=row["management"],
        limit=None if row["limit"] is None else Decimal(row["limit"]),
        limit_reset=row["limit_reset"],
        disabled=row["disabled"],
        expires_at=datetime.fromisoformat(row["expires_at"]) if row["expires_at"] else None,
        usage=Decimal(row["usage"]),
        spent=defaultdict(Decimal, {date.fromisoformat(day): Decimal(v) for day, v in row["spent"].items()}),
    )
