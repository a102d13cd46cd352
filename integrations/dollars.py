"""US dollars in words: what limits, refusals and pages say."""

from decimal import ROUND_HALF_EVEN, Decimal

MICRO = Decimal("0.000001")
CENT = Decimal("0.01")


def in_dollars(amount: Decimal) -> str:
    """
    Write US dollars: two decimals from $1 up, six below with trailing zeros cut to two.

    Less than a millionth of a dollar is "<$0.000001", never $0.00: something was charged.
    """
    sign, amount = ("−" if amount < 0 else ""), abs(amount)
    if 0 < amount < MICRO:
        return f"{sign}<$0.000001"
    if amount >= 1:
        return f"{sign}${amount.quantize(CENT, ROUND_HALF_EVEN):,}"
    whole, _, decimals = f"{amount.quantize(MICRO, ROUND_HALF_EVEN):f}".partition(".")
    return f"{sign}${whole}.{decimals.rstrip('0').ljust(2, '0')}"
