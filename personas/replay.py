"""
Where calls that were made would go today, under other rules. Pure: the catalog and the policies are given.

A route is a model and one provider's endpoint of it. Which endpoint served a call is known by its provider's name
alone, so the cheapest one of that provider stands for it. Where a call has to move, it is foreseen at the cheapest
endpoint that is left and long enough: that is where it would most likely go.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from integrations.facts import Catalog, EndpointFacts, ModelFacts, Prices
from integrations.patterns import is_indirect
from integrations.policy import Reach, merge
from integrations.spend_queries import Taken

NOTHING = Decimal(0)


class Outcome(StrEnum):
    SAME = "same"
    OTHER = "other"
    NONE = "none"


class Keeps(StrEnum):
    """What an endpoint's provider keeps of a call, as far as it can be known (docs/decisions/0007)."""

    NOTHING = "nothing"
    SOMETHING = "something"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Use:
    """Tokens that are read and written, and how many a single call has at most."""

    tokens_in: int
    tokens_out: int
    longest: int = 0

    def cost(self, prices: Prices, calls: int = 1) -> Decimal | None:
        """US dollars; None where a price is not known."""
        if None in (prices.tokens_in, prices.tokens_out, prices.request):
            return None
        return prices.tokens_in * self.tokens_in + prices.tokens_out * self.tokens_out + prices.request * calls


@dataclass(frozen=True, slots=True)
class Route:
    """A model, and the endpoint that serves it; None where nobody knows which."""

    model: str
    endpoint: EndpointFacts | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """
    Calls that went one way, and where they would go.

    `usd`: what they would cost in US dollars; None where a price is not known. What is refused costs nothing.
    """

    taken: Taken
    keeps: Keeps
    outcome: Outcome
    now: Route
    after: Route | None
    usd: Decimal | None


def replay(taken: Taken, reach: Reach, chain: Sequence[str]) -> Replayed:
    """Say where calls would go. `chain`: the models to be asked if the one that was asked may not be."""
    known = reach.catalog
    facts = found(taken, known)
    served_by = _served_by(facts, taken.provider, known) if facts else []
    use = Use(taken.tokens_in, taken.tokens_out, taken.longest)
    now = Route(taken.asked, cheapest(served_by, use))
    after = next(_routes_left(facts, now, use, reach, [taken.asked, *chain]), None)
    outcome = _outcome(facts, now, after, reach)
    return Replayed(taken, _keeps(facts, served_by), outcome, now, after, _usd_after(taken, use, now, after, outcome))


def found(taken: Taken, known: Catalog) -> ModelFacts | None:
    """The model that answered: the one that was asked for, or the one that a router or preset chose."""
    asked = None if is_indirect(taken.asked) else known.find(taken.asked)
    return asked or known.find(taken.model)


def route_now(model: str, reach: Reach) -> Route | None:
    """Where a call to a model would most likely go, if it may."""
    return next(_routes_left(None, Route("", None), Use(1, 1), reach, [model]), None)


def cheapest(endpoints: Sequence[EndpointFacts], use: Use) -> EndpointFacts | None:
    """The endpoint that asks least; one whose price is not known only where there is no other."""
    return min(endpoints, key=lambda each: (use.cost(each.prices) is None, use.cost(each.prices) or 0), default=None)


def _served_by(facts: ModelFacts, provider: str, known: Catalog) -> list[EndpointFacts]:
    names = {provider.lower()} - {""}
    return [each for each in endpoints_of(facts) if names & {each.provider.lower(), _name(each, known.providers)}]


def endpoints_of(facts: ModelFacts) -> tuple[EndpointFacts, ...]:
    """All endpoints of a model that are known."""
    return facts.endpoints if facts.endpoints is not None else facts.zdr_endpoints


def _name(endpoint: EndpointFacts, providers: Mapping) -> str:
    provider = providers.get(endpoint.provider)
    return provider.name.lower() if provider else ""


def _keeps(facts: ModelFacts | None, served_by: Sequence[EndpointFacts]) -> Keeps:
    if any(each.is_zdr for each in served_by):
        return Keeps.NOTHING
    # The list of endpoints that keep nothing is published whole: a model's endpoint that is not in it may keep.
    return Keeps.SOMETHING if served_by else Keeps.UNKNOWN


def _routes_left(
    facts: ModelFacts | None, now: Route, use: Use, reach: Reach, models: Sequence[str]
) -> Iterator[Route]:
    """The routes that are left, the likeliest first."""
    for model in dict.fromkeys(models):
        if reach.why_not(model):
            continue
        of = facts if facts and model == now.model else reach.catalog.find(model)
        left = [each for each in reach.endpoints_left(of) if _is_long_enough(each, use)] if of else []
        if not left and _is_bounded(of, reach):
            continue
        stays = [each for each in left if now.endpoint and each.provider == now.endpoint.provider]
        yield Route(model, cheapest(stays if model == now.model and stays else left, use))


def _is_bounded(facts: ModelFacts | None, reach: Reach) -> bool:
    """Whether what is known of a model's endpoints is all that a call may reach."""
    return facts is not None and (facts.endpoints is not None or reach.is_sure(facts)) and bool(endpoints_of(facts))


def _is_long_enough(endpoint: EndpointFacts, use: Use) -> bool:
    return endpoint.context_length is None or endpoint.context_length >= use.longest


def _outcome(facts: ModelFacts | None, now: Route, after: Route | None, reach: Reach) -> Outcome:
    if after is None:
        return Outcome.NONE
    if now.model != after.model:
        return Outcome.OTHER
    if now.endpoint is None or after.endpoint is None:
        return Outcome.SAME if _shuts_nothing_out(facts, reach) else Outcome.OTHER
    return Outcome.SAME if now.endpoint.provider == after.endpoint.provider else Outcome.OTHER


def _shuts_nothing_out(facts: ModelFacts | None, reach: Reach) -> bool:
    """Whether a call may go wherever it went, though nobody knows where that was."""
    if facts is None or not reach.merged.rules.names:
        return True
    return reach.endpoints_left(facts) == Reach(merge([]), reach.catalog).endpoints_left(facts)


def _usd_after(taken: Taken, use: Use, now: Route, after: Route | None, outcome: Outcome) -> Decimal | None:
    """What was paid, and by how much the listed prices of both endpoints differ for these tokens."""
    if after is None:
        return NOTHING
    if outcome == Outcome.SAME:
        return taken.cost_usd
    new = use.cost(after.endpoint.prices, taken.calls) if after.endpoint else None
    old = use.cost(now.endpoint.prices, taken.calls) if now.endpoint else taken.cost_usd
    return None if new is None or old is None else max(NOTHING, taken.cost_usd + new - old)
