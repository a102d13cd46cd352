"""Which models of a catalog somebody looks for, in which order, and how many each choice would leave. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from integrations.facts import ModelFacts, Prices

MILLION = 1_000_000
PAGE = 50
YES = "1"
CEILINGS = ("0.10", "0.50", "1", "3", "10")  # dollars for a million tokens in
DAYS_OF_MONTHS, DAYS_OF_YEARS = 31, 730  # from how many days on an age is told in months, in years


@dataclass(frozen=True, slots=True)
class Facet:
    """One way to narrow the list: what each model counts under. `options` fixes which values there are."""

    label: str
    values: Callable[[ModelFacts], Iterable[str]]
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sort:
    """One order of the list: `key` is small for what comes first, None for what comes last."""

    label: str
    key: Callable[[ModelFacts], Any]
    lacks: str = ""  # what those that come last have in common


@dataclass(frozen=True, slots=True)
class Choice:
    """What somebody looks for: words, one value of each facet in `picked`, and the order."""

    words: str = ""
    picked: Mapping[str, str] = field(default_factory=dict)
    sort: str = "newest"

    def without(self, facet: str) -> "Choice":
        return replace(self, picked={name: value for name, value in self.picked.items() if name != facet})

    def including(self, facet: str, value: str) -> "Choice":
        return replace(self, picked={**self.picked, facet: value})


@dataclass(frozen=True, slots=True)
class Option:
    """One value of a facet, and how many models choosing it would leave."""

    value: str
    count: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """One page of a list. `before` and `after` are the ids that neighbouring pages start behind; None: no page."""

    models: Sequence[ModelFacts]
    first: int
    before: str | None
    after: str | None


def per_million(price: Decimal | None) -> Decimal | None:
    """Return a price per token as one per million tokens."""
    return None if price is None else price * MILLION


def is_free(prices: Prices) -> bool:
    """Whether nothing at all is charged. An unknown price is not free."""
    return (prices.tokens_in, prices.tokens_out, prices.request) == (0, 0, 0)


def is_dearer(price: Decimal | None, ceiling: str) -> bool:
    """Whether a price per token is above a ceiling per million, or not known to be below it."""
    return price is None or price * MILLION > Decimal(ceiling)


def _yes(holds: bool) -> tuple[str, ...]:
    return (YES,) if holds else ()


FACETS: Mapping[str, Facet] = {
    "author": Facet("Author", lambda model: (model.author,)),
    "takes": Facet("Takes", lambda model: model.input_modalities),
    "gives": Facet("Gives", lambda model: model.output_modalities),
    "most_in": Facet(
        "Price in",
        lambda model: [each for each in CEILINGS if not is_dearer(model.prices.tokens_in, each)],
        CEILINGS,
    ),
    "free": Facet("Free", lambda model: _yes(is_free(model.prices)), (YES,)),
    "zdr": Facet("Zero retention", lambda model: _yes(bool(model.zdr_endpoints)), (YES,)),
    "tools": Facet("Tools", lambda model: _yes("tools" in model.parameters), (YES,)),
    "structured": Facet("Structured output", lambda model: _yes("structured_outputs" in model.parameters), (YES,)),
}

SORTS: Mapping[str, Sort] = {
    "newest": Sort("Newest", lambda model: model.listed_at and -model.listed_at.timestamp(), "no known date"),
    "price_in": Sort("Cheapest in", lambda model: model.prices.tokens_in, "no fixed price in"),
    "price_out": Sort("Cheapest out", lambda model: model.prices.tokens_out, "no fixed price out"),
    "context": Sort(
        "Largest context", lambda model: model.context_length and -model.context_length, "no known context"
    ),
    "name": Sort("Name", lambda model: model.name.casefold() or None, "no name"),
}


def listed(models: Iterable[ModelFacts]) -> list[ModelFacts]:
    """Return the models that the provider lists today."""
    return [model for model in models if not model.is_gone]


def matching(models: Iterable[ModelFacts], choice: Choice) -> list[ModelFacts]:
    """Return the models that have every word in their id or name, and every picked value."""
    words = choice.words.casefold().split()
    return [model for model in models if _has(model, words) and _is_picked(model, choice.picked)]


def _has(model: ModelFacts, words: Sequence[str]) -> bool:
    text = f"{model.id} {model.name}".casefold()
    return all(word in text for word in words)


def _is_picked(model: ModelFacts, picked: Mapping[str, str]) -> bool:
    return all(value in FACETS[name].values(model) for name, value in picked.items())


def options(models: Iterable[ModelFacts], choice: Choice, facet: str) -> list[Option]:
    """
    Return a facet's values with what choosing each would leave, in place of the value that is chosen now.

    The chosen one is always among them; values that nothing has are left out unless the facet names them.
    """
    left = matching(models, choice.without(facet))
    counts = Counter(value for model in left for value in set(FACETS[facet].values(model)))
    chosen = {choice.picked[facet]} if facet in choice.picked else set()
    values = FACETS[facet].options or sorted(counts.keys() | chosen)
    return [Option(value, counts[value]) for value in values]


def in_order(models: Iterable[ModelFacts], sort: str) -> tuple[list[ModelFacts], int]:
    """Return models in an order, and how many of them come last since what it goes by is not known."""
    key = SORTS[sort].key
    known = [(key(model), model) for model in models]
    first = sorted(((each, model) for each, model in known if each is not None), key=lambda it: (it[0], it[1].id))
    last = sorted((model for each, model in known if each is None), key=lambda model: model.id)
    return [*(model for _, model in first), *last], len(last)


def stretch(models: Sequence[ModelFacts], after: str) -> Stretch:
    """Return the page behind the model with this id; the first one when there is none of that id."""
    ids = [model.id for model in models]
    start = ids.index(after) + 1 if after in ids else 0
    end = start + PAGE
    before = (ids[start - PAGE - 1] if start > PAGE else "") if start else None
    return Stretch(models[start:end], start + 1, before, ids[end - 1] if end < len(ids) else None)


def age(listed_at: datetime | None, now: datetime) -> str:
    """Say how long ago a model was first listed; empty when that is not known."""
    if listed_at is None:
        return ""
    days = max(0, (now.astimezone(UTC).date() - listed_at.astimezone(UTC).date()).days)
    if days < DAYS_OF_MONTHS:
        return _counted(days, "day") if days else "today"
    return _counted(days * 12 // 365, "month") if days < DAYS_OF_YEARS else _counted(days // 365, "year")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
