"""Rules as people read them. Pure."""

from collections.abc import Iterator

from integrations.policy.names import Names
from integrations.policy.rules import GROUPS, LEVELS, Level, Merged, Rules, in_usd

MOST_SHOWN = 12

LEVEL_WORDS: dict[Level, str] = {
    "any": "whatever their terms say",
    "safety": "only what the review of abuse needs",
    "zdr": "nothing",
}


def sentences(rules: Rules) -> list[str]:
    """What rules ask for, one sentence each. Empty when they ask for nothing."""
    return [words for _rule, words in _said(rules)]


def sentences_with_source(merged: Merged) -> list[tuple[str, str]]:
    """Each sentence with who set it."""
    return [(words, merged.who(rule)) for rule, words in _said(merged.rules)]


def _said(rules: Rules) -> Iterator[tuple[str, str]]:
    yield from _retention(rules)
    if rules.data_collection == "deny":
        yield "data_collection", "Providers that may train on prompts are left out."
    if rules.providers_only is not None:
        yield "providers_only", f"Only these providers may serve: {_listed(rules.providers_only)}."
    if rules.providers_never:
        yield "providers_never", f"These providers never serve: {_listed(rules.providers_never)}."
    if rules.max_price_in is not None:
        yield "max_price_in", f"A million tokens in may cost {in_usd(rules.max_price_in)} at most."
    if rules.max_price_out is not None:
        yield "max_price_out", f"A million tokens out may cost {in_usd(rules.max_price_out)} at most."
    if rules.regions is not None:
        yield "regions", f"Only endpoints known to compute in {_listed(rules.regions)} may serve."


def _retention(rules: Rules) -> Iterator[tuple[str, str]]:
    limited = [group for group in GROUPS if rules.wants_zdr(group)]
    for level in LEVELS[:0:-1]:
        groups = [group for group in limited if rules.level(group) == level]
        if len(groups) == len(GROUPS):
            yield f"retention.{groups[0]}", f"Providers of all models may keep {LEVEL_WORDS[level]}."
        else:
            for group in groups:
                yield f"retention.{group}", f"Providers of {_models(group)} may keep {LEVEL_WORDS[level]}."


def _models(group: str) -> str:
    return "all other models" if group == "other" else f"{dict(GROUPS)[group]} models"  # type: ignore[index]


def _listed(names: Names) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more
