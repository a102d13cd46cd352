"""A chain: the models that may be asked for an answer, and how the first of them is found. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import TextChoices

MOST_MODELS = 6
# A model, a preset, or a pattern in which * stands for anything.
ENTRY = r"^(~?[\w.*-]+/[\w.:*-]+|\*[\w.:*-]*|@preset/[\w-]+)\Z"
OLD_FIELDS = ("model", "fallback_model")


class Routing(TextChoices):
    """Which model of a chain is asked first."""

    ORDER = "order", "In the order given"
    CHEAPEST = "cheapest", "The cheapest that fits"
    FASTEST = "fastest", "The fastest that fits"
    LARGEST = "largest", "The largest context that fits"
    CHOOSE = "choose", "Let the persona choose among those that fit"


def is_pattern(entry: str) -> bool:
    """Whether an entry of a chain stands for several models."""
    return "*" in entry


def named(chain: Sequence[str]) -> list[str]:
    """Return the models of a chain that are named one by one."""
    return [entry for entry in chain if not is_pattern(entry)]


def problem_of(chain: Sequence[str], routing: str) -> str:
    """Say what is wrong with a chain as a whole, and what to do; empty when nothing is."""
    if len(chain) > MOST_MODELS:
        return f"Name at most {MOST_MODELS} models; a pattern such as openai/* stands for many."
    twice = next((entry for entry in chain if chain.count(entry) > 1), "")
    if twice:
        return f"{twice} is named twice. The second time it would be just as busy; choose another model."
    patterns = [entry for entry in chain if is_pattern(entry)]
    if patterns and routing == Routing.ORDER:
        return f"{patterns[0]} stands for several models. Choose a rule that picks among them, or name one."
    return ""


def with_chain(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored stage in today's form: once a stage named a model and one fallback."""
    if "chain" in data or not any(name in data for name in OLD_FIELDS):
        return dict(data)
    kept = {name: value for name, value in data.items() if name not in OLD_FIELDS}
    return kept | {"chain": [data[name] for name in OLD_FIELDS if data.get(name)]}
