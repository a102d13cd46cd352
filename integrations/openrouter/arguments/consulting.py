"""
What a model may say when it consults another model: few fields, texts only.

All that fits here fits the arguments of the whole tool. There are no tools, so whoever is consulted
consults nobody, and no addresses, so nothing is fetched for it. A request that offers these stays
small: the whole schemas are 44 KB each.
"""

from typing import Annotated, Literal

from pydantic import AliasChoices, Field

from integrations.openrouter.arguments.base import Arguments, ModelId, Strict, Text
from integrations.openrouter.arguments.limits import DEFAULT_OUTPUT_TOKENS, MOST_OUTPUT_TOKENS

Length = Annotated[int, Field(ge=1, le=MOST_OUTPUT_TOKENS)]
Temperature = Annotated[float, Field(ge=0, le=2)]


class Said(Strict):
    role: Literal["system", "user", "assistant"]
    content: Text


class Turn(Strict):
    role: Literal["user", "assistant"]
    content: Text


class ChatConsultation(Arguments):
    """Ask another model. It sees only these messages."""

    model: ModelId
    """The model to ask, exactly as List available models writes it."""
    messages: Annotated[list[Said], Field(min_length=1, max_length=50)]
    """All that it is told, oldest first."""
    max_completion_tokens: Annotated[
        Length, Field(validation_alias=AliasChoices("max_completion_tokens", "max_tokens"))
    ] = DEFAULT_OUTPUT_TOKENS
    """The most tokens its answer may have, thinking included."""
    temperature: Temperature | None = None
    """0 is the most predictable, 2 the most surprising."""


class MessageConsultation(Arguments):
    """Ask another model, in the Anthropic shape. It sees only this."""

    model: ModelId
    """The model to ask, exactly as List available models writes it."""
    system: Text | None = None
    """What it is told before the conversation."""
    messages: Annotated[list[Turn], Field(min_length=1, max_length=50)]
    """The conversation, oldest first."""
    max_tokens: Length = DEFAULT_OUTPUT_TOKENS
    """The most tokens its answer may have, thinking included."""
    temperature: Temperature | None = None
    """0 is the most predictable."""
