"""Which models can serve a request, and which serves it best. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel

from integrations.facts import ModelFacts
from integrations.pricing import by_catalog

Rule = Literal["cheapest", "fastest", "largest"]

TEXT = frozenset({"text"})
# What a content part is, by its type, for the formats of both tools that ask a model.
MODALITIES = {
    "text": "text",
    "image_url": "image",
    "image": "image",
    "input_audio": "audio",
    "video_url": "video",
    "file": "file",
    "document": "file",
}


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a model. Tokens are the most that it may be billed for."""

    tokens_in: int = 0
    tokens_out: int = 0
    tools: bool = False
    structured: bool = False
    input_modalities: frozenset[str] = TEXT
    parameters: frozenset[str] = field(default_factory=frozenset)


def needs_of(arguments: BaseModel, tokens: tuple[int, int]) -> Needs:
    """Return what the arguments of a model call ask of the model, with the most tokens in and out."""
    given = arguments.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return Needs(
        tokens_in=tokens[0],
        tokens_out=tokens[1],
        tools=bool(given.get("tools")),
        structured=_is_structured(given.get("response_format")),
        input_modalities=frozenset(_modalities(given.get("messages"))) - _read_by_others(given.get("plugins")),
    )


def _is_structured(response_format: Any) -> bool:
    return isinstance(response_format, dict) and response_format.get("type") == "json_schema"


def _modalities(messages: Any) -> Iterable[str]:
    yield "text"
    for message in messages or ():
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            yield MODALITIES.get(part.get("type"), "text")


def _read_by_others(plugins: Any) -> set[str]:
    """What is turned into text before the model gets it."""
    engines = [(plugin.get("pdf") or {}).get("engine") for plugin in plugins or () if plugin["id"] == "file-parser"]
    return {"file"} if any(engine not in (None, "native") for engine in engines) else set()


def misfit(model: ModelFacts, needs: Needs) -> str:
    """Say in a sentence why a model cannot serve a request; empty when it can, as far as the catalog tells."""
    missing = sorted(needs.input_modalities - model.input_modalities) if model.input_modalities else []
    unknown = sorted(needs.parameters - model.parameters) if model.parameters else []
    if model.is_gone:
        return "The provider does not list it any more."
    if model.output_modalities and "text" not in model.output_modalities:
        return "It does not answer with text."
    if missing:
        return f"It takes no {' and no '.join(missing)} input."
    if needs.tools and "tools" not in model.parameters:
        return "It cannot call tools."
    if needs.structured and "structured_outputs" not in model.parameters:
        return "It cannot hold its answer to a schema."
    if unknown:
        return f"It does not know {', '.join(unknown)}."
    return _too_small(model, needs)


def _too_small(model: ModelFacts, needs: Needs) -> str:
    if model.max_output is not None and needs.tokens_out > model.max_output:
        return f"Its longest answer is {model.max_output:,} tokens, and {needs.tokens_out:,} are asked for."
    # The bound for what goes in counts bytes, some four to a token: only what cannot fit anyhow is a misfit.
    if model.context_length is not None and needs.tokens_in // 4 + needs.tokens_out > model.context_length:
        return f"Its context of {model.context_length:,} tokens is too short."
    return ""


def ranked(models: Iterable[ModelFacts], rule: Rule, needs: Needs) -> list[ModelFacts]:
    """Return models by a rule, the best first; those whose figure is not known come last, by id."""
    known = [(_figure(model, rule, needs), model) for model in models]
    first = sorted(((figure, model) for figure, model in known if figure is not None), key=lambda it: (it[0], it[1].id))
    last = sorted((model for figure, model in known if figure is None), key=lambda model: model.id)
    return [*(model for _, model in first), *last]


def _figure(model: ModelFacts, rule: Rule, needs: Needs) -> Decimal | float | None:
    """The figure to be small."""
    if rule == "cheapest":
        return by_catalog(model, tokens_in=max(1, needs.tokens_in), tokens_out=max(1, needs.tokens_out))
    if rule == "largest":
        return None if model.context_length is None else -model.context_length
    speeds = [endpoint.throughput for endpoint in model.endpoints or () if endpoint.throughput]
    return -max(speeds) if speeds else None
