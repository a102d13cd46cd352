"""
Which endpoints of a model lie inside the rules, as far as the catalog knows. Pure.

What is asked upstream and what is checked here are the same limits: a request carries them in its
`provider` object, and this module foresees whether anything is left.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from integrations.facts import Catalog, EndpointFacts, ModelFacts
from integrations.policy.names import Names, any_covers, shortest

MILLION = Decimal(1_000_000)
# Variants of a tag that stand for a service tier. A provider's slug does not mean them: a request
# reaches them by their full tag, or by its `service_tier`.
TIERS = ("flex", "priority", "fast", "scale", "ultrafast")

Keeps = Callable[[EndpointFacts], bool]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request asks of endpoints, all sources merged. Prices are US dollars per million tokens."""

    only: frozenset[str] | None = None
    ignore: frozenset[str] = frozenset()
    max_in: Decimal | None = None
    max_out: Decimal | None = None
    named: frozenset[str] = frozenset()  # what the request names, in lower case
    any_tier: bool = False  # it asks for a service tier, whichever the provider has

    def reaches(self, endpoint: EndpointFacts) -> bool:
        """Whether a request would ask this endpoint at all: tiers answer only those who ask for them."""
        return not is_tier(endpoint.tag) or self.any_tier or endpoint.tag.lower() in self.named

    def sieves(self) -> Iterator[tuple[str, Keeps]]:
        """Each limit with the name of its rule."""
        allowed, denied = self.only, self.ignore
        if allowed is not None:
            yield "providers_only", lambda endpoint: any_covers(allowed, endpoint.tag.lower())
        if denied:
            yield "providers_never", lambda endpoint: not any_covers(denied, endpoint.tag.lower())
        if self.max_in is not None:
            yield "max_price_in", lambda endpoint: within(endpoint.prices.tokens_in, self.max_in)
        if self.max_out is not None:
            yield "max_price_out", lambda endpoint: within(endpoint.prices.tokens_out, self.max_out)


def left_over(endpoints: Iterable[EndpointFacts], limits: Limits) -> tuple[list[EndpointFacts], str]:
    """The endpoints inside all limits, and the rule that left none (empty while some are left)."""
    left = [endpoint for endpoint in endpoints if limits.reaches(endpoint)]
    for rule, keeps in limits.sieves():
        kept = [endpoint for endpoint in left if keeps(endpoint)]
        if left and not kept:
            return [], rule
        left = kept
    return left, ""


def per_million(price: Decimal | None) -> Decimal | None:
    """A price per token as policies and pages write it."""
    return None if price is None else price * MILLION


def within(price: Decimal | None, most: Decimal | None) -> bool:
    """Whether a price per token is known, and at most so many US dollars per million."""
    if most is None:
        return True
    return price is not None and price.is_finite() and 0 <= price * MILLION <= most


def is_tier(tag: str) -> bool:
    return tag.lower().rpartition("/")[2] in TIERS and "/" in tag


def with_tiers(names: Iterable[str]) -> list[str]:
    """
    Names to ignore, with the service tiers of each whole provider.

    Upstream a slug does not mean them, so that denying `openai` alone would leave `openai/flex`.
    """
    listed = list(dict.fromkeys(names))
    tiers = [f"{name}/{tier}" for name in listed if "/" not in name for tier in TIERS]
    return listed + [tag for tag in tiers if tag not in listed]


def slugs(names: Iterable[str], catalog: Catalog) -> Names:
    """Names as slugs and tags that a request may carry: stars and display names looked up in the catalog."""
    by_name = {provider.name.lower(): slug for slug, provider in catalog.providers.items()}
    found: list[str] = []
    for name in names:
        if name.endswith("*"):
            found += [slug for slug in catalog.providers if slug.startswith(name[:-1])]
            continue
        slug, slash, variant = name.partition("/")
        slug = slug if slug in catalog.providers else by_name.get(slug, slug)
        found.append(f"{slug}{slash}{variant}")
    return shortest(found)


def inside(regions: Iterable[str], catalog: Catalog, models: Iterable[ModelFacts]) -> Names:
    """
    What is known to compute in some regions only: whole providers by slug, single endpoints by tag.

    A provider counts when it says where all its data centres are and all are inside; an endpoint
    counts when its tag names the region. Where the company has its seat says nothing.
    """
    allowed = set(regions)
    whole = [
        slug
        for slug, provider in catalog.providers.items()
        if provider.datacenters and {place.lower() for place in provider.datacenters} <= allowed
    ]
    tags = [
        endpoint.tag.lower()
        for model in models
        for endpoint in (*(model.endpoints or ()), *model.zdr_endpoints)
        if endpoint.tag.lower().partition("/")[2] in allowed
    ]
    return shortest([*whole, *tags])
