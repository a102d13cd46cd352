"""The one shape in which every tool answers, whatever the integration."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from integrations.errors import UpstreamError
from integrations.wire import Answer

MOST_DIGITS = 40

Attempts = Sequence[Mapping[str, Any]]


def build_result(data: Mapping[str, Any], answer: Answer, *, attempts: Attempts = ()) -> dict[str, Any]:
    """
    The result of a call that worked, ready for JSON: decimals are text.

    `attempts` lists the exchanges it took, when there was more than one.
    """
    return plain(
        {
            "successful": True,
            "data": data,
            "error": None,
            "meta": {
                "status": answer.status,
                "generation_id": answer.generation_id,
                "model": answer.model,
                "provider": answer.provider,
                "cost": answer.cost_usd,
                "usage": {"tokens_in": answer.tokens_in, "tokens_out": answer.tokens_out},
                "latency_ms": answer.latency_ms,
                "attempts": attempts,
            },
        }
    )


def build_failure(error: UpstreamError, *, attempts: Attempts = ()) -> dict[str, Any]:
    """The result of a call that failed, in the same shape; `data` holds the text that came before it failed."""
    return plain(
        {
            "successful": False,
            "data": {"partial_text": error.partial_text} if error.partial_text else {},
            "error": {
                "outcome": error.outcome,
                "code": error.code,
                "error_type": error.error_type,
                "message": error.message,
                "retryable": error.retryable,
                "retry_after": error.retry_after,
                "provider_name": error.provider_name,
                "metadata": error.metadata,
                "availability": error.availability,
                "replacement_url": error.replacement_url,
            },
            "meta": {
                "status": error.code,
                "generation_id": error.generation_id,
                "model": "",
                "provider": error.provider_name,
                "cost": error.cost_usd,
                "usage": {"tokens_in": None, "tokens_out": None},
                "latency_ms": None,
                "attempts": attempts,
            },
        }
    )


def plain(value: Any) -> Any:
    """The same value out of JSON's own types. An exact number becomes text, so that it stays exact."""
    if isinstance(value, Decimal):
        # 1E+999999999 is ten bytes of JSON; written out it would be a gigabyte.
        return format(value, "f") if abs(value.adjusted()) <= MOST_DIGITS else str(value)
    if isinstance(value, Mapping):
        return {str(name): plain(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    return value
