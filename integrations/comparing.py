"""Up to four models beside each other: a row for each figure, and which of its values is the best. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from integrations.models import CatalogModel
from integrations.offering import Offer, Priced

MOST = 4
NOT_TOLD = "not told"
NOT_KNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Compared:
    """One model with what its price comes to and the endpoints that are known of it."""

    model: CatalogModel
    priced: Priced
    offers: Sequence[Offer]

    @property
    def zdr(self) -> list[Offer]:
        return [offer for offer in self.offers if offer.row.is_zdr]


@dataclass(frozen=True, slots=True)
class Value:
    """
    What one model has of a figure; `missing` says why `number` is None.

    `of` is whose it is when it is the best among several endpoints.
    """

    number: Decimal | None
    missing: str = NOT_TOLD
    of: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A value as the table shows it; `is_best` when no other model has a better one and one has a worse."""

    model: CatalogModel
    value: Value
    is_best: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of every model. `unit` says how its numbers are written, `best` what the best of them is called."""

    label: str
    unit: str
    best: str
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that models are compared by: `takes_most` when more of it is better."""

    label: str
    unit: str
    best: str
    takes_most: bool
    value: Callable[[Compared], Value]


def rows(compared: Sequence[Compared]) -> list[Row]:
    """Return a row for each figure, in the order of FIGURES."""
    return [_row(figure, compared) for figure in FIGURES]


def parameters(compared: Sequence[Compared]) -> tuple[list[str], list[tuple[str, list[tuple[CatalogModel, bool]]]]]:
    """Return the parameters that every model may be given, and those that only some may, with who may."""
    each = [set(one.model.parameters) for one in compared]
    shared = set.intersection(*each) if each else set()
    some = sorted(set().union(*each) - shared)
    return sorted(shared), [(name, [(one.model, name in one.model.parameters) for one in compared]) for name in some]


def _row(figure: Figure, compared: Sequence[Compared]) -> Row:
    values = [figure.value(one) for one in compared]
    known = [value.number for value in values if value.number is not None]
    best = (max if figure.takes_most else min)(known, default=None)
    # Where all are alike, or only one is known, none is better than another.
    differ = len(set(known)) > 1
    cells = [
        Cell(one.model, value, differ and value.number == best) for one, value in zip(compared, values, strict=True)
    ]
    return Row(figure.label, figure.unit, figure.best, cells)


# --- what each figure is of a model ---------------------------------------------------------


def _price(name: str) -> Callable[[Compared], Value]:
    return lambda one: Value(getattr(one.priced, name), one.priced.unpriced)


def _column(name: str) -> Callable[[Compared], Value]:
    return lambda one: _counted(getattr(one.model, name))


def _counted(number: int | None) -> Value:
    return Value(None if number is None else Decimal(number))


def _zdr_price(one: Compared) -> Value:
    missing = NOT_TOLD if one.zdr else "none without retention"
    return _best_of(one.zdr, lambda offer: offer.priced.tokens_in, min, missing)


def _providers(one: Compared) -> Value:
    if one.model.endpoints_at is None:
        return Value(None, NOT_KNOWN)
    return _counted(len({offer.row.provider_slug for offer in one.offers}))


def _measured(figure: Callable[[Offer], Decimal | None], pick: Callable) -> Callable[[Compared], Value]:
    return lambda one: _best_of(one.offers, figure, pick, NOT_TOLD if one.offers else NOT_KNOWN)


def _best_of(offers: Iterable[Offer], figure: Callable[[Offer], Decimal | None], pick: Callable, missing: str) -> Value:
    told = [(number, offer.row.provider_name) for offer in offers if (number := figure(offer)) is not None]
    if not told:
        return Value(None, missing)
    number, name = pick(told, key=lambda each: each[0])
    return Value(number, of=name)


FIGURES = (
    Figure("In, per 1M tokens", "usd", "lowest", False, _price("tokens_in")),
    Figure("Out, per 1M tokens", "usd", "lowest", False, _price("tokens_out")),
    Figure("30 days of this use", "usd", "lowest", False, _price("month")),
    Figure("Cheapest in, without retention", "usd", "lowest", False, _zdr_price),
    Figure("Endpoints without retention", "count", "most", True, lambda one: _counted(len(one.zdr))),
    Figure("Providers", "count", "most", True, _providers),
    Figure("Context, tokens", "count", "largest", True, _column("context_length")),
    Figure("Longest answer, tokens", "count", "longest", True, _column("max_output")),
    Figure("First token", "ms", "quickest", False, _measured(lambda offer: offer.latency[0], min)),
    Figure("Tokens a second", "speed", "most", True, _measured(lambda offer: offer.throughput[0], max)),
    Figure("Uptime", "share", "highest", True, _measured(lambda offer: offer.uptime, max)),
    Figure("Parameters", "count", "most", True, lambda one: _counted(len(one.model.parameters))),
)
