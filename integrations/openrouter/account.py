"""What is kept and said of the account that a key belongs to."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from integrations.dollars import in_dollars
from integrations.registry import Trial

KEPT = ("label", "kind", "limit", "limit_remaining", "limit_reset", "is_free_tier", "expires_at", "usage")


def account(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to keep of a key's description of itself."""
    return {name: data[name] for name in KEPT if name in data}


def rows(kept: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a page says of it."""
    return [
        ("Key", str(kept.get("label") or "")),
        ("Kind", "Management key" if kept.get("kind") == "management" else "API key"),
        ("Spending limit", _limit(kept)),
        ("Account", "Free tier: never bought OpenRouter balance" if kept.get("is_free_tier") else "Paid"),
    ]


def _limit(kept: Mapping[str, Any]) -> str:
    if not kept.get("limit"):
        return "None set at OpenRouter"
    resets = f", resets {kept['limit_reset']} at 00:00 UTC" if kept.get("limit_reset") else ""
    return f"{_usd(kept['limit'])}, {_usd(kept.get('limit_remaining'))} left{resets}"


def _usd(amount: Any) -> str:
    return "not reported" if amount is None else in_dollars(Decimal(amount))


TRIAL = Trial("get_current_key", account=account, rows=rows)
