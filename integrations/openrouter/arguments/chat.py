"""The arguments of "Create chat completion"."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, Field, model_validator

from integrations.invalid import refuse
from integrations.openrouter.arguments.base import (
    BASE64,
    HTTPS,
    Arguments,
    CacheControl,
    Effort,
    FunctionName,
    JsonSchema,
    Media,
    ModelId,
    Name,
    Strict,
    Text,
    Verbosity,
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
from integrations.openrouter.arguments.routing import Plugin, ProviderPreferences, ServerTool, StopConditions

Penalty = Annotated[float, Field(ge=-2, le=2)]
Fraction = Annotated[float, Field(ge=0, le=1)]
StopText = Annotated[str, Field(min_length=1, max_length=256)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


# --- parts of a message -------------------------------------------------------------------


class CacheBreakpoint(Strict):
    mode: Literal["explicit"]


class TextPart(Strict):
    type: Literal["text"]
    text: Text
    cache_control: CacheControl | None = None
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class ImageUrl(Strict):
    url: Annotated[str, Field(pattern=rf"^({HTTPS}|data:image/[a-z0-9.+-]+;base64,{BASE64})$")]
    """An https address, or the picture itself as data:image/…;base64,…"""
    detail: Literal["auto", "low", "high", "original"] | None = None


class ImagePart(Media):
    type: Literal["image_url"]
    image_url: ImageUrl

    def content_bytes(self) -> int:
        return _carried(self.image_url.url)

    def most_tokens(self) -> int:
        return PICTURE_TOKENS


class InputAudio(Strict):
    data: Annotated[str, Field(pattern=rf"^{BASE64}$")]
    """The sound itself, as base64."""
    format: Literal["wav", "mp3", "flac", "m4a", "ogg", "aiff", "aac", "pcm16", "pcm24"]


class AudioPart(Media):
    type: Literal["input_audio"]
    input_audio: InputAudio

    def content_bytes(self) -> int:
        return len(self.input_audio.data)

    def most_tokens(self) -> int:
        return len(self.input_audio.data)


class VideoUrl(Strict):
    url: Annotated[str, Field(pattern=rf"^({HTTPS}|data:video/[a-z0-9.+-]+;base64,{BASE64})$")]
    """An https address, or the film itself as data:video/…;base64,…"""


class VideoPart(Media):
    type: Literal["video_url"]
    video_url: VideoUrl

    def content_bytes(self) -> int:
        return _carried(self.video_url.url)

    def most_tokens(self) -> int:
        return OPEN_ENDED_TOKENS


class FileContent(Strict):
    filename: Name | None = None
    file_data: Annotated[str, Field(pattern=rf"^({HTTPS}|data:[a-z]+/[a-z0-9.+-]+;base64,{BASE64})$")] | None = None
    """An https address, or the file itself as data:application/pdf;base64,…"""
    file_id: Name | None = None

    @model_validator(mode="after")
    def _names_one_file(self) -> "FileContent":
        if (self.file_data is None) == (self.file_id is None):
            raise refuse("A file needs either `file_data` or `file_id`.", "Give exactly one of the two.")
        return self


class FilePart(Media):
    type: Literal["file"]
    file: FileContent

    def content_bytes(self) -> int:
        return _carried(self.file.file_data or "")

    def most_tokens(self) -> int:
        carried = self.content_bytes()
        return document_tokens(carried) if carried else OPEN_ENDED_TOKENS


def _carried(url: str) -> int:
    return len(url) if url.startswith("data:") else 0


Part = Annotated[TextPart | ImagePart | AudioPart | VideoPart | FilePart, Field(discriminator="type")]
TextParts = Annotated[list[TextPart], Field(min_length=1, max_length=200)]
Parts = Annotated[list[Part], Field(min_length=1, max_length=200)]


# --- messages -----------------------------------------------------------------------------


class SystemMessage(Strict):
    role: Literal["system"]
    content: Text | TextParts
    name: Name | None = None


class DeveloperMessage(Strict):
    role: Literal["developer"]
    content: Text | TextParts
    name: Name | None = None


class UserMessage(Strict):
    role: Literal["user"]
    content: Text | Parts
    name: Name | None = None


class CalledFunction(Strict):
    name: FunctionName
    arguments: str
    """JSON text, as the model wrote it."""


class CalledTool(Strict):
    id: Name
    type: Literal["function"]
    function: CalledFunction
    index: Annotated[int, Field(ge=0, le=1000)] | None = None


class AssistantMessage(Strict):
    """What the model said earlier. Give `reasoning_details` back unchanged and in order."""

    role: Literal["assistant"]
    content: str | Parts | None = None
    name: Name | None = None
    tool_calls: Annotated[list[CalledTool], Field(min_length=1, max_length=128)] | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_details: Annotated[list[dict[str, Any]], Field(max_length=1000)] | None = None
    annotations: Annotated[list[dict[str, Any]], Field(max_length=1000)] | None = None
    model: ModelId | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "AssistantMessage":
        if self.content is None and not self.tool_calls:
            raise refuse("An assistant message needs `content` or `tool_calls`.", "Add one of them.", at="content")
        return self


class ToolMessage(Strict):
    """What a function answered."""

    role: Literal["tool"]
    content: str | Parts
    tool_call_id: Name


Message = Annotated[
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


# --- tools and output ----------------------------------------------------------------------


class FunctionSpec(Strict):
    name: FunctionName
    description: Annotated[str, Field(max_length=10_000)] | None = None
    parameters: JsonSchema | None = None
    """JSON Schema of the function's arguments."""
    strict: bool | None = None


class FunctionTool(Strict):
    """A function of yours that the model may ask you to call."""

    type: Literal["function"]
    function: FunctionSpec
    cache_control: CacheControl | None = None


class ChosenFunction(Strict):
    name: FunctionName


class ChooseFunction(Strict):
    type: Literal["function"]
    function: ChosenFunction


class ChooseServerTool(Strict):
    type: Literal["openrouter:web_search", "openrouter:web_fetch", "openrouter:datetime"]


class TextFormat(Strict):
    type: Literal["text"]


class JsonFormat(Strict):
    """Any JSON. Ask for JSON in the prompt too."""

    type: Literal["json_object"]


class NamedSchema(Strict):
    name: FunctionName
    description: Annotated[str, Field(max_length=10_000)] | None = None
    schema_: JsonSchema | None = Field(default=None, alias="schema")
    strict: bool | None = None


class SchemaFormat(Strict):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


class GrammarFormat(Strict):
    type: Literal["grammar"]
    grammar: Annotated[str, Field(min_length=1, max_length=100_000)]


class PythonFormat(Strict):
    type: Literal["python"]


class Reasoning(Strict):
    """How long the model thinks before it answers. Give `effort` or `max_tokens`, not both."""

    effort: Effort | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MOST_OUTPUT_TOKENS)] | None = None
    exclude: bool | None = None
    """true: think, but do not return the thoughts."""
    enabled: bool | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "all_turns", "current_turn"] | None = None
    mode: Literal["standard", "pro"] | None = None

    @model_validator(mode="after")
    def _one_measure(self) -> "Reasoning":
        if self.effort is not None and self.max_tokens is not None:
            raise refuse("`effort` and `max_tokens` exclude each other.", "Leave one of them out.", at="max_tokens")
        return self


class Prediction(Strict):
    type: Literal["content"]
    content: Text | TextParts


class PromptCacheOptions(Strict):
    mode: Literal["explicit"]
    ttl: Annotated[str, Field(max_length=16, pattern=r"^[0-9]+[smhd]$")] | None = None


# --- the arguments -------------------------------------------------------------------------


class ChatArguments(Arguments):
    """Ask a model for the next message of a conversation."""

    model: ModelId | None = None
    """The model to ask, exactly as the catalog writes it. Either this or `models` is needed."""
    messages: Annotated[list[Message], Field(min_length=1, max_length=2000)]
    """The conversation so far, oldest first."""
    models: Annotated[list[ModelId], Field(min_length=1, max_length=10)] | None = None
    """Models to try in this order when the one before fails."""
    max_completion_tokens: Annotated[
        int,
        Field(
            ge=1,
            le=MOST_OUTPUT_TOKENS,
            validation_alias=AliasChoices("max_completion_tokens", "max_tokens"),
        ),
    ] = DEFAULT_OUTPUT_TOKENS
    """The most tokens the answer may have, thinking included."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0 is the most predictable, 2 the most surprising."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Only the likeliest words up to this share are considered."""
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Only this many of the likeliest words are considered; 0 considers all."""
    min_p: Fraction | None = None
    """Words less likely than this share of the likeliest one are dropped."""
    top_a: Fraction | None = None
    """Like min_p, with the square of the likeliest one."""
    frequency_penalty: Penalty | None = None
    """Above 0: words used often become less likely."""
    presence_penalty: Penalty | None = None
    """Above 0: words used at all become less likely."""
    repetition_penalty: Annotated[float, Field(ge=0, le=2)] | None = None
    """Above 1: words of the input become less likely."""
    seed: Seed | None = None
    """The same seed makes the same answer likelier."""
    stop: StopText | Annotated[list[StopText], Field(min_length=1, max_length=4)] | None = None
    """Texts at which the answer ends."""
    logit_bias: (
        dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]] | None
    ) = Field(default=None, max_length=1000)
    """Token ids and by how much to make each likelier (up to 100) or less likely (down to -100)."""
    logprobs: bool | None = None
    """Return how likely each word was."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Return this many alternatives for each word; needs logprobs."""
    response_format: (
        Annotated[TextFormat | JsonFormat | SchemaFormat | GrammarFormat | PythonFormat, Field(discriminator="type")]
        | None
    ) = None
    """What form the answer must have."""
    tools: (
        Annotated[
            list[Annotated[FunctionTool | ServerTool, Field(discriminator="type")]],
            Field(min_length=1, max_length=128),
        ]
        | None
    ) = None
    """Functions the model may ask for, and server tools it may use."""
    tool_choice: Literal["none", "auto", "required"] | ChooseFunction | ChooseServerTool | None = None
    """Whether the model must, may or must not use a tool, or which one."""
    parallel_tool_calls: bool | None = None
    """Whether the model may ask for several functions at once."""
    reasoning: Reasoning | None = None
    """How long the model thinks before it answers."""
    reasoning_effort: Effort | None = None
    """Short for reasoning.effort."""
    verbosity: Verbosity | None = None
    """How wordy the answer is."""
    modalities: Annotated[list[Literal["text", "image"]], Field(min_length=1, max_length=2)] | None = None
    """What the answer may be made of."""
    image_config: dict[FunctionName, str | float | list[Any]] | None = Field(default=None, max_length=20)
    """Settings of image models, such as aspect_ratio."""
    prediction: Prediction | None = None
    """A text the answer will mostly repeat, to make it faster."""
    plugins: Annotated[list[Plugin], Field(max_length=10)] | None = None
    """What runs before or after the model."""
    provider: ProviderPreferences | None = None
    """Which providers may serve the call, and in what order."""
    service_tier: Literal["auto", "default", "fast", "flex", "priority", "scale", "ultrafast"] | None = None
    """flex is cheaper and slower, priority dearer and faster."""
    cache_control: CacheControl | None = None
    """Let Anthropic models cache the conversation so far."""
    prompt_cache_key: Name | None = None
    """Calls with the same key are sent to the same provider, where its cache is warm."""
    prompt_cache_options: PromptCacheOptions | None = None
    """Explicit caching, for models that ask for it."""
    stop_server_tools_when: StopConditions | None = None
    """When OpenRouter stops running server tools; any one condition suffices."""

    refused: ClassVar[dict[str, str]] = {
        "stream": "Leave it out: answers are always streamed to us and returned whole.",
        "stream_options": "Leave it out: the use of tokens is always returned.",
        "user": "Leave it out: the platform fills it in.",
        "session_id": "Leave it out: the platform fills it in.",
        "metadata": "Leave it out: the platform fills it in.",
        "trace": "Leave it out: the platform fills it in.",
        "max_tokens": "It is the older name of max_completion_tokens. Leave one of the two out.",
        "functions": "Use tools.",
        "function_call": "Use tool_choice.",
        "n": "Leave it out: one answer is returned. Call again for another.",
        "route": "Use provider.sort.",
        "transforms": "Use the context-compression plugin.",
        "include_reasoning": "Use reasoning.",
        "prompt": "Use messages.",
    }

    @model_validator(mode="after")
    def _hangs_together(self) -> "ChatArguments":
        self._check_model()
        self._check_reasoning()
        self._check_tool_choice()
        if self.top_logprobs is not None and not self.logprobs:
            raise refuse("`top_logprobs` needs `logprobs`.", "Set logprobs to true.", at="top_logprobs")
        check_text_size(self, at="messages")
        return self

    def _check_model(self) -> None:
        if self.model is None and self.models is None:
            raise refuse("Say which model to ask.", "Take an id from List available models.", at="model")

    def _check_reasoning(self) -> None:
        reasoning = self.reasoning or Reasoning()
        if self.reasoning_effort is not None and reasoning.effort not in (None, self.reasoning_effort):
            raise refuse(
                "`reasoning_effort` and `reasoning.effort` differ.", "Leave one of them out.", at="reasoning_effort"
            )
        if self.reasoning_effort is not None and reasoning.max_tokens is not None:
            raise refuse(
                "`reasoning_effort` and `reasoning.max_tokens` exclude each other.",
                "Leave one of them out.",
                at="reasoning_effort",
            )
        if (reasoning.max_tokens or 0) >= self.max_completion_tokens:
            raise refuse(
                "`reasoning.max_tokens` leaves no tokens for the answer.",
                "Make max_completion_tokens larger than it.",
                at="reasoning",
            )

    def _check_tool_choice(self) -> None:
        choice = self.tool_choice
        if choice is None or choice in ("none", "auto"):
            return
        if not self.tools:
            raise refuse("There are no tools to choose from.", "Add tools, or leave this out.", at="tool_choice")
        if choice != "required" and _chosen(choice) not in {_offered(tool) for tool in self.tools}:
            raise refuse("The chosen tool is not among `tools`.", "Choose one of them.", at="tool_choice")


def _chosen(choice: ChooseFunction | ChooseServerTool) -> str:
    return choice.function.name if isinstance(choice, ChooseFunction) else choice.type


def _offered(tool: FunctionTool | ServerTool) -> str:
    return tool.function.name if isinstance(tool, FunctionTool) else tool.type


ChatArguments.__doc__ = f"{ChatArguments.__doc__} {TEXT_LIMIT_TEXT}"
