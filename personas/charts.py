"""Where the parts of a chart stand: whole numbers for inline SVG, which a template draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

WIDTH, HEIGHT = 720, 180
GAP = 1  # between parts that stand on each other
SERIES = 5  # told apart at most; what is left is one more, drawn hatched


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle: its place from the top left, and which series it is of, from 1."""

    x: int
    y: int
    width: int
    height: int
    series: int


def stacked_bars(bars: Sequence[Sequence[Decimal]]) -> list[Part]:
    """
    Stand the amounts of each bar on each other, the first at the bottom, on one scale that begins at zero.

    What is more than nothing is at least one unit high.
    """
    highest = max((sum(bar, Decimal(0)) for bar in bars), default=Decimal(0))
    step = WIDTH // max(1, len(bars))
    width = max(1, min(48, step - max(1, step // 5)))
    parts = []
    for place, bar in enumerate(bars):
        left, top = place * step + (step - width) // 2, HEIGHT
        for series, amount in enumerate(bar, start=1):
            if amount <= 0:
                continue
            height = max(1, int(amount / highest * HEIGHT))
            top = max(0, top - height)
            parts.append(Part(left, top, width, max(1, height - GAP), series))
    return parts
