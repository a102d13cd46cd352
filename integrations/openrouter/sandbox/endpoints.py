"""Endpoint records: one host of one model, with figures that never change between runs."""

from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Any

TIERS = {"flex": (Decimal("0.5"), "flex"), "priority": (Decimal(2), "priority")}
QUANTIZATIONS = {"int4", "int8", "fp4", "fp6", "fp8", "fp16", "bf16", "fp32"}


@dataclass(frozen=True)
class Host:
    """A provider's offer: its tag is a slug, or a slug and a region, precision or tier."""

    tag: str
    zdr: bool
    provider_name: str = ""
    caches: bool = False

    @property
    def slug(self) -> str:
        return self.tag.partition("/")[0]

    @property
    def variant(self) -> str:
        return self.tag.partition("/")[2]


def read_hosts(text: str) -> list[Host]:
    """Hosts as the facts write them: tags with a * where nothing is kept."""
    return [Host(tag.removesuffix("*"), zdr=tag.endswith("*")) for tag in text.split()]


def some(*names: str, below: int) -> int:
    """A number from 0 to below it that looks like chance and depends on the names alone."""
    return int.from_bytes(sha256("\n".join(names).encode("utf-8", "surrogatepass")).digest()) % below


def endpoint(model: dict[str, Any], host: Host, *, provider_name: str, rank: int) -> dict[str, Any]:
    """
    The record of one host. The first host asks the model's listed price.

    `_zdr` is ours and is not part of what is shown.
    """
    factor, tier = TIERS.get(host.variant, (Decimal(1) + Decimal(rank) / 20, None))
    tools = "tools" in model["supported_parameters"]
    number = some(model["id"], host.tag, below=1000)
    latency, speed = 300 + number * 2, 40 + number // 8
    variant = model["id"].partition(":")[2]
    slug = model["canonical_slug"] + (f":{variant}" if variant and ":" not in model["canonical_slug"] else "")
    return {
        "name": f"{provider_name} | {slug}",
        "model_id": model["id"],
        "model_name": model["name"],
        "context_length": model["context_length"] or 0,
        "pricing": _priced(model["pricing"], factor) | {"discount": 0},
        "provider_name": provider_name,
        "tag": host.tag,
        "quantization": host.variant if host.variant in QUANTIZATIONS else None,
        "max_completion_tokens": model["top_provider"].get("max_completion_tokens"),
        "max_prompt_tokens": None,
        "supported_parameters": model["supported_parameters"],
        "supports_implicit_caching": host.caches or "input_cache_read" in model["pricing"],
        "supports_tool_choice": {"auto": tools, "none": tools, "required": tools, "function": tools},
        "native_tools": {},
        "service_tier": tier,
        "status": 0,
        "uptime_last_5m": 100 if number % 4 else None,
        "uptime_last_30m": round(98 + number % 200 / 100, 2),
        "uptime_last_1d": round(97 + number % 300 / 100, 2),
        "supports_voice_cloning": False,
        "supports_diarization": False,
        "latency_last_30m": {"p50": latency, "p75": latency * 2, "p90": latency * 3, "p99": latency * 6},
        "throughput_last_30m": {"p50": speed, "p75": speed * 5 // 4, "p90": speed * 3 // 2, "p99": speed * 2},
        "_zdr": host.zdr,
    }


def public(row: dict[str, Any], *, with_speed: bool) -> dict[str, Any]:
    """A record as shown; strangers learn nothing about speed."""
    shown = {key: value for key, value in row.items() if not key.startswith("_")}
    return shown if with_speed else shown | {"latency_last_30m": None, "throughput_last_30m": None}


def _priced(pricing: dict[str, Any], factor: Decimal) -> dict[str, Any]:
    if factor == 1:
        return pricing
    return {
        name: format((Decimal(value) * factor).normalize(), "f")
        if isinstance(value, str) and Decimal(value) > 0
        else value
        for name, value in pricing.items()
    }
