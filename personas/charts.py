"""Where the parts of a chart stand: whole numbers for inline SVG, which a template draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

WIDTH, HEIGHT = 720, 180
GAP = 1  # between parts that stand on each other
LINE = 18  # from one label to the next
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


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of one side of `ribbons`, and where the line of its label stands."""

    top: float
    height: float
    middle: float


@dataclass(frozen=True, slots=True)
class Ribbon:
    """What flows from a band of the left to one of the right, as the path of an SVG 100 wide."""

    left: int
    right: int
    path: str


def ribbons(
    amounts: Sequence[Sequence[int]], height: int = 240, gap: int = 8
) -> tuple[list[Band], list[Band], list[Ribbon]]:
    """
    Lay out how much of each on the left becomes each on the right: `amounts[left][right]`.

    Both sides share one scale; what is nothing has no height and no ribbon.
    """
    columns = list(zip(*amounts, strict=True))
    sides = [[sum(row) for row in amounts], [sum(column) for column in columns]]
    gaps = max(sum(1 for total in side if total) for side in sides) - 1
    scale = (height - max(0, gaps) * gap) / (sum(sides[0]) or 1)
    left, right = (_stand(side, scale, height, gap) for side in sides)
    at_left, at_right = [band.top for band in left], [band.top for band in right]
    found = []
    for row, of_row in enumerate(amounts):
        for column, amount in enumerate(of_row):
            if amount:
                thick = amount * scale
                found.append(Ribbon(row, column, _ribbon(at_left[row], at_right[column], thick)))
                at_left[row] += thick
                at_right[column] += thick
    return left, right, found


def _stand(totals: Sequence[int], scale: float, height: int, gap: int) -> list[Band]:
    """Bands from top to bottom, with what is left of the height between them."""
    shown = sum(1 for total in totals if total)
    gap = (height - sum(totals) * scale) / (shown - 1) if shown > 1 else gap
    bands, top, line = [], 0.0, -LINE
    for place, total in enumerate(totals):
        # A label stands beside the middle of its band, under the one before, and leaves room for those below.
        below = sum(1 for each in totals[place + 1 :] if each)
        line = min(max(top + total * scale / 2 + 5, line + LINE), height - below * LINE) if total else line
        bands.append(Band(round(top, 1), round(total * scale, 1), round(line, 1)))
        top += total * scale + (gap if total else 0)
    return bands


def _ribbon(left: float, right: float, thick: float) -> str:
    over = f"M3 {left:.1f} C45 {left:.1f} 55 {right:.1f} 97 {right:.1f}"
    return f"{over} V{right + thick:.1f} C55 {right + thick:.1f} 45 {left + thick:.1f} 3 {left + thick:.1f} Z"
