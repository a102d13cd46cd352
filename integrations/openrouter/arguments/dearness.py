"""What a caller's routing wishes become, so that nothing dearer is asked than was counted with."""

from decimal import Decimal

from integrations.facts import Prices
from integrations.openrouter.arguments.chat import ChatArguments
from integrations.openrouter.arguments.message import MessageArguments
from integrations.openrouter.arguments.routing import MaxPrice, ProviderPreferences

MILLION = 1_000_000  # tokens, by which OpenRouter writes prices


def no_dearer(arguments: ChatArguments | MessageArguments, prices: Prices) -> ChatArguments | MessageArguments:
    """The arguments with a limit on what endpoints ask, beside the caller's own."""
    limit = MaxPrice(prompt=prices.tokens_in * MILLION, completion=prices.tokens_out * MILLION, request=prices.request)
    wish = arguments.provider or ProviderPreferences()
    own = wish.max_price or MaxPrice()
    lower = {name: _lower(getattr(own, name), getattr(limit, name)) for name in ("prompt", "completion", "request")}
    return arguments.model_copy(
        update={"provider": wish.model_copy(update={"max_price": own.model_copy(update=lower)})}
    )


def _lower(one: Decimal | None, other: Decimal) -> Decimal:
    return other if one is None else min(one, other)
