"""What a persona's models are asked, in the words of either format, and which of them. Pure."""

from collections.abc import Sequence
from typing import Any

from personas.chains import Routing
from personas.models import PersonaVersion
from personas.stages import PromptStage

TOOL = "create_chat_completion"
MESSAGE_TOOL = "create_message"
SCHEMA_NAME = "answer"
# Anthropic's words for effort are fewer.
MESSAGE_EFFORT = {"minimal": "low"}

Arguments = dict[str, Any]


def chain_of(spec: PromptStage, version: PersonaVersion) -> tuple[Sequence[str], str]:
    """Return the chain and the routing of a stage: its own, or its persona's."""
    if spec.chain or spec.routing:
        return spec.chain, spec.routing or Routing.ORDER
    return version.chain, version.routing


def tool_of(version: PersonaVersion) -> str:
    """Return the tool by which the persona's models are asked."""
    return MESSAGE_TOOL if version.format == PersonaVersion.Format.MESSAGES else TOOL


def arguments_of(version: PersonaVersion, text: str) -> Arguments:
    """Return the arguments of a call of `tool_of` that puts this text to the persona, but for its model."""
    return conversation_of(version, version.instructions, [{"role": "user", "content": text}])


def conversation_of(version: PersonaVersion, system: str, told: Sequence[dict[str, Any]]) -> Arguments:
    """
    Return the arguments of a call of `tool_of` that goes on with a conversation, but for its model.

    `told` is in the version's format; `system` is what stands before it.
    """
    write = _as_messages if version.format == PersonaVersion.Format.MESSAGES else _as_chat
    return write(version, system, list(told))


def _as_chat(version: PersonaVersion, system: str, told: list[dict[str, Any]]) -> Arguments:
    opening = [{"role": "system", "content": system}] if system else []
    arguments = {"messages": [*opening, *told], "max_completion_tokens": version.max_tokens} | _sampling(version)
    if version.reasoning_effort:
        arguments["reasoning"] = {"effort": version.reasoning_effort}
    if version.output_schema is not None:
        named = {"name": SCHEMA_NAME, "strict": True, "schema": version.output_schema}
        arguments["response_format"] = {"type": "json_schema", "json_schema": named}
    return arguments


def _as_messages(version: PersonaVersion, system: str, told: list[dict[str, Any]]) -> Arguments:
    arguments: Arguments = {"messages": told, "max_tokens": version.max_tokens}
    if system:
        arguments["system"] = system
    config: dict[str, Any] = {}
    match version.reasoning_effort:
        case "":
            arguments |= _sampling(version)
        case "none":
            arguments |= _sampling(version) | {"thinking": {"type": "disabled"}}
        case effort:  # a model that thinks takes no temperature in this format
            arguments["thinking"] = {"type": "adaptive"}
            config["effort"] = MESSAGE_EFFORT.get(effort, effort)
    if version.output_schema is not None:
        config["format"] = {"type": "json_schema", "schema": version.output_schema}
    return arguments | ({"output_config": config} if config else {})


def _sampling(version: PersonaVersion) -> Arguments:
    given = {"temperature": version.temperature, "top_p": version.top_p}
    return {name: float(value) for name, value in given.items() if value is not None}
