"""
Which models of a catalog somebody looks for, in which order, and how many each choice would leave. Pure.

Somebody who looks for zero retention looks for one offer that has everything: then a model stands for
its cheapest fitting offer that retains nothing, with the price, context and parameters of that offer.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from integrations.facts import EndpointFacts, ModelFacts, Prices

MILLION = 1_000_000
PAGE = 50
YES = "1"
CEILINGS = ("0.10", "0.50", "1", "3", "10")  # dollars for a million tokens
FLOORS = ("32000", "128000", "200000", "1000000")  # tokens of context
AGES = ("30", "90", "365")  # days
DAYS_OF_MONTHS, DAYS_OF_YEARS = 31, 730  # from how many days on an age is told in months, in years
DEAR = Decimal(10_000)  # dollars for a token: what an unknown price is ordered by


@dataclass(frozen=True, slots=True)
class Facet:
    """One way to narrow the list: what each model counts under on a day. `options` fixes which values there are."""

    label: str
    values: Callable[[ModelFacts, date], Iterable[str]]
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


def offers(model: ModelFacts) -> tuple[EndpointFacts, ...]:
    """Return the endpoints that are known of a model: all, or those that retain nothing."""
    return model.zdr_endpoints if model.endpoints is None else model.endpoints


# --- facets -----------------------------------------------------------------------------


def _yes(holds: bool) -> tuple[str, ...]:
    return (YES,) if holds else ()


def _below(price: Decimal | None) -> list[str]:
    return [] if price is None else [each for each in CEILINGS if price * MILLION <= Decimal(each)]


def _holding(context: int | None) -> list[str]:
    return [each for each in FLOORS if (context or 0) >= int(each)]


def _listed_within(listed_at: datetime | None, today: date) -> list[str]:
    return [] if listed_at is None else [each for each in AGES if _days_since(listed_at, today) <= int(each)]


def _has(parameter: str) -> Callable[[ModelFacts, date], Iterable[str]]:
    return lambda model, _: _yes(parameter in model.parameters)


FACETS: Mapping[str, Facet] = {
    "author": Facet("Author", lambda model, _: (model.author,)),
    "context": Facet("Context", lambda model, _: _holding(model.context_length), FLOORS),
    "most_in": Facet("Price in", lambda model, _: _below(model.prices.tokens_in), CEILINGS),
    "most_out": Facet("Price out", lambda model, _: _below(model.prices.tokens_out), CEILINGS),
    "takes": Facet("Takes", lambda model, _: model.input_modalities),
    "gives": Facet("Gives", lambda model, _: model.output_modalities),
    "provider": Facet("Provider", lambda model, _: (offer.provider for offer in offers(model))),
    "listed": Facet("Listed within", lambda model, today: _listed_within(model.listed_at, today), AGES),
    "zdr": Facet("Zero retention", lambda model, _: _yes(bool(model.zdr_endpoints)), (YES,)),
    "tools": Facet("Tools", _has("tools"), (YES,)),
    "structured": Facet("Structured output", _has("structured_outputs"), (YES,)),
    "reasoning": Facet("Reasoning", _has("reasoning"), (YES,)),
    "free": Facet("Free", lambda model, _: _yes(is_free(model.prices)), (YES,)),
    "ending": Facet("Being withdrawn", lambda model, _: _yes(model.expires_on is not None), (YES,)),
}


def listed(models: Iterable[ModelFacts]) -> list[ModelFacts]:
    """Return the models that the provider lists today."""
    return [model for model in models if not model.is_gone]


def matching(models: Iterable[ModelFacts], choice: Choice, today: date) -> list[ModelFacts]:
    """Return the models that have every word in their id or name, and every picked value; see the module."""
    found = [_fitting(model, choice.picked, today) for model in _named(models, choice.words)]
    return [model for model in found if model]


def _named(models: Iterable[ModelFacts], words: str) -> Iterator[ModelFacts]:
    wanted = words.casefold().split()
    for model in models:
        text = f"{model.id} {model.name}".casefold() if wanted else ""
        if all(word in text for word in wanted):
            yield model


def _fitting(model: ModelFacts, picked: Mapping[str, str], today: date) -> ModelFacts | None:
    fits = [variant for variant in _variants(model, picked) if not _missed(variant, picked, today)]
    return min(fits, key=_cheapest_first, default=None)


def _variants(model: ModelFacts, picked: Mapping[str, str]) -> Iterable[ModelFacts]:
    """Return what a model can stand for: itself, or each of its offers when only those without retention count."""
    return [_as_offered(model, offer) for offer in model.zdr_endpoints] if picked.get("zdr") == YES else (model,)


def _as_offered(model: ModelFacts, offer: EndpointFacts) -> ModelFacts:
    return replace(
        model,
        prices=offer.prices,
        context_length=offer.context_length,
        parameters=offer.parameters,
        endpoints=(offer,),
        zdr_endpoints=(offer,),
    )


def _cheapest_first(model: ModelFacts) -> tuple[Decimal, Decimal, str]:
    asked = (model.prices.tokens_in, model.prices.tokens_out)
    tokens_in, tokens_out = (DEAR if price is None else price for price in asked)
    return tokens_in, tokens_out, model.zdr_endpoints[0].tag if model.zdr_endpoints else ""


def _missed(model: ModelFacts, picked: Mapping[str, str], today: date) -> list[str]:
    """Return the facets whose picked value a model does not have."""
    return [name for name, value in picked.items() if value not in FACETS[name].values(model, today)]


def options(models: Iterable[ModelFacts], choice: Choice, today: date) -> dict[str, list[Option]]:
    """
    Return each facet's values with what choosing each would leave, in place of the value that is chosen now.

    The chosen one is always among them; values that nothing has are left out unless the facet names them.
    """
    named = list(_named(models, choice.words))
    counts: dict[str, Counter[str]] = {name: Counter() for name in FACETS}
    for model in named:
        for name, values in _left_under(model, choice.picked, today).items():
            counts[name].update(values)
    # This one changes what a model stands for, so its number is another search.
    counts["zdr"][YES] = len(matching(named, choice.including("zdr", YES), today))
    return {name: _options(facet, counts[name], choice.picked.get(name)) for name, facet in FACETS.items()}


def _left_under(model: ModelFacts, picked: Mapping[str, str], today: date) -> dict[str, set[str]]:
    """Return the values of each facet that would leave this model, once each however many of its offers fit."""
    found: dict[str, set[str]] = {}
    for variant in _variants(model, picked):
        missed = _missed(variant, picked, today)
        if len(missed) > 1:
            continue
        for name in missed or FACETS:
            found.setdefault(name, set()).update(FACETS[name].values(variant, today))
    return found


def _options(facet: Facet, counts: Counter[str], chosen: str | None) -> list[Option]:
    also = {chosen} if chosen else set()
    return [Option(value, counts[value]) for value in facet.options or sorted(counts.keys() | also)]


# --- orders and pages -------------------------------------------------------------------


def _most(number: float | None) -> float | None:
    return None if number is None else -number


def _least_latency(model: ModelFacts) -> float | None:
    return min((offer.latency_ms for offer in offers(model) if offer.latency_ms is not None), default=None)


def _most_throughput(model: ModelFacts) -> float | None:
    return max((offer.throughput for offer in offers(model) if offer.throughput is not None), default=None)


SORTS: Mapping[str, Sort] = {
    "newest": Sort("Newest", lambda model: _most(model.listed_at and model.listed_at.timestamp()), "no known date"),
    "price_in": Sort("Cheapest in", lambda model: model.prices.tokens_in, "no fixed price in"),
    "price_out": Sort("Cheapest out", lambda model: model.prices.tokens_out, "no fixed price out"),
    "context": Sort("Largest context", lambda model: _most(model.context_length), "no known context"),
    "latency": Sort("Quickest first token", _least_latency, "no measured time"),
    "throughput": Sort("Most tokens a second", lambda model: _most(_most_throughput(model)), "no measured speed"),
    "name": Sort("Name", lambda model: model.name.casefold() or None, "no name"),
}


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


def age(listed_at: datetime | None, today: date) -> str:
    """Say how long ago a model was first listed; empty when that is not known."""
    if listed_at is None:
        return ""
    days = max(0, _days_since(listed_at, today))
    if days < DAYS_OF_MONTHS:
        return _counted(days, "day") if days else "today"
    return _counted(days * 12 // 365, "month") if days < DAYS_OF_YEARS else _counted(days // 365, "year")


def _days_since(moment: datetime, today: date) -> int:
    return (today - moment.astimezone(UTC).date()).days


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
