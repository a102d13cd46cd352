"""What a rule about retention would do to a team: to each persona and flow, and to its calls of the last 30 days."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from uuid import UUID

from accounts.models import Team
from integrations import spend_queries
from integrations.facts import Catalog, ModelFacts
from integrations.fitting import Needs, misfit
from integrations.policy import Reach, Rules, offered, reachable
from integrations.registry import integrations
from integrations.spend_queries import Asked, Key, Taken
from personas.chains import named
from personas.policy_effect import Chain, Policies, PolicyHolder, chains_of, has_any
from personas.replay import Keeps, Outcome, Replayed, Route, replay, route_now

WORST_FIRST = (Outcome.NONE, Outcome.OTHER, Outcome.SAME)


@dataclass(frozen=True, slots=True)
class Affected:
    """
    A persona with its calls outside flows, or a flow with those inside, and what a rule would do to it.

    `outcome` NONE: a chain of it has no model left. `now` and `after`: the route of most of its calls that would
    change, or of most calls where none would. `usd_after` None: not all prices are known. `lost`: models of its
    chains that it may not ask any more. `repair`: the model that would mend it, or empty.
    """

    kind: str
    name: str
    slug: str
    outcome: Outcome
    calls: Mapping[Outcome, int]
    now: Route | None
    after: Route | None
    usd_now: Decimal
    usd_after: Decimal | None
    lost: tuple[str, ...]
    repair: str

    @property
    def all_calls(self) -> int:
        return sum(self.calls.values())


@dataclass(frozen=True)
class Impact:
    """All that a page of a rule's effect shows. `models_left` of `models` stay within reach for certain."""

    is_known: bool
    first: date
    last: date
    models: int
    models_left: int
    rows: list[Affected]
    replayed: list[Replayed]

    @cached_property
    def calls(self) -> Counter[tuple[Keeps, Outcome]]:
        """Calls by what is kept of them today, and what would become of them."""
        found: Counter[tuple[Keeps, Outcome]] = Counter()
        for each in self.replayed:
            found[each.keeps, each.outcome] += each.taken.calls
        return found

    def calls_of(self, what: Keeps | Outcome) -> int:
        return sum(count for pair, count in self.calls.items() if what in pair)

    def rows_of(self, kind: str, outcome: Outcome) -> int:
        return sum(row.kind == kind and row.outcome == outcome for row in self.rows)

    @property
    def usd_now(self) -> Decimal:
        return sum((each.taken.cost_usd for each in self.replayed), Decimal(0))

    @property
    def usd_after(self) -> Decimal:
        """What the same calls would cost, as far as prices are known."""
        return sum((each.usd for each in self.replayed if each.usd is not None), Decimal(0))

    @property
    def unpriced(self) -> int:
        """The calls of which nobody knows what they would cost."""
        return sum(each.taken.calls for each in self.replayed if each.usd is None)

    def latency_ms(self, *, after: bool) -> float | None:
        """The median, over calls, of the time to the first token that their endpoints tell. None where none does."""
        routes = [(each.after if after else each.now, each.taken.calls) for each in self.replayed]
        told = [(route.endpoint.latency_ms, calls) for route, calls in routes if route and route.endpoint]
        return weighted_median([(value, calls) for value, calls in told if value is not None])

    def weakest_uptime(self, *, after: bool) -> float | None:
        """The lowest uptime, in percent of the last half hour, of all routes taken."""
        routes = [each.after if after else each.now for each in self.replayed]
        told = [route.endpoint.uptime for route in routes if route and route.endpoint]
        return min((value for value in told if value is not None), default=None)


def impact_of(team: Team, holder: PolicyHolder, rules: Rules, policies: Policies, days: tuple[date, date]) -> Impact:
    """Work out what it would do if a holder had these rules. Three queries, none of them over calls."""
    after = policies.with_rules(holder, rules)
    only: dict[str, Key] = {} if holder.kind == "team" else {holder.kind: holder.id}
    chains = _by_owner(chains_of(team, holder))
    taken = spend_queries.ways_taken(Asked(team, *days, only), _tools())
    replayed = defaultdict(list)
    for each in taken:
        chain = next((chain.models for chain in chains.get(_owner(each), ()) if each.asked in chain.models), ())
        replayed[_owner(each)].append(replay(each, after.reach(each.persona_id, each.flow_id), named(chain)))
    reach = after.reach(holder.id)
    return Impact(
        is_known=policies.known.is_known,
        first=days[0],
        last=days[1],
        models=len(offered(policies.known)),
        models_left=len(reachable(reach.merged, policies.known)[0]),
        rows=_rows(chains, replayed, policies, after),
        replayed=[each for group in replayed.values() for each in group],
    )


def weighted_median(values: Sequence[tuple[float, int]]) -> float | None:
    """The least value that at least half of the weight does not exceed."""
    half, seen = sum(weight for _, weight in values) / 2, 0
    for value, weight in sorted(values):
        seen += weight
        if seen >= half:
            return value
    return None


def _tools() -> list[str]:
    """Those that ask a model for text."""
    return [tool.name for each in integrations() for tool in each.tools if tool.tokens]


# --- personas and flows -----------------------------------------------------------------

Owner = tuple[str, UUID | None]


def _owner(taken: Taken) -> Owner:
    return ("flow", taken.flow_id) if taken.flow_id else ("persona", taken.persona_id)


def _by_owner(chains: Iterable[Chain]) -> dict[Owner, list[Chain]]:
    found: dict[Owner, list[Chain]] = defaultdict(list)
    for chain in chains:
        found[chain.kind, chain.flow_id if chain.kind == "flow" else chain.persona_id].append(chain)
    return found


def _rows(
    chains: Mapping[Owner, list[Chain]],
    replayed: Mapping[Owner, list[Replayed]],
    before: Policies,
    after: Policies,
) -> list[Affected]:
    rows = [_row(of, replayed.get(owner, []), before, after) for owner, of in chains.items()]
    return sorted(rows, key=lambda row: (WORST_FIRST.index(row.outcome), -row.all_calls, row.kind, row.name.lower()))


def _row(chains: Sequence[Chain], replayed: Sequence[Replayed], before: Policies, after: Policies) -> Affected:
    broken = next((chain for chain in chains if not has_any(chain, _may(chain, after), after.known)), None)
    calls: Counter[Outcome] = Counter()
    for each in replayed:
        calls[each.outcome] += each.taken.calls
    now, then = _likeliest(replayed) if replayed else _foreseen(broken or chains[0], before, after)
    changes = calls[Outcome.OTHER] + calls[Outcome.NONE] if replayed else _differ(now, then)
    return Affected(
        kind=chains[0].kind,
        name=chains[0].name,
        slug=chains[0].slug,
        outcome=Outcome.NONE if broken else Outcome.OTHER if changes else Outcome.SAME,
        calls=calls,
        now=now,
        after=None if broken else then,
        usd_now=sum((each.taken.cost_usd for each in replayed), Decimal(0)),
        usd_after=_sum([each.usd for each in replayed]),
        lost=tuple(dict.fromkeys(model for chain in chains for model in _lost(chain, before, after))),
        repair=repair(broken, after) if broken else "",
    )


def _may(chain: Chain, policies: Policies):
    return lambda model: not policies.why_not(model, chain.persona_id, chain.flow_id)


def _lost(chain: Chain, before: Policies, after: Policies) -> list[str]:
    could, can = _may(chain, before), _may(chain, after)
    return [model for model in named(chain.models) if could(model) and not can(model)]


def _likeliest(replayed: Sequence[Replayed]) -> tuple[Route | None, Route | None]:
    """The route of most calls that would change; where none would, that of most calls."""
    one = min(replayed, key=lambda each: (each.outcome == Outcome.SAME, -each.taken.calls))
    return one.now, one.after


def _foreseen(chain: Chain, before: Policies, after: Policies) -> tuple[Route | None, Route | None]:
    """Where a chain that was not asked would go, by what it names first."""
    now, then = (_first_route(chain, each.reach(chain.persona_id, chain.flow_id)) for each in (before, after))
    return now, then


def _first_route(chain: Chain, reach: Reach) -> Route | None:
    return next((route for model in named(chain.models) if (route := route_now(model, reach))), None)


def _differ(now: Route | None, then: Route | None) -> bool:
    if now is None or then is None:
        return now is not then
    one, other = now.endpoint, then.endpoint
    return now.model != then.model or (one.provider if one else "") != (other.provider if other else "")


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None


# --- what would mend it -----------------------------------------------------------------


def repair(chain: Chain, policies: Policies) -> str:
    """
    The one model to add to a chain that has none left, by its id: empty when none is known.

    The same model without its variant; else the model of the nearest price that can do what the first of the chain
    can, of the same author if there is one.
    """
    may, first = _may(chain, policies), next(iter(named(chain.models)), "")
    base = first.partition(":")[0]
    if base != first and policies.known.find(base) and may(base):
        return base
    facts = policies.known.find(first)
    return _nearest(facts, _able(facts, policies.known, may)) if facts else ""


def _able(facts: ModelFacts, known: Catalog, may) -> list[ModelFacts]:
    needs = Needs(
        tools="tools" in facts.parameters,
        structured="structured_outputs" in facts.parameters,
        input_modalities=facts.input_modalities,
    )
    return [each for each in offered(known) if not misfit(each, needs) and _price(each) is not None and may(each.id)]


def _nearest(facts: ModelFacts, able: Sequence[ModelFacts]) -> str:
    wanted = _price(facts) or Decimal(0)
    order = sorted(able, key=lambda each: (each.author != facts.author, abs((_price(each) or 0) - wanted), each.id))
    return order[0].id if order else ""


def _price(facts: ModelFacts) -> Decimal | None:
    prices = facts.prices
    return None if prices.tokens_in is None or prices.tokens_out is None else prices.tokens_in + prices.tokens_out
