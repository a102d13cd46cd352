"""
Put policies into the arguments of one call, or refuse it. Pure.

A policy is enforced twice: the `provider` object of the request carries it, which the provider obeys
also where our catalog is behind, and whatever could leave that object is refused here before anything
is sent. Nothing here ever allows more than the caller asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from integrations.facts import Catalog
from integrations.openrouter.arguments.extras import carries_files
from integrations.openrouter.arguments.routing import ProviderPreferences
from integrations.policy.reach import Reach, offered
from integrations.policy.rules import Merged, PolicyRefuses, Rules, merge

# What a model reads or writes through these stays inside the request.
HARMLESS_PLUGINS = {"response-healing", "context-compression", "auto-router", "auto-beta-router", "pareto-router"}
HARMLESS_SERVER_TOOLS = {"openrouter:datetime"}
# Words of `service_tier` that never cost more than the endpoint's listed price.
PLAIN_TIERS = {"default", "flex", "standard", "standard_only"}
# Rules about where text goes. What a search engine or a file reader does with it, no rule reaches.
ABOUT_TEXT = ("retention", "data_collection", "regions")
ABOUT_PRICE = ("max_price_in", "max_price_out")
MOST_SUGGESTED = 2
NO_RULES = merge([])


@dataclass(frozen=True, slots=True)
class Constrained:
    """Arguments inside all policies, and the rules that had a say."""

    arguments: BaseModel
    merged: Merged


def constrain(arguments: BaseModel, sources: Sequence[tuple[str, Rules]], catalog: Catalog) -> Constrained:
    """
    Return the arguments inside all policies. Raises PolicyRefuses.

    Each source is what it is called in a sentence and its rules: ("the team's floor", Rules(…)).
    Tools that ask no model come back as they are.
    """
    limiting = [source for source in sources if source[1].names]
    if not limiting or not asks_model(arguments):
        return Constrained(arguments, NO_RULES)
    merged = merge(limiting)
    wish = getattr(arguments, "provider", None)
    reach = Reach(merged, catalog, wish or ProviderPreferences(), any_tier=_asks_for_tier(arguments))
    models = models_of(arguments)
    if "provider" not in type(arguments).model_fields:
        raise reach.refusal(merged.rules.names[0], "this tool cannot be told so", "Use another one.")
    for model in models:
        _check_model(reach, model)
    _refuse_what_leaves(arguments, reach, models)
    provider = reach.provider(models)
    if provider == (wish or ProviderPreferences()):
        return Constrained(arguments, merged)
    return Constrained(arguments.model_copy(update={"provider": provider}), merged)


def asks_model(arguments: BaseModel) -> bool:
    """Whether a tool with these arguments sends a conversation to a model."""
    return "messages" in type(arguments).model_fields


def models_of(arguments: BaseModel) -> list[str]:
    """Every model that a call may ask, in order."""
    named = [getattr(arguments, "model", None), *_list(arguments, "models"), *_list(arguments, "fallbacks")]
    return list(dict.fromkeys(model for model in named if model))


def suggestions(reach: Reach, model: str) -> list[str]:
    """A few models that could be asked instead, those of the same author first."""
    author = model.lstrip("~").partition("/")[0]
    plain = Reach(reach.merged, reach.catalog)
    nearest = sorted(offered(reach.catalog), key=lambda facts: (facts.author != author, facts.id))
    fitting = (
        facts.id
        for facts in nearest
        # Where no endpoint is known, nobody knows whether anything is left.
        if ":" not in facts.id and (facts.endpoints or facts.zdr_endpoints) and not plain.why_not(facts.id)
    )
    return [found for found, _ in zip(fitting, range(MOST_SUGGESTED), strict=False)]


def _check_model(reach: Reach, model: str) -> None:
    try:
        reach.check(model)
    except PolicyRefuses as refusal:
        others = suggestions(reach, model)
        if not others:
            raise
        advice = f"Choose another model, such as {' or '.join(others)}."
        raise PolicyRefuses(refusal.reason, rule=refusal.rule, advice=advice) from None


# --- what could leave the limits ----------------------------------------------------------


def _refuse_what_leaves(arguments: BaseModel, reach: Reach, models: Sequence[str]) -> None:
    names = reach.merged.rules.names
    about_text = next((rule for rule in names if rule in ABOUT_TEXT), "")
    about_price = next((rule for rule in names if rule in ABOUT_PRICE), "")
    if about_text and (way := next(_ways_out(arguments, reach, models), "")):
        raise reach.refusal(about_text, f"that rule does not reach {way}")
    if about_price and (way := next(_dearer_ways(arguments, models), "")):
        raise reach.refusal(about_price, f"{way} may cost more than the listed price", "Leave it out.")


def _ways_out(arguments: BaseModel, reach: Reach, models: Sequence[str]) -> Iterator[str]:
    """Whatever carries text past the endpoints that the rules let through, in words."""
    plugins = [plugin for plugin in _list(arguments, "plugins") if getattr(plugin, "enabled", None) is not False]
    for plugin in plugins:
        if plugin.id not in HARMLESS_PLUGINS and not (plugin.id == "file-parser" and _is_native(plugin)):
            yield f"the plugin {plugin.id}. Leave it out"
    for kind in (getattr(tool, "type", None) or "" for tool in _list(arguments, "tools")):
        if kind.startswith("openrouter:") and kind not in HARMLESS_SERVER_TOOLS:
            yield f"the server tool {kind}. Leave it out"
    if any("online" in _suffixes(model) for model in models):
        yield "the web search that :online asks for. Leave the suffix out"
    if getattr(getattr(arguments, "prompt_cache_options", None), "ttl", None):
        yield "a prompt cache that lasts. Leave prompt_cache_options.ttl out"
    if not any(map(_is_native, plugins)) and carries_files(arguments) and not _all_read_files(reach, models):
        yield (
            "the reader that turns files into text for models that read none. Choose a model that reads "
            'files, or add the plugin file-parser with the engine "native"'
        )


def _dearer_ways(arguments: BaseModel, models: Sequence[str]) -> Iterator[str]:
    """Whatever may cost more than the price that endpoints are filtered by, in words."""
    tier = getattr(arguments, "service_tier", None)
    if tier is not None and tier not in PLAIN_TIERS:
        yield f"the service tier {tier}"
    if getattr(arguments, "speed", None) == "fast":
        yield "the speed “fast”"
    if any("nitro" in _suffixes(model) for model in models):
        yield "the suffix :nitro, which allows the priority tier,"


def _suffixes(model: str) -> list[str]:
    return model.lower().split(":")[1:]


def _is_native(plugin: Any) -> bool:
    return plugin.id == "file-parser" and plugin.pdf is not None and plugin.pdf.engine == "native"


def _all_read_files(reach: Reach, models: Sequence[str]) -> bool:
    found = [reach.catalog.find(model) for model in models]
    return all(facts is not None and "file" in facts.input_modalities for facts in found)


def _asks_for_tier(arguments: BaseModel) -> bool:
    tier = getattr(arguments, "service_tier", None)
    return tier is not None and tier not in ("default", "standard", "standard_only")


def _list(arguments: BaseModel, name: str) -> Sequence[Any]:
    return getattr(arguments, name, None) or ()
