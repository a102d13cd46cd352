"""
What a call costs beside tokens: searches, fetched pages, files read by others, answers that are not text.

Prices are those of OpenRouter's pages on web search, web fetch and PDF files. What has no upper
bound there is named in words: no cap can answer for it.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from integrations.openrouter.arguments.base import media_in
from integrations.openrouter.arguments.routing import (
    DatetimeTool,
    StepCountIs,
    Web,
    WebFetch,
    WebFetchTool,
    WebSearchParameters,
    WebSearchTool,
)
from integrations.pricing import Extras

if TYPE_CHECKING:
    from integrations.facts import ModelFacts
    from integrations.openrouter.arguments.chat import ChatArguments
    from integrations.openrouter.arguments.message import MessageArguments

# US dollars for one search with up to 10 results: by the engine's mode, and the dearest plain mode of any engine.
SEARCH_USD = {"deep-lite": Decimal("0.012"), "deep": Decimal("0.012"), "deep-reasoning": Decimal("0.015")}
PLAIN_SEARCH_USD = Decimal("0.007")
RESULTS_INCLUDED = 10
FURTHER_RESULT_USD = Decimal("0.001")
# One answer of a model that always searches: above the dearest that any of them lists, 0.035 in spring 2026.
SEARCHING_MODEL_USD = Decimal("0.05")
FETCH_USD = Decimal("0.001")  # one page, by Exa or Parallel; OpenRouter's own engine is free
# Engines that charge what is listed here. The others search at the model's own provider, at its price,
# and most of those heed no `max_uses`.
PRICED_SEARCH = {"exa", "parallel", "perplexity", "firecrawl"}
PRICED_FETCH = {"openrouter", "exa", "parallel", "firecrawl"}

OWN_SEARCH = "What a search at the model's own provider costs is not known beforehand."
OWN_FETCH = "What a page costs that the model's own provider fetches is not known beforehand."
BY_PAGE = "A file that the model cannot read itself is read for a price by the page, and nobody counts them beforehand."
NOT_TEXT = "What pictures and sounds in an answer of {model} cost is not known beforehand."


def extras(arguments: "ChatArguments | MessageArguments", models: Mapping[str, "ModelFacts | None"]) -> Extras:
    """
    Return what a call may cost beside its tokens, whichever of these models answers.

    `models` holds the models by the names they are asked under.
    """
    reasons = [
        *_searches_without_price(arguments, models),
        *_files(arguments, models),
        *_other_outputs(arguments, models),
    ]
    beside = sum((_usd(extra) for extra in _offered(arguments)), Decimal(0))
    own = SEARCHING_MODEL_USD if any(map(_always_searches, models)) else Decimal(0)
    return Extras(beside + own, _rounds(arguments), next(iter(reasons), ""))


def with_bounded_steps(arguments: Any) -> Any:
    """Return the arguments with an end to the rounds that server tools may take, as `extras` counts them."""
    if not _server_tools(arguments) or _steps_given(arguments):
        return arguments
    stop = StepCountIs(type="step_count_is", step_count=_steps(arguments))
    return arguments.model_copy(update={"stop_server_tools_when": [*(arguments.stop_server_tools_when or ()), stop]})


def carries_files(arguments: Any) -> bool:
    """Whether a message carries or names a file. Plain text in a document block is read as it is."""
    return any(
        getattr(media, "type", "") in ("file", "document")
        and getattr(getattr(media, "source", None), "type", "") not in ("text", "content")
        for media in media_in(arguments)
    )


# --- what runs beside the model -----------------------------------------------------------


def _offered(arguments: Any) -> list[Any]:
    plugins = [plugin for plugin in arguments.plugins or () if getattr(plugin, "enabled", None) is not False]
    return [*plugins, *(arguments.tools or ())]


def _server_tools(arguments: Any) -> list[Any]:
    return [tool for tool in arguments.tools or () if isinstance(tool, WebSearchTool | WebFetchTool | DatetimeTool)]


def _usd(extra: Any) -> Decimal:
    """The most that a plugin or a server tool charges."""
    match extra:
        case Web():
            return _search_usd(extra) * (extra.max_uses or 1)
        case WebSearchTool(parameters=said):
            return _search_usd(said) * said.max_uses
        case WebFetchTool(parameters=said):
            return FETCH_USD * said.max_uses
        case _:
            return Decimal(0)


def _always_searches(model: str) -> bool:
    return model.startswith("perplexity/") or "search-preview" in model


def _search_usd(said: Web | WebSearchParameters) -> Decimal:
    further = max(0, (said.max_results or 0) - RESULTS_INCLUDED)
    return SEARCH_USD.get(said.mode or "", PLAIN_SEARCH_USD) + FURTHER_RESULT_USD * further


def _rounds(arguments: Any) -> int:
    """How often the model may be asked: once, and after each step, which is one use of a server tool."""
    return 1 + _steps(arguments) if _server_tools(arguments) else 1


def _steps(arguments: Any) -> int:
    uses = sum(getattr(getattr(tool, "parameters", None), "max_uses", 1) for tool in _server_tools(arguments))
    return min(_steps_given(arguments), default=uses)


def _steps_given(arguments: Any) -> list[int]:
    return [stop.step_count for stop in arguments.stop_server_tools_when or () if isinstance(stop, StepCountIs)]


# --- what has no bound --------------------------------------------------------------------


def _searches_without_price(arguments: Any, models: Mapping[str, Any]) -> Iterator[str]:
    for extra in _offered(arguments):
        match extra:
            case Web(engine=engine) if engine not in PRICED_SEARCH:
                yield f'{OWN_SEARCH} Set the engine of the plugin web to "exa".'
            case WebSearchTool(parameters=said) if said.engine not in PRICED_SEARCH:
                yield f'{OWN_SEARCH} Set the engine of openrouter:web_search to "exa".'
            case WebFetchTool(parameters=said) if said.engine not in PRICED_FETCH:
                yield f'{OWN_FETCH} Set the engine of openrouter:web_fetch to "openrouter".'
            case WebFetch():
                yield f'{OWN_FETCH} Use the tool openrouter:web_fetch with the engine "openrouter".'
    deep = next((name for name in models if "deep-research" in name), "")
    if deep:
        yield f"How often {deep} searches, at a price for each, is not known beforehand. Choose another model."
    online = next((name for name in models if "online" in name.lower().split(":")[1:]), "")
    if online:
        yield f'{OWN_SEARCH} Leave :online out, and add the plugin web with the engine "exa".'


def _files(arguments: Any, models: Mapping[str, Any]) -> Iterator[str]:
    if not carries_files(arguments):
        return
    engines = {plugin.pdf.engine for plugin in _offered(arguments) if getattr(plugin, "pdf", None)}
    reads = all(facts is not None and "file" in facts.input_modalities for facts in models.values())
    if "mistral-ocr" in engines or not (reads or engines & {"native", "cloudflare-ai"}):
        yield f'{BY_PAGE} Add file-parser with the engine "cloudflare-ai", or choose a model that reads files.'


def _other_outputs(arguments: Any, models: Mapping[str, Any]) -> Iterator[str]:
    text_alone = getattr(arguments, "modalities", None) == ["text"]
    for name, facts in models.items():
        others = (facts.output_modalities if facts else frozenset()) - {"text"} - ({"image"} if text_alone else set())
        if others:
            able = others == {"image"} and "modalities" in type(arguments).model_fields
            advice = 'Set modalities to ["text"], or choose another model.' if able else "Choose another model."
            yield f"{NOT_TEXT.format(model=name)} {advice}"
