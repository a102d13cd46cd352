"""A key as the service shows it: to itself, and to the management key of its account."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from .accounts import Account, user_id, workspace_id
from .intervals import INTERVALS, interval_end, iso
from .keys import Key


def own_data(key: Key, account: Account, *, now: datetime, guardrail: dict[str, Any] | None = None) -> dict[str, Any]:
    """The answer of GET /key; `guardrail` is the budget that comes on top of the key's own."""
    budgets = [*([guardrail] if guardrail else []), *([_own_budget(key, now)] if key.limit is not None else [])]
    return {
        "label": key.label,
        **_money(key, now),
        "is_free_tier": account.total_credits == 0,
        "is_management_key": key.management,
        "is_provisioning_key": key.management,
        "creator_user_id": user_id(key.account),
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "rate_limit": {"interval": "1h", "note": "This field is deprecated and safe to ignore.", "requests": -1},
        "allowed_data_regions": ["global"],
        "budgets": budgets,
        "effective_budget": min(budgets, key=lambda budget: budget["remaining_usd"], default=None),
        "free_model_daily_requests": account.free.today(bought=account.total_credits, now=now),
        "organization_id": None,
        "workspace_id": workspace_id(key.account),
    }


def managed_data(key: Key, *, now: datetime) -> dict[str, Any]:
    """A key in the answers of /keys. Its text is not among them, and nobody keeps it."""
    return {
        "hash": key.sha256,
        "name": key.name,
        "label": key.label,
        "disabled": key.disabled,
        **_money(key, now),
        "created_at": iso(key.created_at),
        "updated_at": iso(key.updated_at) if key.updated_at else None,
        "expires_at": iso(key.expires_at) if key.expires_at else None,
        "last_used_at": iso(key.last_used_at) if key.last_used_at else None,
        "creator_user_id": user_id(key.account),
        "workspace_id": workspace_id(key.account),
        "external_user": key.external_user,
    }


def budget_data(key: Key, *, scope: str, limit: Decimal, reset: str | None, now: datetime) -> dict[str, Any]:
    """One limit on what a key may spend, and how much of it is left."""
    spent = key.spent_in(reset, now)
    return {
        "scope": scope,
        "limit_usd": float(limit),
        "spend_usd": float(spent),
        "remaining_usd": float(limit - spent),
        "reset_interval": reset,
        "resets_at": interval_end(reset, now).isoformat() if reset else None,
        "include_byok": False,
        "guardrail_id": None,
        "budget_id": None,
    }


def page_of(rows: Iterable[Any], *, offset: int, limit: int) -> list[Any]:
    """One page; none are left past the end."""
    return list(rows)[offset : offset + limit]


def _own_budget(key: Key, now: datetime) -> dict[str, Any]:
    budget = budget_data(key, scope="key_limit", limit=key.limit or Decimal(0), reset=key.limit_reset, now=now)
    return budget | {"include_byok": key.include_byok}


def _money(key: Key, now: datetime) -> dict[str, Any]:
    remaining = key.limit_remaining(now)
    usage = {"usage": float(key.usage)}
    usage |= {f"usage_{interval}": float(key.spent_in(interval, now)) for interval in INTERVALS}
    return {
        "limit": None if key.limit is None else float(key.limit),
        "limit_remaining": None if remaining is None else float(remaining),
        "limit_reset": key.limit_reset,
        "include_byok_in_limit": key.include_byok,
        **usage,
        **{f"byok_{name}": 0 for name in usage},
    }
