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


def compare_bill(billed: Decimal, by_catalog: Decimal) -> str:
    """Compare a bill with the catalog: "billed $0.0123, catalog says $0.01: 23 % more"."""
    both = f"billed {in_dollars(billed)}, catalog says {in_dollars(by_catalog)}"
    if not by_catalog:
        return both
    share = abs(billed - by_catalog) / by_catalog * 100
    return f"{both}: {share:.0f} % {'more' if billed > by_catalog else 'less'}"
