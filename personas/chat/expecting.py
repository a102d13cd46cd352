"""What a message will take, before it is sent."""

from decimal import Decimal

from accounts.models import Team
from integrations import catalog
from integrations.facts import ModelFacts
from integrations.pricing import dearest
from personas.chains import named
from personas.chat.shown import Figures
from personas.estimates import Estimate
from personas.models import PersonaVersion


def of_message(*, team: Team, version: PersonaVersion, before: Figures | None = None) -> Estimate:
    """
    Estimate the turn that a message begins: at most what its persona's limit allows, likely as the one before.

    The limit counts platform credits, and so tokens: they cost at most what the persona's dearest
    model asks for as many. Without named models no dollars are known.
    """
    known = catalog.current()
    models = [known.find(model) for model in named(version.chain)]
    return Estimate(
        most_credits=version.most_credits,
        most_usd=_most_usd(models, version.most_credits * team.plan.tokens_per_credit, version.most_steps),
        likely_credits=before.credits if before and not before.held else None,
        likely_usd=before.usd if before and not before.unknown else None,
    )


def of_two(one: Estimate) -> Estimate:
    """Estimate a message that two models answer side by side: each answer is a turn with the limit of one."""
    return Estimate(**{name: None if (each := getattr(one, name)) is None else 2 * each for name in AMOUNTS})


AMOUNTS = ("most_credits", "likely_credits", "most_usd", "likely_usd")


def _most_usd(models: list[ModelFacts | None], tokens: int, calls: int) -> Decimal | None:
    """The price of this many tokens in as many calls of whichever model is the dearest; None where one is unknown."""
    if not models or None in models:
        return None
    asked = [dearest(model) for model in models if model]
    if any(prices.tokens_in is None or prices.tokens_out is None for prices in asked):
        return None
    return max(max(each.tokens_in, each.tokens_out) * tokens + (each.request or 0) * calls for each in asked)
