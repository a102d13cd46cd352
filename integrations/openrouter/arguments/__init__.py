"""What each OpenRouter tool may be told: one strict model per tool."""

from integrations.openrouter.arguments.account import (
    CoinbaseArguments,
    CreditsArguments,
    GenerationArguments,
    KeyArguments,
)
from integrations.openrouter.arguments.catalog import (
    EmbeddingModelsArguments,
    EndpointsArguments,
    ModelFilters,
    ModelsArguments,
    ModelsCountArguments,
    ProvidersArguments,
    UserModelsArguments,
    ZdrArguments,
)
from integrations.openrouter.arguments.chat import ChatArguments
from integrations.openrouter.arguments.consulting import ChatConsultation, MessageConsultation
from integrations.openrouter.arguments.message import MessageArguments

__all__ = [
    "ChatArguments",
    "ChatConsultation",
    "CoinbaseArguments",
    "CreditsArguments",
    "EmbeddingModelsArguments",
    "EndpointsArguments",
    "GenerationArguments",
    "KeyArguments",
    "MessageArguments",
    "MessageConsultation",
    "ModelFilters",
    "ModelsArguments",
    "ModelsCountArguments",
    "ProvidersArguments",
    "UserModelsArguments",
    "ZdrArguments",
]
