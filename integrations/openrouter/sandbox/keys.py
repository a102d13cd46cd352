"""Keys, the accounts they spend from, and what has been spent."""

import secrets
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

from .accounts import SHARED_ACCOUNT, SHARED_BALANCE, Account, account_data, read_account
from .errors import ApiError
from .free import Counter, start_of_day
from .intervals import INTERVALS, interval_start
from .money import as_text

KEPT_DAYS = 40
# The creation of keys that were kept in a file before keys had one.
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)


@dataclass
class Key:
    """One key. Only its hash is kept; `spent` is by UTC day."""

    sha256: str
    label: str
    name: str = "Handed out"
    account: str = SHARED_ACCOUNT
    management: bool = False
    limit: Decimal | None = None
    limit_reset: str | None = None
    include_byok: bool = False
    disabled: bool = False
    expires_at: datetime | None = None
    external_user: str | None = None
    created_at: datetime = LONG_AGO
    updated_at: datetime | None = None
    last_used_at: datetime | None = None
    usage: Decimal = Decimal(0)
    spent: dict[date, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def spent_in(self, interval: str | None, now: datetime) -> Decimal:
        """US dollars since the interval began; since ever for None."""
        if interval is None:
            return self.usage
        start = interval_start(interval, now)
        return sum((amount for day, amount in self.spent.items() if day >= start), Decimal(0))

    def limit_remaining(self, now: datetime) -> Decimal | None:
        return None if self.limit is None else self.limit - self.spent_in(self.limit_reset, now)


class Keys:
    """All keys and accounts. `changed` is set by whatever is worth saving."""

    def __init__(self) -> None:
        self.changed = False
        self.keys: dict[str, Key] = {}
        self.accounts = {SHARED_ACCOUNT: Account(SHARED_BALANCE)}

    def mint(self, *, now: datetime, **fields: Any) -> tuple[Key, str]:
        """Make a key, and return it with its text, which is known at no other time."""
        text = f"sk-or-v1-{secrets.token_hex(32)}"
        return self._add(text, now=now, **fields), text

    def _add(self, text: str, *, now: datetime, **fields: Any) -> Key:
        key = Key(hash_of(text), label=f"{text[:12]}...{text[-4:]}", created_at=now, **fields)
        self.keys[key.sha256] = key
        self.changed = True
        return key

    def remove(self, key: Key) -> None:
        del self.keys[key.sha256]
        self.changed = True

    def hand_out(self, wish: dict[str, Any], *, now: datetime) -> str:
        """
        Make a key and return it, for the only time; or change the one that `key` names, and only as wished.

        A `balance` gives the key an account of its own, `account` names one to share;
        `free_used` says how often that account asked free models today.
        """
        if wish.get("limit_reset") not in (None, *INTERVALS):
            raise ApiError(400, f"limit_reset is one of {', '.join(INTERVALS)}")
        text = wish.get("key") or f"sk-or-v1-{secrets.token_hex(32)}"
        key = self.keys.get(hash_of(text)) or self._add(text, now=now)
        if "balance" in wish or "account" in wish:
            key.account = self.open_account(wish.get("account") or f"of-{key.sha256[:12]}", wish.get("balance"))
        if "limit" in wish:
            key.limit = None if wish["limit"] is None else Decimal(str(wish["limit"]))
        if "expired" in wish:
            key.expires_at = now - timedelta(minutes=1) if wish["expired"] else None
        if "free_used" in wish:
            self.account_of(key).free.day = Counter(start_of_day(now), wish["free_used"])
        key.limit_reset = wish.get("limit_reset", key.limit_reset)
        key.management = bool(wish.get("management", key.management))
        key.disabled = bool(wish.get("disabled", key.disabled))
        self.changed = True
        return text

    def open_account(self, name: str, balance: Any = None) -> str:
        """Make sure that there is such an account, with this balance if one is given; returns its name."""
        if balance is not None or name not in self.accounts:
            self.accounts[name] = Account(Decimal(str(SHARED_BALANCE if balance is None else balance)))
            self.changed = True
        return name

    def find(self, bearer: str | None, *, now: datetime) -> Key | None:
        """The live key of this text, or None."""
        key = self.keys.get(hash_of(bearer)) if bearer else None
        return None if key is None or key.disabled or key.has_expired(now) else key

    def need(self, bearer: str | None, *, now: datetime) -> Key:
        """The live key of this text; raises ApiError(401) and says what is wrong with it."""
        if not bearer:
            raise ApiError(401)
        key = self.keys.get(hash_of(bearer))
        if key is None:
            raise ApiError(401, "User not found.")
        if key.disabled:
            raise ApiError(401, "This API key is disabled.")
        if key.has_expired(now):
            raise ApiError(401, "This API key has expired.")
        return key

    def need_management(self, bearer: str | None, *, now: datetime) -> Key:
        """The live management key of this text; raises ApiError(401), and 403 for a key of another kind."""
        key = self.need(bearer, now=now)
        if not key.management:
            raise ApiError(403)
        return key

    def managed_by(self, manager: Key) -> list[Key]:
        """The keys of its account, newest first. Management keys cannot be managed by anybody."""
        mine = (key for key in self.keys.values() if key.account == manager.account and not key.management)
        return list(mine)[::-1]

    def account_of(self, key: Key) -> Account:
        return self.accounts[key.account]

    def charge(self, key: Key, amount: Decimal, *, now: datetime) -> None:
        """Take an amount in US dollars off the key's account."""
        key.usage += amount
        key.spent[now.date()] += amount
        key.last_used_at = now
        self.account_of(key).total_usage += amount
        self.changed = True

    def count_free(self, key: Key, *, now: datetime) -> None:
        """Count one attempt at a free model; raises ApiError(429) where the account has none left."""
        account = self.account_of(key)
        account.free.count(bought=account.total_credits, now=now)
        self.changed = True

    def data(self) -> dict[str, Any]:
        """All of it, as it is kept in a file."""
        return {
            "accounts": {name: account_data(account) for name, account in self.accounts.items()},
            "keys": [_key_data(key) for key in self.keys.values()],
        }

    def load(self, data: dict[str, Any]) -> None:
        for name, row in data["accounts"].items():
            self.accounts[name] = read_account(row)
        for row in data["keys"]:
            self.keys[row["sha256"]] = _read_key(row)


def hash_of(text: str) -> str:
    """What a key is called by whoever may not know it."""
    return sha256(text.encode()).hexdigest()


def _key_data(key: Key) -> dict[str, Any]:
    days = sorted(key.spent)[-KEPT_DAYS:]
    return {
        "sha256": key.sha256,
        "label": key.label,
        "name": key.name,
        "account": key.account,
        "management": key.management,
        "limit": None if key.limit is None else as_text(key.limit),
        "limit_reset": key.limit_reset,
        "include_byok": key.include_byok,
        "disabled": key.disabled,
        "external_user": key.external_user,
        **{name: moment and moment.isoformat() for name, moment in _moments(key).items()},
        "usage": as_text(key.usage),
        "spent": {day.isoformat(): as_text(key.spent[day]) for day in days},
    }


def _moments(key: Key) -> dict[str, datetime | None]:
    return {name: getattr(key, name) for name in ("expires_at", "created_at", "updated_at", "last_used_at")}


def _read_key(row: dict[str, Any]) -> Key:
    key = Key(
        sha256=row["sha256"],
        label=row["label"],
        account=row["account"],
        management=row["management"],
        limit=None if row["limit"] is None else Decimal(row["limit"]),
        limit_reset=row["limit_reset"],
        disabled=row["disabled"],
        usage=Decimal(row["usage"]),
        spent=defaultdict(Decimal, {date.fromisoformat(day): Decimal(v) for day, v in row["spent"].items()}),
    )
    # Files that were written before keys had these fields stay readable.
    key.name = row.get("name", key.name)
    key.include_byok = row.get("include_byok", key.include_byok)
    key.external_user = row.get("external_user")
    for name in _moments(key):
        if written := row.get(name):
            setattr(key, name, datetime.fromisoformat(written))
    return key
