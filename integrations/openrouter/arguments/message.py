"""The arguments of "Create message": the Anthropic shape."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from integrations.invalid import refuse
from integrations.openrouter.arguments.base import (
    BASE64,
    HTTPS,
    Arguments,
    CacheControl,
    FunctionName,
    JsonSchema,
    Media,
    ModelId,
    Name,
    Strict,
    Text,
)
from integrations.openrouter.arguments.limits import (
    DEFAULT_OUTPUT_TOKENS,
    MOST_OUTPUT_TOKENS,
    OPEN_ENDED_TOKENS,
    PICTURE_TOKENS,
    TEXT_LIMIT_TEXT,
    check_text_size,
    document_tokens,
)
from integrations.openrouter.arguments.routing import (
    DatetimeTool,
    Plugin,
    ProviderPreferences,
    StopConditions,
    WebFetchTool,
    WebSearchTool,
)

Url = Annotated[str, Field(pattern=rf"^{HTTPS}$")]
Base64 = Annotated[str, Field(pattern=rf"^{BASE64}$")]
Objects = Annotated[list[dict[str, Any]], Field(max_length=1000)]


# --- blocks -------------------------------------------------------------------------------


class CitationSwitch(Strict):
    enabled: bool | None = None


class TextBlock(Strict):
    type: Literal["text"]
    text: Text
    cache_control: CacheControl | None = None
    citations: Objects | None = None


class Base64Image(Strict):
    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: Base64


class UrlSource(Strict):
    type: Literal["url"]
    url: Url


class ImageBlock(Media):
    type: Literal["image"]
    source: Annotated[Base64Image | UrlSource, Field(discriminator="type")]
    cache_control: CacheControl | None = None

    def content_bytes(self) -> int:
        return len(self.source.data) if isinstance(self.source, Base64Image) else 0

    def most_tokens(self) -> int:
        return PICTURE_TOKENS


class Base64Pdf(Strict):
    type: Literal["base64"]
    media_type: Literal["application/pdf"]
    data: Base64


class PlainText(Strict):
    type: Literal["text"]
    media_type: Literal["text/plain"]
    data: Text


class Excerpts(Strict):
    type: Literal["content"]
    content: Text | Annotated[list[TextBlock], Field(min_length=1, max_length=200)]


class DocumentBlock(Media):
    type: Literal["document"]
    source: Annotated[Base64Pdf | PlainText | Excerpts | UrlSource, Field(discriminator="type")]
    title: Annotated[str, Field(max_length=500)] | None = None
    context: Annotated[str, Field(max_length=100_000)] | None = None
    citations: CitationSwitch | None = None
    cache_control: CacheControl | None = None

    def content_bytes(self) -> int:
        return len(self.source.data) if isinstance(self.source, Base64Pdf) else 0

    def most_tokens(self) -> int:
        if isinstance(self.source, Base64Pdf):
            return document_tokens(self.content_bytes())
        return OPEN_ENDED_TOKENS if isinstance(self.source, UrlSource) else 0


class SearchResultBlock(Strict):
    type: Literal["search_result"]
    source: Name
    title: Name
    content: Annotated[list[TextBlock], Field(min_length=1, max_length=200)]
    citations: CitationSwitch | None = None
    cache_control: CacheControl | None = None


class ToolUseBlock(Strict):
    """A function the model asked for, as it asked."""

    type: Literal["tool_use"]
    id: Name
    name: FunctionName
    input: dict[str, Any] = Field(default_factory=dict)
    cache_control: CacheControl | None = None


class ToolResultBlock(Strict):
    """What that function answered."""

    type: Literal["tool_result"]
    tool_use_id: Name
    content: (
        str
        | Annotated[
            list[Annotated[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock, Field(discriminator="type")]],
            Field(max_length=200),
        ]
        | None
    ) = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


class ThinkingBlock(Strict):
    """A thought of the model, given back unchanged."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class RedactedThinkingBlock(Strict):
    type: Literal["redacted_thinking"]
    data: str


class ServerToolUseBlock(Strict):
    type: Literal["server_tool_use"]
    id: Name
    name: FunctionName
    input: dict[str, Any] = Field(default_factory=dict)
    cache_control: CacheControl | None = None


class WebSearchResultBlock(Strict):
    type: Literal["web_search_tool_result"]
    tool_use_id: Name
    content: Objects | dict[str, Any]
    cache_control: CacheControl | None = None


class CompactionBlock(Strict):
    type: Literal["compaction"]
    content: str | None
    encrypted_content: str | None = None
    cache_control: CacheControl | None = None


Block = Annotated[
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ToolUseBlock
    | ToolResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ServerToolUseBlock
    | WebSearchResultBlock
    | CompactionBlock,
    Field(discriminator="type"),
]


class TurnMessage(Strict):
    role: Literal["user", "assistant", "system"]
    content: Text | Annotated[list[Block], Field(min_length=1, max_length=500)]


# --- tools and output ----------------------------------------------------------------------


class CustomTool(Strict):
    """A function of yours that the model may ask you to call."""

    name: FunctionName
    description: Annotated[str, Field(max_length=10_000)] | None = None
    input_schema: JsonSchema
    type: Literal["custom"] | None = None
    cache_control: CacheControl | None = None
    defer_loading: bool | None = None


def _kind_of_tool(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return kind if isinstance(kind, str) else "custom"


MessageTool = Annotated[
    Annotated[CustomTool, Tag("custom")]
    | Annotated[WebSearchTool, Tag("openrouter:web_search")]
    | Annotated[WebFetchTool, Tag("openrouter:web_fetch")]
    | Annotated[DatetimeTool, Tag("openrouter:datetime")],
    Discriminator(_kind_of_tool),
]


class ChooseFreely(Strict):
    type: Literal["auto", "any"]
    disable_parallel_tool_use: bool | None = None


class ChooseNone(Strict):
    type: Literal["none"]


class ChooseTool(Strict):
    type: Literal["tool"]
    name: FunctionName
    disable_parallel_tool_use: bool | None = None


class ThinkingOn(Strict):
    type: Literal["enabled"]
    budget_tokens: Annotated[int, Field(ge=1024, le=MOST_OUTPUT_TOKENS)]
    display: Literal["summarized", "omitted"] | None = None


class ThinkingAdaptive(Strict):
    type: Literal["adaptive"]
    display: Literal["summarized", "omitted"] | None = None


class ThinkingOff(Strict):
    type: Literal["disabled"]


class OutputSchema(Strict):
    type: Literal["json_schema"]
    schema_: JsonSchema = Field(alias="schema")


class TaskBudget(Strict):
    type: Literal["tokens"]
    total: Annotated[int, Field(ge=20_000, le=10_000_000)]
    remaining: Annotated[int, Field(ge=0, le=10_000_000)] | None = None


class OutputConfig(Strict):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputSchema | None = None
    task_budget: TaskBudget | None = None


# --- context management ---------------------------------------------------------------------


class InputTokens(Strict):
    type: Literal["input_tokens"]
    value: Annotated[int, Field(ge=1, le=10_000_000)]


class ToolUses(Strict):
    type: Literal["tool_uses"]
    value: Annotated[int, Field(ge=0, le=10_000)]


class ThinkingTurns(Strict):
    type: Literal["thinking_turns"]
    value: Annotated[int, Field(ge=1, le=10_000)]


class ClearToolUses(Strict):
    type: Literal["clear_tool_uses_20250919"]
    trigger: Annotated[InputTokens | ToolUses, Field(discriminator="type")] | None = None
    keep: ToolUses | None = None
    clear_at_least: InputTokens | None = None
    clear_tool_inputs: bool | Annotated[list[FunctionName], Field(max_length=128)] | None = None
    exclude_tools: Annotated[list[FunctionName], Field(max_length=128)] | None = None


class ClearThinking(Strict):
    type: Literal["clear_thinking_20251015"]
    keep: Literal["all"] | ThinkingTurns | None = None


class Compact(Strict):
    type: Literal["compact_20260112"]
    trigger: InputTokens | None = None
    instructions: Annotated[str, Field(max_length=10_000)] | None = None
    pause_after_compaction: bool | None = None


class ContextManagement(Strict):
    edits: Annotated[
        list[Annotated[ClearToolUses | ClearThinking | Compact, Field(discriminator="type")]],
        Field(min_length=1, max_length=10),
    ]


# --- the arguments --------------------------------------------------------------------------


class MessageArguments(Arguments):
    """Ask a model for the next message of a conversation, in the Anthropic shape."""

    model: ModelId
    """The model to ask, exactly as the catalog writes it."""
    messages: Annotated[list[TurnMessage], Field(min_length=1, max_length=2000)]
    """The conversation so far, oldest first."""
    system: Text | Annotated[list[TextBlock], Field(min_length=1, max_length=100)] | None = None
    """What the model is told before the conversation."""
    max_tokens: Annotated[int, Field(ge=1, le=MOST_OUTPUT_TOKENS)] = DEFAULT_OUTPUT_TOKENS
    """The most tokens the answer may have, thinking included."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0 is the most predictable."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Only the likeliest words up to this share are considered."""
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Only this many of the likeliest words are considered."""
    stop_sequences: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16)] | None
    ) = None
    """Texts at which the answer ends."""
    thinking: Annotated[ThinkingOn | ThinkingAdaptive | ThinkingOff, Field(discriminator="type")] | None = None
    """Whether the model thinks before it answers, and how long."""
    tools: Annotated[list[MessageTool], Field(min_length=1, max_length=128)] | None = None
    """Functions the model may ask for, and server tools it may use."""
    tool_choice: Annotated[ChooseFreely | ChooseNone | ChooseTool, Field(discriminator="type")] | None = None
    """Whether the model must, may or must not use a tool, or which one."""
    output_config: OutputConfig | None = None
    """How much effort, and what form the answer must have."""
    models: Annotated[list[ModelId], Field(min_length=1, max_length=10)] | None = None
    """Models to try in this order when the one before fails. Not together with `fallbacks`."""
    fallbacks: Annotated[list[ModelId], Field(min_length=1, max_length=3)] | None = None
    """Up to three models to try next. Not together with `models`."""
    provider: ProviderPreferences | None = None
    """Which providers may serve the call, and in what order."""
    plugins: Annotated[list[Plugin], Field(max_length=10)] | None = None
    """What runs before or after the model."""
    service_tier: Annotated[str, Field(max_length=32, pattern=r"^[a-z_]+$")] | None = None
    """The provider's own word for faster or cheaper service."""
    speed: Literal["fast", "standard"] | None = None
    """fast costs more, where the model has it."""
    cache_control: CacheControl | None = None
    """Let the provider cache the conversation so far."""
    context_management: ContextManagement | None = None
    """What is cleared when the conversation grows long."""
    stop_server_tools_when: StopConditions | None = None
    """When OpenRouter stops running server tools; any one condition suffices."""

    refused: ClassVar[dict[str, str]] = {
        "stream": "Leave it out: answers are always streamed to us and returned whole.",
        "user": "Leave it out: the platform fills it in.",
        "session_id": "Leave it out: the platform fills it in.",
        "metadata": "Leave it out: the platform fills it in.",
        "trace": "Leave it out: the platform fills it in.",
        "route": "Use provider.sort.",
        "max_completion_tokens": "Here it is called max_tokens.",
        "stop": "Here it is called stop_sequences.",
    }

    def body(self) -> dict[str, Any]:
        """As the API wants it: each fallback is an object there."""
        body = super().body()
        if self.fallbacks:
            body["fallbacks"] = [{"model": model} for model in self.fallbacks]
        return body

    @model_validator(mode="after")
    def _hangs_together(self) -> "MessageArguments":
        if self.fallbacks and self.models:
            raise refuse("`fallbacks` and `models` exclude each other.", "Leave one of them out.", at="fallbacks")
        if isinstance(self.thinking, ThinkingOn) and self.thinking.budget_tokens >= self.max_tokens:
            raise refuse(
                "`thinking.budget_tokens` leaves no tokens for the answer.",
                "Make max_tokens larger than it.",
                at="thinking",
            )
        self._check_tool_choice()
        check_text_size(self, at="messages")
        return self

    def _check_tool_choice(self) -> None:
        if not isinstance(self.tool_choice, ChooseTool | ChooseFreely) or self.tool_choice.type == "auto":
            return
        if not self.tools:
            raise refuse("There are no tools to choose from.", "Add tools, or leave this out.", at="tool_choice")
        names = {tool.name for tool in self.tools if isinstance(tool, CustomTool)}
        if isinstance(self.tool_choice, ChooseTool) and self.tool_choice.name not in names:
            raise refuse("The chosen tool is not among `tools`.", "Choose one of them.", at="tool_choice")


MessageArguments.__doc__ = f"{MessageArguments.__doc__} {TEXT_LIMIT_TEXT}"
