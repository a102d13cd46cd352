"""What each tool returns: the useful part of an answer, named plainly, safe against odd answers."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from integrations.openrouter.arguments import (
    EmbeddingModelsArguments,
    EndpointsArguments,
    ModelsArguments,
    ModelsCountArguments,
    ProvidersArguments,
    UserModelsArguments,
    ZdrArguments,
)
from integrations.openrouter.arguments.base import Arguments
from integrations.openrouter.payload import as_dict, as_text, dicts
from integrations.openrouter.rows import (
    best_first,
    by_model,
    catalog_id,
    embedding_row,
    endpoint_row,
    exact,
    fits,
    impact,
    in_order,
    listed,
    mentions,
    model_row,
    provider_row,
    served_by,
)
from integrations.wire import Answer

Data = dict[str, Any]


# --- models' answers ------------------------------------------------------------------------


def chat(answer: Answer, _: Arguments) -> Data:
    choice = next(iter(dicts(answer.data.get("choices"))), {})
    message, usage = as_dict(choice.get("message")), as_dict(answer.data.get("usage"))
    return {
        "id": answer.generation_id,
        "model": answer.model,
        "provider": answer.provider,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "native_finish_reason": choice.get("native_finish_reason"),
        "tool_calls": [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in answer.tool_calls],
        "reasoning": message.get("reasoning"),
        "reasoning_details": dicts(message.get("reasoning_details")),
        "annotations": dicts(message.get("annotations")),
        "images": dicts(message.get("images")),
        "refusal": message.get("refusal"),
        "usage": {
            "prompt": answer.tokens_in,
            "completion": answer.tokens_out,
            "reasoning": as_dict(usage.get("completion_tokens_details")).get("reasoning_tokens"),
            "cached": as_dict(usage.get("prompt_tokens_details")).get("cached_tokens"),
            "cost": answer.cost_usd,
            "is_byok": usage.get("is_byok"),
        },
    }


def message(answer: Answer, _: Arguments) -> Data:
    usage, content = as_dict(answer.data.get("usage")), dicts(answer.data.get("content"))
    return {
        "id": answer.generation_id,
        "model": answer.model,
        "provider": answer.provider,
        "text": answer.text,
        "content": content,
        "tool_uses": [_tool_use(block) for block in content if block.get("type") == "tool_use"],
        "stop_reason": answer.data.get("stop_reason"),
        "stop_details": answer.data.get("stop_details"),
        "usage": {
            "input": answer.tokens_in,
            "output": answer.tokens_out,
            "cache_read": usage.get("cache_read_input_tokens"),
            "cache_write": usage.get("cache_creation_input_tokens"),
            "cost": answer.cost_usd,
        },
    }


def _tool_use(block: Data) -> Data:
    return {"id": block.get("id"), "name": block.get("name"), "input": as_dict(block.get("input"))}


# --- account ---------------------------------------------------------------------------------


def credits(answer: Answer, _: Arguments) -> Data:
    data = as_dict(answer.data.get("data"))
    bought, used = exact(data.get("total_credits")), exact(data.get("total_usage"))
    return {
        "total_credits": bought,
        "total_usage": used,
        "balance": None if bought is None or used is None else bought - used,
        "as_of": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def key(answer: Answer, _: Arguments) -> Data:
    return key_facts(as_dict(answer.data.get("data")), datetime.now(UTC))


_KEY_FIELDS = (
    "label",
    "limit",
    "limit_remaining",
    "limit_reset",
    "include_byok_in_limit",
    "usage",
    "usage_daily",
    "usage_weekly",
    "usage_monthly",
    "byok_usage",
    "byok_usage_daily",
    "byok_usage_weekly",
    "byok_usage_monthly",
    "is_free_tier",
    "is_management_key",
    "creator_user_id",
    "expires_at",
    "allowed_data_regions",
    "budgets",
    "effective_budget",
    "free_model_daily_requests",
    "organization_id",
    "workspace_id",
)


def key_facts(data: Data, now: datetime) -> Data:
    """What the key says of itself, and what follows from it at this moment."""
    expires_at = _instant(data.get("expires_at"))
    return {name: data[name] for name in _KEY_FIELDS if name in data} | {
        "kind": "management" if data.get("is_management_key") is True else "api",
        "remaining_usd": _remaining(data),
        "resets_at": _resets_at(data, now),
        "expired": expires_at is not None and expires_at <= now,
    }


def _remaining(data: Data) -> Decimal | None:
    """What the tightest limit leaves; None when nothing limits the key."""
    budget = as_dict(data.get("effective_budget"))
    left = [exact(data.get("limit_remaining")), exact(budget.get("remaining_usd"))]
    return min((amount for amount in left if amount is not None), default=None)


def _resets_at(data: Data, now: datetime) -> str | None:
    """When the key's own limit starts again: at midnight UTC, weeks on Monday, months on the 1st."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match data.get("limit_reset"):
        case "daily":
            return (today + timedelta(days=1)).isoformat()
        case "weekly":
            return (today + timedelta(days=7 - today.weekday())).isoformat()
        case "monthly":
            return (today.replace(day=1) + timedelta(days=32)).replace(day=1).isoformat()
        case _:
            return None


def _instant(value: Any) -> datetime | None:
    try:
        instant = datetime.fromisoformat(as_text(value))
    except ValueError:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


_GENERATION_FIELDS = (
    "id",
    "model",
    "created_at",
    "provider_name",
    "total_cost",
    "upstream_inference_cost",
    "cache_discount",
    "is_byok",
    "streamed",
    "cancelled",
    "latency",
    "generation_time",
    "moderation_latency",
    "finish_reason",
    "native_finish_reason",
    "tokens_prompt",
    "tokens_completion",
    "native_tokens_prompt",
    "native_tokens_completion",
    "native_tokens_reasoning",
    "native_tokens_cached",
    "num_search_results",
    "num_fetches",
    "api_type",
    "router",
    "service_tier",
    "data_region",
    "request_id",
    "session_id",
)


def generation(answer: Answer, _: Arguments) -> Data:
    data = as_dict(answer.data.get("data"))
    attempts = dicts(data.get("provider_responses"))
    shown = ("provider_name", "model_permaslug", "status", "latency", "is_byok")
    return {name: data.get(name) for name in _GENERATION_FIELDS} | {
        "attempts": [{name: attempt.get(name) for name in shown} for attempt in attempts]
    }


def charge(answer: Answer, _: Arguments) -> Data:
    return as_dict(answer.data.get("data"))


# --- catalog ---------------------------------------------------------------------------------


def models_count(answer: Answer, arguments: ModelsCountArguments) -> Data:
    return {
        "count": as_dict(answer.data.get("data")).get("count"),
        "output_modalities": arguments.output_modalities or ["text"],
    }


def models(answer: Answer, arguments: ModelsArguments) -> Data:
    if arguments.free_only:
        return _page([model for model in listed(answer.data) if _is_free(model)], arguments, model_row)
    rows = [model_row(model) for model in listed(answer.data)]
    total = answer.data.get("total_count")
    return {"models": rows, "total": total if isinstance(total, int) else len(rows), "offset": arguments.offset}


def _is_free(model: Data) -> bool:
    return as_text(model.get("id")).endswith(":free")


def embedding_models(answer: Answer, arguments: EmbeddingModelsArguments) -> Data:
    return _page([model for model in listed(answer.data) if mentions(model, arguments.q)], arguments, embedding_row)


def user_models(answer: Answer, arguments: UserModelsArguments) -> Data:
    chosen = [model for model in listed(answer.data) if fits(model, arguments)]
    return _page(in_order(chosen, arguments.sort), arguments, model_row)


def _page(found: list[Data], arguments: Any, row: Any) -> Data:
    shown = found[arguments.offset : arguments.offset + arguments.limit]
    return {"models": [row(model) for model in shown], "total": len(found), "offset": arguments.offset}


def endpoints(answer: Answer, arguments: EndpointsArguments) -> Data:
    data = as_dict(answer.data.get("data"))
    rows = [endpoint_row(endpoint) for endpoint in dicts(data.get("endpoints"))]
    return {
        "model": as_text(data.get("id")) or arguments.model,
        "name": as_text(data.get("name")),
        "endpoints": best_first(rows, arguments.sort),
    }


def providers(answer: Answer, arguments: ProvidersArguments) -> Data:
    rows = [provider_row(provider) for provider in listed(answer.data)]
    wanted = {slug.casefold() for slug in arguments.slug or ()}
    return {"providers": [row for row in rows if not wanted or row["slug"].casefold() in wanted]}


def zdr_endpoints(answer: Answer, arguments: ZdrArguments) -> Data:
    chosen = [endpoint for endpoint in listed(answer.data) if _wanted(endpoint, arguments)]
    groups = by_model(chosen)
    shown = list(groups.values())[arguments.offset : arguments.offset + arguments.limit]
    return {
        "models": shown,
        "total": len(groups),
        "offset": arguments.offset,
        "impact": impact(arguments.impact_on, groups) if arguments.impact_on else None,
    }


def _wanted(endpoint: Data, arguments: ZdrArguments) -> bool:
    model, provider = arguments.model, arguments.provider
    return (model is None or endpoint.get("model_id") == catalog_id(model)) and (
        provider is None or served_by(endpoint, provider)
    )
