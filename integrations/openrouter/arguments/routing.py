"""How a request is routed and what runs beside the model: provider choice, plugins, server tools."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from integrations.invalid import refuse
from integrations.openrouter.arguments.base import (
    Amount,
    Domain,
    FunctionName,
    ModelPattern,
    ProviderSlug,
    Strict,
    Text,
)

Quantization = Literal[
    "int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32", "unknown"
]
SortBy = Literal["price", "throughput", "latency", "exacto"]
SearchMode = Literal["instant", "fast", "auto", "deep-lite", "deep", "deep-reasoning", "turbo", "basic", "advanced"]
ProviderList = Annotated[list[ProviderSlug], Field(min_length=1, max_length=100)]
Domains = Annotated[list[Domain], Field(max_length=100)]
Positive = Annotated[float, Field(gt=0, le=1_000_000)]

# What a web page or a search may add to the prompt. Kept here so that the most a call can read is known.
SEARCH_TOKENS = 60_000
FETCH_TOKENS = 100_000
# Characters of each result, by the size of the context that is asked for; without one, some 4,000.
RESULT_CHARACTERS = {"low": 5_000, "medium": 15_000, "high": 30_000}
USUAL_CHARACTERS = 4_000
USUAL_RESULTS = 5


class SortConfig(Strict):
    by: SortBy | None = None
    partition: Literal["model", "none"] | None = None
    """none compares the endpoints of all the models at once."""


class MaxPrice(Strict):
    """The most you are willing to pay. USD per million tokens, per image or per request."""

    prompt: Amount | None = None
    completion: Amount | None = None
    image: Amount | None = None
    audio: Amount | None = None
    request: Amount | None = None


class Percentiles(Strict):
    p50: Positive | None = None
    p75: Positive | None = None
    p90: Positive | None = None
    p99: Positive | None = None


class ProviderPreferences(Strict):
    """Which providers may serve the call, and in what order they are tried."""

    order: ProviderList | None = None
    """Providers to try first, in this order."""
    only: ProviderList | None = None
    """The only providers allowed."""
    ignore: ProviderList | None = None
    """Providers never used."""
    allow_fallbacks: bool | None = None
    """false: only the first choice is tried, and its error comes back."""
    require_parameters: bool | None = None
    """true: only endpoints that support every parameter sent."""
    data_collection: Literal["allow", "deny"] | None = None
    """deny: only providers that do not keep prompts for training."""
    zdr: bool | None = None
    """true: only endpoints that retain nothing."""
    enforce_distillable_text: bool | None = None
    """true: only models whose output may be used for training."""
    quantizations: Annotated[list[Quantization], Field(min_length=1, max_length=12)] | None = None
    sort: SortBy | SortConfig | None = None
    max_price: MaxPrice | None = None
    preferred_min_throughput: Positive | Percentiles | None = None
    """Tokens per second. Slower endpoints are tried later, not refused."""
    preferred_max_latency: Positive | Percentiles | None = None
    """Seconds to the first token. Slower endpoints are tried later, not refused."""

    @model_validator(mode="after")
    def _something_is_left(self) -> "ProviderPreferences":
        if self.only and set(self.only) <= set(self.ignore or ()):
            raise refuse("Every provider in `only` is also in `ignore`.", "Leave at least one provider.", at="only")
        return self


class UserLocation(Strict):
    type: Literal["approximate"]
    city: Annotated[str, Field(max_length=100)] | None = None
    region: Annotated[str, Field(max_length=100)] | None = None
    country: Annotated[str, Field(max_length=100)] | None = None
    timezone: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$")] | None = None


class PdfOptions(Strict):
    engine: Literal["mistral-ocr", "native", "cloudflare-ai"] | None = None
    """mistral-ocr costs extra per page; cloudflare-ai is free; native uses the model's own reader."""


class FileParser(Strict):
    id: Literal["file-parser"]
    enabled: bool | None = None
    pdf: PdfOptions | None = None


class Web(Strict):
    id: Literal["web"]
    enabled: bool | None = None
    engine: Literal["native", "exa", "firecrawl", "parallel", "perplexity"] | None = None
    max_results: Annotated[int, Field(ge=1, le=25)] | None = None
    max_uses: Annotated[int, Field(ge=1, le=10)] | None = None
    mode: SearchMode | None = None
    search_prompt: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    include_domains: Domains | None = None
    exclude_domains: Domains | None = None
    user_location: UserLocation | None = None

    @property
    def reads(self) -> int:
        return max(SEARCH_TOKENS, USUAL_CHARACTERS * (self.max_results or USUAL_RESULTS)) * (self.max_uses or 1)


class WebFetch(Strict):
    id: Literal["web-fetch"]
    max_uses: Annotated[int, Field(ge=1, le=10)] = 1
    max_content_tokens: Annotated[int, Field(ge=1, le=FETCH_TOKENS)] = 20_000
    allowed_domains: Domains | None = None
    blocked_domains: Domains | None = None

    @property
    def reads(self) -> int:
        return self.max_uses * self.max_content_tokens


class ResponseHealing(Strict):
    id: Literal["response-healing"]
    enabled: bool | None = None


class ContextCompression(Strict):
    id: Literal["context-compression"]
    enabled: bool | None = None
    engine: Literal["middle-out"] | None = None


class Moderation(Strict):
    id: Literal["moderation"]


class _Router(Strict):
    enabled: bool | None = None
    allowed_models: Annotated[list[ModelPattern], Field(max_length=1024)] | None = None
    excluded_models: Annotated[list[ModelPattern], Field(max_length=1024)] | None = None
    cost_tier: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class AutoRouter(_Router):
    id: Literal["auto-router"]
    pin_model: bool | None = None


class AutoBetaRouter(_Router):
    id: Literal["auto-beta-router"]


class ParetoRouter(Strict):
    id: Literal["pareto-router"]
    enabled: bool | None = None
    min_coding_score: Annotated[float, Field(ge=0, le=1)] | None = None
    max_price: Annotated[float, Field(ge=0, le=100_000)] | None = None
    price_source: Literal["prompt", "weighted_avg"] | None = None


# "fusion" is left out: it asks up to eight models, so the most a call can cost would not be known.
Plugin = Annotated[
    FileParser
    | Web
    | WebFetch
    | ResponseHealing
    | ContextCompression
    | Moderation
    | AutoRouter
    | AutoBetaRouter
    | ParetoRouter,
    Field(discriminator="id"),
]


class WebSearchParameters(Strict):
    engine: Literal["auto", "native", "exa", "parallel", "firecrawl", "perplexity"] | None = None
    max_results: Annotated[int, Field(ge=1, le=25)] | None = None
    max_total_results: Annotated[int, Field(ge=1, le=100)] | None = None
    max_uses: Annotated[int, Field(ge=1, le=10)] = 3
    max_characters: Annotated[int, Field(ge=1, le=200_000)] | None = None
    mode: SearchMode | None = None
    search_context_size: Literal["low", "medium", "high"] | None = None
    allowed_domains: Domains | None = None
    excluded_domains: Domains | None = None
    user_location: UserLocation | None = None


class WebFetchParameters(Strict):
    engine: Literal["auto", "native", "openrouter", "exa", "parallel", "firecrawl"] | None = None
    max_uses: Annotated[int, Field(ge=1, le=10)] = 3
    max_content_tokens: Annotated[int, Field(ge=1, le=FETCH_TOKENS)] = 20_000
    allowed_domains: Domains | None = None
    blocked_domains: Domains | None = None


class DatetimeParameters(Strict):
    timezone: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$")] | None = None


class WebSearchTool(Strict):
    """OpenRouter searches the web when the model asks for it."""

    type: Literal["openrouter:web_search"]
    parameters: WebSearchParameters = Field(default_factory=WebSearchParameters)

    @property
    def reads(self) -> int:
        said = self.parameters
        characters = said.max_characters or RESULT_CHARACTERS.get(said.search_context_size or "", USUAL_CHARACTERS)
        return max(SEARCH_TOKENS, characters * (said.max_results or USUAL_RESULTS)) * said.max_uses


class WebFetchTool(Strict):
    """OpenRouter fetches a web page when the model asks for it."""

    type: Literal["openrouter:web_fetch"]
    parameters: WebFetchParameters = Field(default_factory=WebFetchParameters)

    @property
    def reads(self) -> int:
        return self.parameters.max_uses * self.parameters.max_content_tokens


class DatetimeTool(Strict):
    """OpenRouter tells the model what time it is."""

    type: Literal["openrouter:datetime"]
    parameters: DatetimeParameters | None = None


# Server tools that run code, keep files or ask further models are left out: we could not bound them.
ServerTool = WebSearchTool | WebFetchTool | DatetimeTool


class StepCountIs(Strict):
    type: Literal["step_count_is"]
    step_count: Annotated[int, Field(ge=1, le=100)]


class HasToolCall(Strict):
    type: Literal["has_tool_call"]
    tool_name: FunctionName


class MaxTokensUsed(Strict):
    type: Literal["max_tokens_used"]
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)]


class MaxCost(Strict):
    type: Literal["max_cost"]
    max_cost_in_dollars: Annotated[float, Field(gt=0, le=1000)]


class FinishReasonIs(Strict):
    type: Literal["finish_reason_is"]
    reason: Annotated[Text, Field(max_length=64)]


StopCondition = Annotated[
    StepCountIs | HasToolCall | MaxTokensUsed | MaxCost | FinishReasonIs, Field(discriminator="type")
]
StopConditions = Annotated[list[StopCondition], Field(min_length=1, max_length=10)]
