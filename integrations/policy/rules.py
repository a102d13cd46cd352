"""
The rules of a policy: how they are read, which of several is the tightest, and who asked for it. Pure.

The team's floor, a persona's policy, a flow's policy and the provider lists of a grant are all Rules.
They are merged by taking the tightest of each, so that adding one can never allow more.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, reduce
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from integrations.invalid import explain, refuse
from integrations.openrouter.arguments.base import Amount
from integrations.openrouter.arguments.routing import Quantization
from integrations.policy.endpoints import TIERS
from integrations.policy.names import Names, any_covers, common, read_name, shortest
from integrations.strict_json import NotPlainJson, check_object

Group = Literal["anthropic", "openai", "google", "xai", "other"]
Level = Literal["any", "safety", "zdr"]

GROUPS: dict[Group, str] = {
    "anthropic": "Anthropic",
    "openai": "OpenAI",
    "google": "Google",
    "xai": "xAI",
    "other": "other",
}
LEVELS: tuple[Level, ...] = ("any", "safety", "zdr")
MOST_NAMES = 1_000
MOST_PRICE = 1_000_000  # US dollars per million tokens: one dollar a token

_REGION = re.compile(r"[a-z0-9][a-z0-9-]{1,39}")
# What follows the slash of a tag is a region, a precision or a service tier.
_NO_REGIONS = {*get_args(Quantization), *TIERS}
_AUTHORS: dict[str, Group] = {"anthropic": "anthropic", "openai": "openai", "google": "google", "x-ai": "xai"}


class PolicyRefuses(Exception):
    """
    No way to make this call obeys a policy; nothing was sent.

    The message names the rule, who set it and what to do. `rule` is the rule's field in Rules;
    `reason` is the message without the advice.
    """

    def __init__(self, reason: str, *, rule: str, advice: str = "") -> None:
        self.rule = rule
        self.reason = reason
        super().__init__(f"{reason} {advice}".strip())


class BadRules(PolicyRefuses):
    """What is kept or was given cannot be read as rules. As a refusal, because an unreadable limit still limits."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems  # without the names of fields
        super().__init__(f"The policy cannot be read. {' '.join(problems)}", rule="unreadable")


def in_usd(price: Decimal) -> str:
    """A price exactly as it was set, with two decimals at least."""
    whole, _, decimals = f"{price:f}".partition(".")
    return f"${int(whole):,}.{decimals.rstrip('0').ljust(2, '0')}"


def group_of(author: str) -> Group:
    """The group that providers' retention terms are told apart by, of a model's author."""
    return _AUTHORS.get(author.lower(), "other")


# --- what is kept -----------------------------------------------------------------------


def _as_names(given: Any) -> Any:
    if not isinstance(given, list | tuple):
        return given
    names = [read_name(text) if isinstance(text, str) else None for text in given]
    if None in names:
        raise refuse(
            "A provider is written as its slug, with or without a variant.",
            "Write azure, google-vertex/us-east5, or deepinfra* for all that begin so.",
        )
    return shortest(name for name in names if name is not None)


def _as_regions(given: Any) -> Any:
    if not isinstance(given, list | tuple):
        return given
    names = {text.strip().lower() if isinstance(text, str) else "" for text in given}
    if not all(_REGION.fullmatch(name) for name in names) or names & _NO_REGIONS:
        raise refuse("This is not a region.", "Write a country such as DE, or a region such as europe-west1.")
    return tuple(sorted(names))


ProviderNames = Annotated[Names, BeforeValidator(_as_names), Field(max_length=MOST_NAMES)]
Regions = Annotated[Names, BeforeValidator(_as_regions), Field(max_length=MOST_NAMES)]
Price = Annotated[Amount, Field(ge=0, le=MOST_PRICE)]


class Rules(BaseModel):
    """
    What one policy asks for. What it does not say, it leaves to the others.

    `retention` by group of models: any, safety (kept for the review of abuse only) or zdr (nothing
    kept). Prices are US dollars per million tokens. `regions` are ISO country codes, or regions as
    tags of endpoints write them. An empty list of allowed providers or regions allows none.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    retention: dict[Group, Level] = {}
    data_collection: Literal["allow", "deny"] | None = None
    providers_only: ProviderNames | None = None
    providers_never: ProviderNames = ()
    max_price_in: Price | None = None
    max_price_out: Price | None = None
    regions: Regions | None = None

    @field_validator("retention")
    @classmethod
    def _in_one_order(cls, given: dict[Group, Level]) -> dict[Group, Level]:
        return {group: given[group] for group in GROUPS if group in given}

    def level(self, group: Group) -> Level:
        return self.retention.get(group, "any")

    def wants_zdr(self, group: Group) -> bool:
        """
        Whether models of a group need endpoints that keep nothing.

        Upstream a request can only ask for zero retention. Which endpoints keep text for the review of
        abuse alone is not in the API, so the middle level is held to the strict one.
        """
        return self.level(group) != "any"

    @cached_property
    def wants_any_zdr(self) -> bool:
        return any(self.wants_zdr(group) for group in GROUPS)

    @cached_property  # asked for several times in every call
    def names(self) -> tuple[str, ...]:
        """The rules that limit anything, by field."""
        said = {
            "retention": self.wants_any_zdr,
            "data_collection": self.data_collection == "deny",
            "providers_only": self.providers_only is not None,
            "providers_never": bool(self.providers_never),
            "max_price_in": self.max_price_in is not None,
            "max_price_out": self.max_price_out is not None,
            "regions": self.regions is not None,
        }
        return tuple(name for name, limits in said.items() if limits)

    def as_json(self) -> dict[str, Any]:
        """As a policy keeps them: only what is said."""
        return self.model_dump(mode="json", exclude_defaults=True)


def read_rules(data: Mapping[str, Any]) -> Rules:
    """Read what a policy keeps or a person gave. Raises BadRules, which says what is wrong and repeats no value."""
    try:
        return Rules.model_validate(_with_tuples(check_object(data)))
    except NotPlainJson as error:
        raise BadRules(str(error)) from None
    except ValidationError as error:
        problems = explain(error, data, {})
        raise BadRules(*(f"{problem.message} {problem.hint}".strip() for problem in problems)) from None


def _with_tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


# --- the tightest of several --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Merged:
    """The tightest of several policies. `by`: who set each rule, in words, by its field (retention: by group too)."""

    rules: Rules
    by: Mapping[str, str]

    def who(self, rule: str) -> str:
        """Who set a rule, at the beginning of a sentence."""
        words = self.by.get(rule, "a policy")
        return words[:1].upper() + words[1:]


def merge(sources: Sequence[tuple[str, Rules]]) -> Merged:
    """The tightest of each rule. Names of sources are words in a sentence: "the team's floor"."""
    merged = reduce(tightest, [rules for _words, rules in sources] or [Rules()])
    by = {rule: _who(rule, merged, sources) for rule in merged.names}
    by |= {f"retention.{group}": _first(sources, group, merged) for group in GROUPS if merged.wants_zdr(group)}
    return Merged(merged, by)


def tightest(one: Rules, other: Rules) -> Rules:
    """What both allow."""
    return Rules.model_construct(
        retention=_tightest_levels(one, other),
        data_collection=_tightest_training(one, other),
        providers_only=_both(one.providers_only, other.providers_only),
        providers_never=shortest([*one.providers_never, *other.providers_never]),
        max_price_in=_lower(one.max_price_in, other.max_price_in),
        max_price_out=_lower(one.max_price_out, other.max_price_out),
        regions=_same(one.regions, other.regions),
    )


def _tightest_levels(one: Rules, other: Rules) -> dict[Group, Level]:
    return {
        group: max(one.level(group), other.level(group), key=LEVELS.index)
        for group in GROUPS
        if group in one.retention or group in other.retention
    }


def _tightest_training(one: Rules, other: Rules) -> Literal["allow", "deny"] | None:
    said = {one.data_collection, other.data_collection}
    return "deny" if "deny" in said else "allow" if "allow" in said else None


def _both(one: Names | None, other: Names | None) -> Names | None:
    if one is None or other is None:
        return other if one is None else one
    return common(one, other)


def _same(one: Names | None, other: Names | None) -> Names | None:
    if one is None or other is None:
        return other if one is None else one
    return tuple(sorted(set(one) & set(other)))


def _lower(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return min((price for price in (one, other) if price is not None), default=None)


def _who(rule: str, merged: Rules, sources: Sequence[tuple[str, Rules]]) -> str:
    value = getattr(merged, rule)
    if rule in ("max_price_in", "max_price_out", "data_collection"):
        return next(words for words, rules in sources if getattr(rules, rule) == value)
    return " and ".join(dict.fromkeys(words for words, rules in sources if rule in rules.names))


def _first(sources: Sequence[tuple[str, Rules]], group: Group, merged: Rules) -> str:
    return next(words for words, rules in sources if rules.level(group) == merged.level(group))


# --- only tighter ---------------------------------------------------------------------------


def widens(floor: Rules, rules: Rules) -> list[str]:
    """
    The rules that ask for less than the floor does, each as a sentence. Empty when none does.

    They would change nothing, since the tightest counts; an editor refuses them so that nobody
    believes otherwise.
    """
    found = [
        f"Retention of {GROUPS[group]} models: the floor asks for “{floor.level(group)}”, this for “{level}”."
        for group, level in rules.retention.items()
        if LEVELS.index(level) < LEVELS.index(floor.level(group))
    ]
    if floor.data_collection == "deny" and rules.data_collection == "allow":
        found.append("Training on prompts: the floor denies it, this allows it.")
    found += _wider_price("in", floor.max_price_in, rules.max_price_in)
    found += _wider_price("out", floor.max_price_out, rules.max_price_out)
    found += _wider_names(floor, rules)
    return found


def _wider_price(way: str, floor: Decimal | None, price: Decimal | None) -> list[str]:
    if floor is None or price is None or price <= floor:
        return []
    return [f"Price of tokens {way}: the floor allows {in_usd(floor)} per million, this {in_usd(price)}."]


def _wider_names(floor: Rules, rules: Rules) -> list[str]:
    found: list[str] = []
    if floor.providers_only is not None:
        allowed = set(floor.providers_only)
        found += _not_allowed("Providers", [n for n in rules.providers_only or () if not any_covers(allowed, n)])
    if floor.regions is not None:
        found += _not_allowed("Regions", [n for n in rules.regions or () if n not in floor.regions])
    return found


def _not_allowed(what: str, names: list[str]) -> list[str]:
    return [f"{what}: the floor does not allow {', '.join(names[:10])}."] if names else []
