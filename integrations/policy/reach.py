"""
What is left of a catalog under merged rules, for one request's own wishes or for none. Pure.

It fails closed: where a rule needs to know something about a model that the catalog does not say,
the model is out of reach.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property

from integrations.facts import Catalog, EndpointFacts, ModelFacts
from integrations.openrouter.arguments.routing import MaxPrice, ProviderPreferences
from integrations.patterns import is_indirect
from integrations.policy.endpoints import Limits, inside, is_tier, left_over, slugs, with_tiers, within
from integrations.policy.names import Names, any_covers, common
from integrations.policy.rules import GROUPS, Merged, PolicyRefuses, group_of, in_usd

# Routers that choose among endpoints of the catalog, which the `provider` object of the request bounds.
# Others ask several models or run tools of their own, so what they reach cannot be bounded from here.
ROUTERS = frozenset({"openrouter/auto", "openrouter/auto-beta", "openrouter/free", "openrouter/pareto-code"})

NAME_IT = "Name the model itself."
CHOOSE = "Choose another model."
NOTHING = Decimal(0)
WAIT = "Try again in a few minutes."

PRICES = {"max_price_in": "prompt", "max_price_out": "completion"}


@dataclass(frozen=True)
class Reach:
    """
    The rules of one call, looked up in a catalog.

    `wish` is the caller's own `provider` object; `any_tier`: the call asks for a service tier.
    """

    merged: Merged
    catalog: Catalog
    wish: ProviderPreferences = field(default_factory=ProviderPreferences)
    any_tier: bool = False

    # --- one model ------------------------------------------------------------------------

    def why_not(self, model: str) -> str:
        """Why calls may not ask a model, in words; empty when they may."""
        try:
            self.check(model)
        except PolicyRefuses as refusal:
            return str(refusal)
        return ""

    def is_sure(self, facts: ModelFacts) -> bool:
        """
        Whether what is said of a model can be relied upon.

        Rules about providers need all its endpoints, and those are read for the models in use alone. Such
        a call is sent with the rules in it, and the provider refuses it if need be.
        """
        rules = self.merged.rules
        by_provider = {"providers_only", "providers_never", "regions"} & set(rules.names)
        return not by_provider or facts.endpoints is not None or self._wants_zdr(group_of(facts.author))

    def endpoints_left(self, facts: ModelFacts) -> list[EndpointFacts]:
        """The endpoints of a model that calls may reach, as far as they are known. None of one they may not ask."""
        if self.why_not(facts.id):
            return []
        held = self._wants_zdr(group_of(facts.author))
        known = facts.zdr_endpoints if held else facts.endpoints or facts.zdr_endpoints
        return left_over(known, self._limits_of(facts))[0]

    def check(self, model: str) -> None:
        """Raise PolicyRefuses when a model is outside the rules, or may be."""
        rules = self.merged.rules
        if not rules.names:
            return
        if "@preset/" in model:
            # A preset brings tools, a cache and preferences of its own, which nobody sees from here.
            raise self.refusal(rules.names[0], f"what the preset {model} does is decided elsewhere", NAME_IT)
        if is_indirect(model):
            if model not in ROUTERS:
                raise self.refusal(rules.names[0], f"what {model} asks cannot be limited from here", NAME_IT)
            return
        self._check_model(model)

    def _check_model(self, model: str) -> None:
        facts = self.catalog.find(model)
        groups = {
            group_of(author) for author in (model.lstrip("~").partition("/")[0], facts and facts.author) if author
        }
        held = next((f"retention.{group}" for group in GROUPS if group in groups and self._wants_zdr(group)), "")
        priced = next((rule for rule in PRICES if rule in self.merged.rules.names), "")
        if (held or priced) and (facts is None or facts.is_gone):
            raise self._unknown(held or priced, model)
        if self._limits_of(facts).only == frozenset():
            self.only([facts] if facts else [])
        if facts is None:
            return  # the `provider` object holds the other rules whatever the model is
        if held:
            self._check_zdr(held, facts)
        elif facts.endpoints:
            self._check_endpoints(facts)
        elif priced:
            self._check_listed_prices(facts)

    def _wants_zdr(self, group: str) -> bool:
        return self.merged.rules.wants_zdr(group)  # type: ignore[arg-type]

    def _check_zdr(self, held: str, facts: ModelFacts) -> None:
        limits = self._limits_of(facts)
        if not any(limits.reaches(endpoint) for endpoint in facts.zdr_endpoints):
            raise self.refusal(held, f"no endpoint of {facts.id} has it", CHOOSE)
        left, rule = left_over(facts.zdr_endpoints, limits)
        if not left:
            raise self.refusal(
                self._blamed(rule, held), f"none of the endpoints of {facts.id} that keep nothing is inside it", CHOOSE
            )

    def _check_endpoints(self, facts: ModelFacts) -> None:
        left, rule = left_over(facts.endpoints or (), self._limits_of(facts))
        if rule and not left:
            raise self.refusal(self._blamed(rule, ""), f"no endpoint of {facts.id} is inside it", CHOOSE)

    def _check_listed_prices(self, facts: ModelFacts) -> None:
        limits = self._limits_of(facts)
        for rule, price, most in (
            ("max_price_in", facts.prices.tokens_in, limits.max_in),
            ("max_price_out", facts.prices.tokens_out, limits.max_out),
        ):
            if rule in self.merged.rules.names and not within(price, most):
                words = "costs more" if price is not None else "has no known price"
                raise self.refusal(rule, f"{facts.id} {words}", CHOOSE)

    def _limits_of(self, facts: ModelFacts | None) -> Limits:
        if self.merged.rules.regions is None:
            return self._limits
        only = self._only_in([facts] if facts else [])
        return replace(self._limits, only=frozenset(only or ()), named=self._limits.named | frozenset(only or ()))

    @cached_property
    def _limits(self) -> Limits:
        prices = self.max_price()
        only = None if self.merged.rules.regions is not None else self._only_in([])
        named = {*(only or ()), *(name.lower() for name in self.wish.order or ())}
        return Limits(
            only=None if only is None else frozenset(only),
            ignore=frozenset(name.lower() for name in self.ignore()),
            max_in=prices and prices.prompt,
            max_out=prices and prices.completion,
            named=frozenset(named),
            any_tier=self.any_tier,
        )

    # --- the provider object ----------------------------------------------------------------

    def provider(self, models: Sequence[str]) -> ProviderPreferences:
        """The wish with all rules in it. Raises PolicyRefuses when the wish and the rules have nothing in common."""
        rules = self.merged.rules
        changed: dict[str, object] = {"max_price": self.max_price()}
        if rules.wants_any_zdr and self._may_be_held(models):
            changed["zdr"] = True
        if rules.data_collection == "deny":
            changed["data_collection"] = "deny"
        changed["ignore"] = self.ignore() or None
        if rules.providers_only is not None or rules.regions is not None or rules.providers_never:
            facts = [found for found in map(self.catalog.find, models) if found]
            only = self.only(facts)
            changed |= {"only": None if only is None else list(only), "order": self._order(only)}
        # Not validated anew: lists of rules may be longer than those a caller may write.
        return self.wish.model_copy(update=changed)

    def _may_be_held(self, models: Sequence[str]) -> bool:
        """Whether any of the models is, or may turn out to be, one whose retention is limited."""
        found = [self.catalog.find(model) for model in models]
        authors = [
            *(model.lstrip("~").partition("/")[0] for model in models),
            *(facts.author for facts in found if facts),
        ]
        return any(is_indirect(model) for model in models) or any(
            self._wants_zdr(group_of(author)) for author in authors
        )

    def only(self, models: Iterable[ModelFacts]) -> Names | None:
        """The only providers allowed, or None where all are. Raises PolicyRefuses rather than leave none."""
        rules, only = self.merged.rules, self._only_in(models)
        if only:
            return only
        if only is None:
            return None
        if rules.regions is not None and not self._only_in(models, without_wish=True):
            raise self.refusal("regions", "no provider is known to compute only there")
        rule = next(name for name in ("providers_only", "regions", "providers_never") if name in rules.names)
        raise self.refusal(rule, "none of the providers that the call asks for is inside it")

    def _only_in(self, models: Iterable[ModelFacts], *, without_wish: bool = False) -> Names | None:
        rules, lists = self.merged.rules, []
        if rules.providers_only is not None:
            lists.append(slugs(self._readable("providers_only", rules.providers_only), self.catalog))
        if rules.regions is not None:
            lists.append(inside(self._known("regions", rules.regions), self.catalog, models))
        if self.wish.only and not without_wish:
            lists.append(slugs([name.lower() for name in self.wish.only], self.catalog))
        if not lists:
            return None
        left = lists[0]
        for names in lists[1:]:
            left = common(left, names)
        # A rule that names a service tier allows it; only the caller can ask for it, since it may cost more.
        return tuple(
            name for name in left if not any_covers(self._never, name) and (not is_tier(name) or self._asks_for(name))
        )

    def _asks_for(self, tier: str) -> bool:
        return self.any_tier or tier in {name.lower() for name in (*(self.wish.only or ()), *(self.wish.order or ()))}

    def _order(self, only: Names | None) -> list[str] | None:
        """The caller's order without what the rules leave out."""
        if self.wish.order is None:
            return None
        wanted = [slugs([name.lower()], self.catalog)[0] for name in self.wish.order]
        inside_rules = [found for name in wanted for found in (common(only, [name]) if only is not None else [name])]
        kept = [name for name in inside_rules if not any_covers(self._never, name)]
        if not kept and self.wish.allow_fallbacks is False:
            # An empty order would mean "whoever is first", which the caller did not ask for.
            rule = next(n for n in ("providers_only", "regions", "providers_never") if n in self.merged.rules.names)
            raise self.refusal(rule, "none of the providers that the call asks for is inside it")
        return list(dict.fromkeys(kept)) or None

    def ignore(self) -> list[str]:
        """The providers never asked: the caller's and the rules'."""
        return list(dict.fromkeys([*(self.wish.ignore or ()), *with_tiers(sorted(self._never))]))

    @cached_property
    def _never(self) -> frozenset[str]:
        names = self.merged.rules.providers_never
        return frozenset(slugs(self._readable("providers_never", names), self.catalog))

    def max_price(self) -> MaxPrice | None:
        """The lower of the caller's and the rules' prices."""
        rules, wish = self.merged.rules, self.wish.max_price
        lower: dict[str, Decimal] = {}
        for rule, name in PRICES.items():
            said = [price for price in (getattr(rules, rule), wish and getattr(wish, name)) if price is not None]
            if getattr(rules, rule) is not None:
                lower[name] = min(said)
        return (wish or MaxPrice()).model_copy(update=lower) if lower else wish

    # --- words --------------------------------------------------------------------------------

    def _readable(self, rule: str, names: Names) -> Names:
        return self._known(rule, names) if any(name.endswith("*") for name in names) else names

    def _known(self, rule: str, names: Names) -> Names:
        if not self.catalog.is_known:
            raise self.refusal(rule, "the catalog that says who they are has not been read yet", WAIT)
        return names

    def _unknown(self, rule: str, model: str) -> PolicyRefuses:
        if not self.catalog.is_known:
            return self.refusal(rule, "the catalog has not been read yet, so nobody can tell", WAIT)
        return self.refusal(rule, f"{model} is not in the catalog, so nobody can tell", CHOOSE)

    def _blamed(self, rule: str, held: str) -> str:
        """The rule to name for a limit that left no endpoint; a wish of the caller's own counts for another."""
        names = self.merged.rules.names
        others = ("regions", "max_price_in", "max_price_out", "providers_never")
        return next((name for name in (rule, *others) if name in names), held or names[0])

    def refusal(self, rule: str, because: str, advice: str = "") -> PolicyRefuses:
        """A refusal that names the rule, who set it and what to do."""
        base, _, group = rule.partition(".")
        who = self.merged.who(rule) if rule in self.merged.by else self.merged.who(base)
        return PolicyRefuses(f"{who} {self._asks(base, group)}, and {because}.", rule=base, advice=advice)

    def _asks(self, rule: str, group: str) -> str:
        rules = self.merged.rules
        match rule:
            case "retention":
                of = f" of {GROUPS[group]} models" if group in GROUPS and group != "other" else ""  # type: ignore[index]
                return f"asks for zero data retention{of}"
            case "data_collection":
                return "asks for providers that do not train on prompts"
            case "providers_only":
                return f"allows only the providers {_some(rules.providers_only or ())}"
            case "providers_never":
                return f"rules out the providers {_some(rules.providers_never)}"
            case "max_price_in":
                return f"allows at most {in_usd(rules.max_price_in or NOTHING)} per million tokens in"
            case "max_price_out":
                return f"allows at most {in_usd(rules.max_price_out or NOTHING)} per million tokens out"
            case _:
                return f"allows only endpoints known to compute in {_some(rules.regions or ())}"


def _some(names: Names) -> str:
    if not names:
        return "(none)"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def offered(catalog: Catalog) -> list[ModelFacts]:
    """The models of a catalog that can be asked for text: no routers, no aliases, none that are gone."""
    return [
        facts
        for facts in catalog.models.values()
        if "text" in facts.output_modalities and not facts.is_gone and not facts.id.startswith(("~", "openrouter/"))
    ]


def reachable(merged: Merged, catalog: Catalog) -> tuple[set[str], set[str]]:
    """The models that calls under these rules may ask, and those of which that is not sure."""
    reach = Reach(merged, catalog)
    may = {facts.id: reach.is_sure(facts) for facts in offered(catalog) if not reach.why_not(facts.id)}
    return {name for name, sure in may.items() if sure}, {name for name, sure in may.items() if not sure}
