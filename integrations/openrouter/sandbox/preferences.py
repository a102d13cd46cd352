"""The `provider` object of a request: which hosts may answer, and in what order they are asked."""

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from .errors import invalid
from .fields import mapping

QUANTIZATIONS = {
    *("int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32"),
    "unknown",
}
SORTS = {"price", "throughput", "latency", "exacto"}
PRICES = ("prompt", "completion", "request", "image", "audio")
# Fields that are a parameter under another name, by the name endpoint records list.
PARAMETERS = {
    "reasoning_effort": "reasoning",
    "thinking": "reasoning",
    "stop_sequences": "stop",
    "output_config": "structured_outputs",
}
NAMED_THE_SAME = {
    *("temperature", "top_p", "top_k", "min_p", "top_a", "seed", "stop", "max_tokens", "max_completion_tokens"),
    *("frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs"),
    *("prediction", "response_format", "tools", "tool_choice", "parallel_tool_calls", "include_reasoning"),
    *("reasoning", "web_search_options", "verbosity"),
}


@dataclass(frozen=True)
class Preferences:
    """What a request wants of the host. Names are in lower case; prices are per million tokens, picture or request."""

    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allow_fallbacks: bool = True
    zdr: bool = False
    deny_training: bool = False
    quantizations: frozenset[str] = frozenset()
    max_price: dict[str, Decimal] = field(default_factory=dict)
    sort: str | None = None
    parameters: frozenset[str] = frozenset()  # what a host must support; empty unless required


def read_preferences(body: dict[str, Any]) -> Preferences:
    """The `provider` object of either format; raises ApiError(400) for a bad value, ignores unknown fields."""
    wish = mapping(body, "provider")
    return Preferences(
        order=_names(wish, "order"),
        only=_names(wish, "only"),
        ignore=_names(wish, "ignore"),
        allow_fallbacks=_flag(wish, "allow_fallbacks", default=True),
        zdr=_flag(wish, "zdr", default=False),
        deny_training=_one_of(wish.get("data_collection"), {"allow", "deny"}, "data_collection") == "deny",
        quantizations=_quantizations(wish),
        max_price=_max_price(wish),
        sort=_sort(wish.get("sort")),
        parameters=_parameters(body) if _flag(wish, "require_parameters", default=False) else frozenset(),
    )


def _names(wish: dict[str, Any], name: str) -> tuple[str, ...]:
    value = [] if wish.get(name) is None else wish[name]
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise invalid(f"provider.{name}: expected an array of strings")
    return tuple(entry.lower() for entry in value)


def _flag(wish: dict[str, Any], name: str, *, default: bool) -> bool:
    value = wish.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(f"provider.{name}: expected true or false")
    return default if value is None else value


def _one_of(value: Any, allowed: set[str], name: str) -> str | None:
    if value is not None and (not isinstance(value, str) or value not in allowed):
        raise invalid(f"provider.{name}: expected one of {', '.join(sorted(allowed))}")
    return value


def _quantizations(wish: dict[str, Any]) -> frozenset[str]:
    names = _names(wish, "quantizations")
    for name in names:
        _one_of(name, QUANTIZATIONS, "quantizations")
    return frozenset(names)


def _sort(value: Any) -> str | None:
    if isinstance(value, dict):
        _one_of(value.get("partition"), {"model", "none"}, "sort.partition")
        value = value.get("by")
    return _one_of(value, SORTS, "sort")


def _max_price(wish: dict[str, Any]) -> dict[str, Decimal]:
    limits = mapping(wish, "max_price")
    return {name: _amount(limits[name], name) for name in PRICES if limits.get(name) is not None}


def _amount(value: Any, name: str) -> Decimal:
    """US dollars, written as a number or as text."""
    try:
        amount = Decimal("NaN") if isinstance(value, bool) else Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise invalid(f"provider.max_price.{name}: expected a price in US dollars")
    return amount


def _parameters(body: dict[str, Any]) -> frozenset[str]:
    """Every parameter this request sends, by the name endpoint records list."""
    sent = {name for name, value in body.items() if value is not None}
    named = (sent & NAMED_THE_SAME) | {PARAMETERS[name] for name in sent & PARAMETERS.keys()}
    wants_schema = mapping(body, "response_format").get("type") == "json_schema"
    return frozenset(named | ({"structured_outputs"} if wants_schema else set()))
