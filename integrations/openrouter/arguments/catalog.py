"""The arguments of the tools that read the catalog: models, endpoints, providers."""

from typing import Annotated, Literal

from pydantic import Field

from integrations.openrouter.arguments.base import Amount, Arguments, AuthorSlug, CatalogId, ProviderSlug

InputModality = Literal["text", "image", "file", "audio", "video"]
OutputModality = Literal[
    "text", "image", "audio", "embeddings", "video", "rerank", "speech", "transcription", "decisions"
]
CountedModality = OutputModality | Literal["all"]
Category = Literal[
    "programming",
    "roleplay",
    "marketing",
    "marketing/seo",
    "technology",
    "science",
    "translation",
    "legal",
    "finance",
    "health",
    "trivia",
    "academia",
]
Parameter = Literal[
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "top_a",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "max_tokens",
    "max_completion_tokens",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "prediction",
    "seed",
    "response_format",
    "structured_outputs",
    "stop",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "include_reasoning",
    "reasoning",
    "reasoning_effort",
    "web_search_options",
    "verbosity",
]
CatalogSort = Literal[
    "most-popular",
    "newest",
    "top-weekly",
    "pricing-low-to-high",
    "pricing-high-to-low",
    "context-high-to-low",
    "throughput-high-to-low",
    "latency-low-to-high",
    "intelligence-high-to-low",
    "coding-high-to-low",
    "agentic-high-to-low",
    "design-arena-elo-high-to-low",
]
OwnSort = Literal["newest", "pricing-low-to-high", "pricing-high-to-low", "context-high-to-low"]
Search = Annotated[str, Field(min_length=1, max_length=200)]


class Page(Arguments):
    """Which stretch of a list."""

    offset: Annotated[int, Field(ge=0, le=100_000)] = 0
    """How many rows to skip."""
    limit: Annotated[int, Field(ge=1, le=200)] = 20
    """How many rows to return."""


class ModelFilters(Page):
    """What a model must be like to be listed. Several filters must all fit."""

    q: Search | None = None
    """Part of a name or id."""
    supported_parameters: Annotated[list[Parameter], Field(min_length=1, max_length=26)] | None = None
    """Parameters the model must support, all of them."""
    input_modalities: Annotated[list[InputModality], Field(min_length=1, max_length=5)] | None = None
    """What it must be able to read."""
    output_modalities: Annotated[list[OutputModality], Field(min_length=1, max_length=9)] | None = None
    """What it must be able to make. Left out: text."""
    min_context: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Tokens its context must hold."""
    max_prompt_price: Amount | None = None
    """USD per million tokens of input."""
    max_output_price: Amount | None = None
    """USD per million tokens of output."""
    authors: Annotated[list[AuthorSlug], Field(min_length=1, max_length=50)] | None = None
    """Who made it, as the first part of the model id."""
    free_only: bool = False
    """Only models whose id ends in :free."""


class ModelsArguments(ModelFilters):
    category: Category | None = None
    """What it is used for most."""
    providers: Annotated[list[ProviderSlug], Field(min_length=1, max_length=50)] | None = None
    """Who serves it."""
    zdr: bool | None = None
    """true: only models with an endpoint that retains nothing."""
    region: Literal["eu", "us"] | None = None
    """Only models served in this region."""
    sort: CatalogSort | None = None
    """What comes first; models without such a figure come last."""


class UserModelsArguments(ModelFilters):
    sort: OwnSort | None = None
    """What comes first; models without such a figure come last."""


class EmbeddingModelsArguments(Page):
    q: Search | None = None
    """Part of a name or id."""


class ModelsCountArguments(Arguments):
    output_modalities: Annotated[list[CountedModality], Field(min_length=1, max_length=10)] | None = None
    """What the counted models make; all counts every model. Left out: text."""


class EndpointsArguments(Arguments):
    model: CatalogId
    """The model whose endpoints to list."""
    sort: Literal["price", "latency", "throughput", "uptime"] | None = None
    """Best first."""


class ProvidersArguments(Arguments):
    slug: Annotated[list[ProviderSlug], Field(min_length=1, max_length=100)] | None = None
    """Only these providers."""


class ZdrArguments(Page):
    model: CatalogId | None = None
    """Only endpoints of this model."""
    provider: ProviderSlug | None = None
    """Only endpoints of this provider."""
    impact_on: Annotated[list[CatalogId], Field(min_length=1, max_length=100)] | None = None
    """Model ids to check: which keep an endpoint that retains nothing, and which would be lost."""
