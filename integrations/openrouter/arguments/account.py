"""The arguments of the tools about an account: balance, key, generation, the withdrawn charge."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from integrations.invalid import refuse
from integrations.openrouter.arguments.base import Amount, Arguments


class CreditsArguments(Arguments):
    """Nothing to say: the key decides whose balance it is."""


class KeyArguments(Arguments):
    """Nothing to say: the key describes itself."""


class GenerationArguments(Arguments):
    """Which generation, and how patient to be: its record appears some seconds after the answer."""

    id: Annotated[str, Field(pattern=r"^gen-[A-Za-z0-9_-]{8,120}$", examples=["gen-1777903368-Jcaj9JGpXQgE0Tq3mmwV"])]
    """The generation id that an answer carried."""
    wait: bool = True
    """Ask again until the record is there."""
    max_wait_seconds: Annotated[int, Field(ge=1, le=120)] = 30
    """Give up after this many seconds."""


class CoinbaseArguments(Arguments):
    """What a charge took while it existed."""

    amount: Amount
    """US dollars, more than 0."""
    sender: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    """Address of the paying wallet."""
    chain_id: Literal[1, 137, 8453]
    """1 Ethereum, 137 Polygon, 8453 Base."""

    @model_validator(mode="after")
    def _pays_something(self) -> "CoinbaseArguments":
        if not self.amount:
            raise refuse("The amount must be more than 0.", 'Write it in quotes, for example "10.00".', at="amount")
        return self
