"""
What a change of a policy would do, worked out before it is applied.

Rows are read once and held against the catalog twice: under the policies that are kept, and under
those with the change in them. Nothing is written.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from typing import Literal
from uuid import UUID

from django.db.models import Count

from accounts.models import Team
from audit.clock import app_now
from integrations import catalog
from integrations.facts import Catalog, ModelFacts
from integrations.models import Call
from integrations.patterns import matches
from integrations.policy import Reach, Rules, merge, offered, reachable
from integrations.policy_actions import readable
from integrations.registry import integrations
from personas.chains import Routing, is_pattern, named
from personas.models import Flow, Persona
from personas.stages import EachStage, Prompt, read_stage

REPLAYED_DAYS = 30
FLOOR = "the team's floor"


@dataclass(frozen=True, slots=True)
class PolicyHolder:
    """Whose policy is looked at: the team's floor, a persona's or a flow's."""

    kind: Literal["team", "persona", "flow"]
    id: UUID
    name: str
    slug: str = ""

    @classmethod
    def of(cls, thing: Team | Persona | Flow) -> "PolicyHolder":
        if isinstance(thing, Team):
            return cls("team", thing.pk, thing.name)
        kind: Literal["persona", "flow"] = "persona" if isinstance(thing, Persona) else "flow"
        return cls(kind, thing.pk, thing.name, thing.slug)

    @property
    def source(self) -> str:
        """What refusals call it, in the middle of a sentence."""
        return FLOOR if self.kind == "team" else f"the policy of {self.name}"


@dataclass(frozen=True, slots=True)
class Chain:
    """The models that a persona, or one stage of a flow, may ask."""

    kind: Literal["persona", "flow"]
    name: str
    slug: str
    models: tuple[str, ...]
    routing: str
    persona_id: UUID | None
    flow_id: UUID | None = None
    stage: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A chain that a change would shorten or stop, with the first model that fails and why."""

    chain: Chain
    model: str
    why: str
    stops: bool


@dataclass(frozen=True, slots=True)
class Effect:
    """
    What a change would do to the models that write text, and to the calls of the last 30 days.

    `perhaps`: models of which not all endpoints are known, so that they may be within reach or not;
    neither `before` nor `after` holds them. Of the `replayed` calls, `refused` would newly be refused
    and `allowed` newly be let through.
    """

    is_known: bool
    of: int
    before: frozenset[str]
    after: frozenset[str]
    perhaps_before: frozenset[str]
    perhaps: frozenset[str]
    cheapest: ModelFacts | None
    hits: tuple[Hit, ...]
    replayed: int
    refused: int
    allowed: int
    refused_models: tuple[tuple[str, int, str], ...]

    @property
    def lost(self) -> list[str]:
        return sorted((self.before | self.perhaps_before) - self.after - self.perhaps)

    @property
    def won(self) -> list[str]:
        return sorted((self.after | self.perhaps) - self.before - self.perhaps_before)

    @property
    def stopping(self) -> list[Hit]:
        return [hit for hit in self.hits if hit.stops]

    @property
    def shortened(self) -> list[Hit]:
        return [hit for hit in self.hits if not hit.stops]


@dataclass
class Policies:
    """A team's policies, read once, with one of them changed or none."""

    team_id: UUID
    kept: Mapping[UUID, Rules]
    known: Catalog
    names: Mapping[UUID, str] = field(default_factory=dict)

    def with_rules(self, holder: PolicyHolder, rules: Rules) -> "Policies":
        names = {**self.names, holder.id: holder.source}
        return Policies(self.team_id, {**self.kept, holder.id: rules}, self.known, names)

    def reach(self, *holders: UUID | None) -> Reach:
        """What is left for calls of these holders, under the floor."""
        return self._reach(tuple(holder for holder in (self.team_id, *holders) if holder in self.kept))

    def why_not(self, model: str, *holders: UUID | None) -> str:
        """Why calls of these holders may not ask a model; empty when they may."""
        return self._why_not(model, tuple(holder for holder in (self.team_id, *holders) if holder in self.kept))

    def _reach(self, holders: tuple[UUID, ...]) -> Reach:
        if holders not in self._reaches:
            sources = [(self.names.get(holder, "another policy"), self.kept[holder]) for holder in holders]
            self._reaches[holders] = Reach(merge(sources), self.known)
        return self._reaches[holders]

    def _why_not(self, model: str, holders: tuple[UUID, ...]) -> str:
        if (model, holders) not in self._answers:
            self._answers[model, holders] = self._reach(holders).why_not(model)
        return self._answers[model, holders]

    @cached_property
    def _reaches(self) -> dict[tuple[UUID, ...], Reach]:
        return {}

    @cached_property
    def _answers(self) -> dict[tuple[str, tuple[UUID, ...]], str]:
        return {}


def policies_of(team: Team, holder: PolicyHolder, kept: Mapping[UUID, Mapping[str, object]]) -> Policies:
    """A team's policies, of what the rows keep."""
    read = {each: readable(rules) for each, rules in kept.items()}
    return Policies(team.pk, read, catalog.current(), {team.pk: FLOOR, holder.id: holder.source})


def effect_of(team: Team, holder: PolicyHolder, rules: Rules, policies: Policies) -> Effect:
    """What it would do if a holder had these rules. Asks the database for chains and for calls, once each."""
    after = policies.with_rules(holder, rules)
    listed = offered(policies.known)
    was, perhaps_was = reachable(policies.reach(holder.id).merged, policies.known)
    will, perhaps = reachable(after.reach(holder.id).merged, policies.known)
    replay = _replay(team, holder, policies, after)
    return Effect(
        is_known=policies.known.is_known,
        of=len(listed),
        before=frozenset(was),
        after=frozenset(will),
        perhaps_before=frozenset(perhaps_was),
        perhaps=frozenset(perhaps),
        cheapest=min(
            (facts for facts in listed if facts.id in will and _price(facts) is not None), key=_price, default=None
        ),
        hits=tuple(_hits(chains_of(team, holder), policies, after)),
        **replay,
    )


def _price(facts: ModelFacts) -> Decimal | None:
    prices = facts.prices
    return None if prices.tokens_in is None or prices.tokens_out is None else prices.tokens_in + prices.tokens_out


# --- chains -------------------------------------------------------------------------------


def chains_of(team: Team, holder: PolicyHolder) -> Iterator[Chain]:
    """The chains that a policy is about: all of the team's, those of a persona, or those of a flow."""
    personas = {
        str(persona.pk): persona
        for persona in Persona.objects.filter(team=team, archived_at=None).select_related("version")
    }
    for persona in personas.values():
        if holder.kind == "team" or holder.id == persona.pk:
            yield from _chain_of(persona)
    for flow in Flow.objects.filter(team=team, archived_at=None).select_related("version"):
        if holder.kind != "flow" or holder.id == flow.pk:
            yield from _chains_of_flow(flow, personas, holder)


def _chain_of(persona: Persona) -> Iterator[Chain]:
    version = persona.version
    if version and version.has_models:
        yield Chain("persona", persona.name, persona.slug, tuple(version.chain), version.routing, persona.pk)


def _chains_of_flow(flow: Flow, personas: Mapping[str, Persona], holder: PolicyHolder) -> Iterator[Chain]:
    for stage in map(read_stage, flow.version.stages if flow.version else ()):
        work = stage.do if isinstance(stage, EachStage) else stage
        if not isinstance(work, Prompt):
            continue
        persona = personas.get(work.persona)
        if holder.kind == "persona" and (persona is None or persona.pk != holder.id):
            continue
        version = persona.version if persona else None
        own = bool(work.chain or work.routing)
        models = tuple(work.chain) if own or not version else tuple(version.chain)
        routing = (work.routing or Routing.ORDER) if own or not version else version.routing
        persona_id = persona.pk if persona else None
        yield Chain("flow", flow.name, flow.slug, models, routing, persona_id, flow.pk, stage.name)


def _hits(chains: Iterator[Chain], before: Policies, after: Policies) -> Iterator[Hit]:
    for chain in chains:
        holders = (chain.persona_id, chain.flow_id)
        fails = {model: why for model in named(chain.models) if (why := after.why_not(model, *holders))}
        newly = [model for model in fails if not before.why_not(model, *holders)]
        stops = not has_any(chain, lambda model, at=holders: not after.why_not(model, *at), after.known)
        stopped = not has_any(chain, lambda model, at=holders: not before.why_not(model, *at), before.known)
        if newly or (stops and not stopped):
            first = next(iter(newly), next(iter(fails), ""))
            yield Hit(chain, first, fails.get(first, "No model that it may pick is left."), stops)


def has_any(chain: Chain, may: Callable[[str], bool], known: Catalog) -> bool:
    """Whether a chain has a model left to ask."""
    if any(may(model) for model in named(chain.models)):
        return True
    patterns = [entry for entry in chain.models if is_pattern(entry)] or ([] if chain.models else ["*"])
    return any(may(facts.id) for facts in offered(known) if any(matches(facts.id, pattern) for pattern in patterns))


# --- replay -------------------------------------------------------------------------------


def _replay(team: Team, holder: PolicyHolder, before: Policies, after: Policies) -> dict:
    asking = [tool.name for each in integrations() for tool in each.tools if tool.tokens]
    since = app_now() - timedelta(days=REPLAYED_DAYS)
    calls = Call.objects.filter(team=team, tool__in=asking, started_at__gte=since).exclude(model="")
    if holder.kind != "team":
        calls = calls.filter(**{f"{holder.kind}_id": holder.id})
    replayed = refused = allowed = 0
    models: dict[str, tuple[int, str]] = {}
    for model, persona, flow, count in calls.values_list("model", "persona_id", "flow_id").annotate(Count("id")):
        was, will = before.why_not(model, persona, flow), after.why_not(model, persona, flow)
        replayed += count
        if will and not was:
            refused += count
            models[model] = (models.get(model, (0, ""))[0] + count, will)
        elif was and not will:
            allowed += count
    most = sorted(((name, count, why) for name, (count, why) in models.items()), key=lambda row: -row[1])
    return {"replayed": replayed, "refused": refused, "allowed": allowed, "refused_models": tuple(most[:10])}
