"""Prices and costs, in US dollars, as Decimal throughout."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

# Fine enough for one token of the cheapest model, and few enough digits for a JSON number to hold exactly.
SMALLEST = Decimal("1e-12")
MILLION = Decimal(1_000_000)


@dataclass(frozen=True)
class Cost:
    """What one answer costs."""

    prompt: Decimal = Decimal(0)
    completion: Decimal = Decimal(0)

    @property
    def total(self) -> Decimal:
        return self.prompt + self.completion

    def times(self, factor: int) -> "Cost":
        """The same answer at so many times its price."""
        return Cost(self.prompt * factor, self.completion * factor)


def price(pricing: dict[str, Any], name: str) -> Decimal:
    """US dollars per token (or per request); zero where the model has no such price or it varies."""
    return max(Decimal(pricing.get(name) or 0), Decimal(0))


def price_of(pricing: dict[str, Any], *, prompt_tokens: int) -> dict[str, Any]:
    """The prices that hold for a prompt of this length: later overrides win."""
    for override in pricing.get("overrides") or ():
        if prompt_tokens > override.get("min_prompt_tokens", -1) and "utc_start" not in override:
            pricing = {**pricing, **override}
    return pricing


def cost_of(pricing: dict[str, Any], *, prompt_tokens: int, completion_tokens: int) -> Cost:
    """What these tokens cost."""
    prices = price_of(pricing, prompt_tokens=prompt_tokens)
    kept = 1 - Decimal(str(pricing.get("discount") or 0))
    prompt = (price(prices, "prompt") * prompt_tokens + price(prices, "request")) * kept
    completion = price(prices, "completion") * completion_tokens * kept
    return Cost(prompt.quantize(SMALLEST), completion.quantize(SMALLEST))


def affordable_tokens(pricing: dict[str, Any], *, prompt_tokens: int, balance: Decimal) -> int:
    """How many completion tokens are left for after the prompt is paid."""
    rest = balance - cost_of(pricing, prompt_tokens=prompt_tokens, completion_tokens=0).total
    each = price(price_of(pricing, prompt_tokens=prompt_tokens), "completion")
    return max(int(rest / each), 0) if each else 0


def per_million(pricing: dict[str, Any], name: str) -> Decimal | None:
    """US dollars per million tokens, or None where the price varies."""
    value = Decimal(pricing.get(name) or 0)
    return None if value < 0 else value * MILLION


def as_text(value: Decimal) -> str:
    return format(value.normalize(), "f")
