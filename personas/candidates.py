"""From a chain and its rule to the models that may be asked, best first. Pure: the catalog is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from integrations.facts import Catalog, ModelFacts
from integrations.fitting import TEXT, Needs, misfit, ranked
from integrations.patterns import ROUTERS, matches
from personas.chains import Routing, is_pattern, named
from personas.routing import Candidate

MOST_PICKED = 6  # that a rule offers; no answer asks more than four of them
BY_RULE = {"cheapest": "cheapest", "fastest": "fastest", "largest": "one with the largest context"}

Refuses = Callable[[str], str]


class NoCandidates(Exception):
    """No model can be named; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Picked:
    """The candidates, and in words how they were found where a rule did it."""

    candidates: tuple[Candidate, ...]
    words: str = ""

    @property
    def fitting(self) -> list[Candidate]:
        return [candidate for candidate in self.candidates if not candidate.misfit]


def pick(chain: Sequence[str], routing: str, catalog: Catalog, needs: Needs, refuses: Refuses) -> Picked:
    """
    Return the models that may be asked. `refuses` says in words why our own limits refuse one, or nothing.

    What is named one by one and does not fit is kept with its reason; what a pattern stands for is
    left out. Raises NoCandidates.
    """
    if not catalog.is_known:
        return _in_order_unknown(chain, routing, refuses)
    candidates = [_candidate(model, catalog, needs, refuses) for model in named(chain)]
    if routing == Routing.ORDER:
        return Picked(tuple(candidates))
    fitting = _fitting(chain, catalog, needs, refuses)
    picked = _by_rule(chain, routing, fitting, needs)
    misfits = [candidate for candidate in candidates if candidate.misfit]
    unlisted = [candidate for candidate in candidates if not candidate.misfit and not catalog.find(candidate.model)]
    offered = [Candidate(model.id, model.context_length) for model in picked]
    if not (offered or unlisted):
        raise NoCandidates(_why_none(misfits))
    return Picked((*misfits, *offered, *unlisted)[: MOST_PICKED + len(misfits)], _words(routing, len(fitting)))


def prefer(picked: Picked, candidate: Candidate) -> Picked:
    """Put one candidate before all others."""
    others = (each for each in picked.candidates if each != candidate)
    return replace(picked, candidates=(candidate, *others))


def _in_order_unknown(chain: Sequence[str], routing: str, refuses: Refuses) -> Picked:
    candidates = tuple(Candidate(model, misfit=refuses(model)) for model in named(chain))
    if not candidates:
        raise NoCandidates("The catalog is not known yet, so no rule can pick a model. Name one, or try again later.")
    if routing == Routing.ORDER:
        return Picked(candidates)
    return Picked(candidates, "The catalog is not known, so the models are asked in the order given.")


def _candidate(model: str, catalog: Catalog, needs: Needs, refuses: Refuses) -> Candidate:
    facts = catalog.find(model)
    # What the catalog does not know may be new, a preset or a router: asking it costs nothing when it is not there.
    why = refuses(model) or (misfit(facts, needs) if facts else "")
    return Candidate(model, facts.context_length if facts else None, why)


def _fitting(chain: Sequence[str], catalog: Catalog, needs: Needs, refuses: Refuses) -> list[ModelFacts]:
    """Every listed model that the chain means and that can serve the request; an empty chain means all."""
    models = {facts.id: facts for model in named(chain) if (facts := catalog.find(model))}
    patterns = [entry for entry in chain if is_pattern(entry)] or ([] if chain else ["*"])
    models |= {facts.id: facts for facts in catalog.models.values() if _is_meant(facts, patterns)}
    return [facts for facts in models.values() if not misfit(facts, needs) and not refuses(facts.id)]


def _is_meant(facts: ModelFacts, patterns: Sequence[str]) -> bool:
    # A router or an alias is asked only where it is named.
    if facts.id.startswith((ROUTERS, "~")) or not facts.output_modalities >= TEXT:
        return False
    return any(matches(facts.id, pattern) for pattern in patterns)


def _by_rule(chain: Sequence[str], routing: str, fitting: list[ModelFacts], needs: Needs) -> list[ModelFacts]:
    if routing != Routing.CHOOSE:
        return ranked(fitting, routing, needs)
    places = {model: place for place, model in enumerate(chain)}
    # Those that are named keep their order, all others follow by price.
    return sorted(ranked(fitting, "cheapest", needs), key=lambda facts: places.get(facts.id, len(places)))


def _words(routing: str, count: int) -> str:
    if routing == Routing.CHOOSE:
        return ""
    return f"The {BY_RULE[routing]} of {count} model{'' if count == 1 else 's'} that fit{'s' if count == 1 else ''}."


def _why_none(misfits: Sequence[Candidate]) -> str:
    reasons = " ".join(f"{candidate.model}: {candidate.misfit}" for candidate in misfits)
    return f"No model of the catalog fits this request. {reasons} Choose other models, or ask for less.".replace(
        "  ", " "
    )
