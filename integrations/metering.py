"""What a call takes in platform credits, by the price rule of its team's plan."""

from typing import Protocol


class PriceRule(Protocol):
    """A plan, as far as prices go; all are whole platform credits or tokens."""

    read_credits: int
    model_credits: int
    tokens_per_credit: int


def price(rule: PriceRule, tokens: int | None) -> int:
    """
    Return the platform credits of a call that took this many tokens, in and out together.

    None means that no model was asked.
    """
    if tokens is None:
        return rule.read_credits
    return rule.model_credits + -(-tokens // rule.tokens_per_credit)
