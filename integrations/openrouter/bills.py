"""What a generation took, by OpenRouter's own record of it."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from integrations.openrouter.payload import as_dict, count, usd
from integrations.registry import Bills


def facts(data: Mapping[str, Any]) -> dict[str, Any]:
    """Read the body of a record; what it does not say is None."""
    record = as_dict(data.get("data"))
    return {
        "cost_usd": _cost(record),
        "tokens_in": count(record.get("native_tokens_prompt")),
        "tokens_out": count(record.get("native_tokens_completion")),
    }


def _cost(record: Mapping[str, Any]) -> Decimal | None:
    total = usd(record.get("total_cost"))
    if total is None or record.get("is_byok") is not True:
        return total
    return total + (usd(record.get("upstream_inference_cost")) or 0)


BILLS = Bills("get_generation", lambda generation_id: {"id": generation_id, "wait": False}, facts)
