"""What a prompt stage asks, and of which models. Pure."""

from collections.abc import Sequence
from typing import Any

from personas.chains import Routing
from personas.models import PersonaVersion
from personas.stages import PromptStage

TOOL = "create_chat_completion"
MESSAGE_TOOL = "create_message"
SCHEMA_NAME = "answer"
# Messages know no smaller effort than this.
MESSAGE_EFFORT = {PersonaVersion.Effort.MINIMAL: PersonaVersion.Effort.LOW.value}


def chain_of(spec: PromptStage, version: PersonaVersion) -> tuple[Sequence[str], str]:
    """Return the chain and the routing of a stage: its own, or its persona's."""
    if spec.chain or spec.routing:
        return spec.chain, spec.routing or Routing.ORDER
    return version.chain, version.routing


def tool_of(version: PersonaVersion) -> str:
    """Return the tool by which the persona's models are asked."""
    return MESSAGE_TOOL if version.format == PersonaVersion.Format.MESSAGES else TOOL


def arguments_of(version: PersonaVersion, text: str) -> dict[str, Any]:
    """Return the arguments of a call of `tool_of` that puts this text to the persona, but for its model."""
    said: list[dict[str, Any]] = [{"role": "user", "content": text}]
    told = version.instructions
    if version.format == PersonaVersion.Format.MESSAGES:
        return {"messages": said} | ({"system": told} if told else {}) | parameters_of(version)
    system = [{"role": "system", "content": told}] if told else []
    return {"messages": system + said} | parameters_of(version)


def parameters_of(version: PersonaVersion) -> dict[str, Any]:
    """Return how a version wants its models to answer, as arguments of `tool_of`."""
    drawn = {"temperature": version.temperature, "top_p": version.top_p}
    arguments: dict[str, Any] = {name: float(value) for name, value in drawn.items() if value is not None}
    if version.format == PersonaVersion.Format.MESSAGES:
        return arguments | {"max_tokens": version.max_tokens} | _message_form(version)
    return arguments | {"max_completion_tokens": version.max_tokens} | _chat_form(version)


def _chat_form(version: PersonaVersion) -> dict[str, Any]:
    form: dict[str, Any] = {}
    if version.reasoning_effort:
        form["reasoning_effort"] = version.reasoning_effort
    if version.output_schema is not None:
        named = {"name": SCHEMA_NAME, "strict": True, "schema": version.output_schema}
        form["response_format"] = {"type": "json_schema", "json_schema": named}
    return form


def _message_form(version: PersonaVersion) -> dict[str, Any]:
    form: dict[str, Any] = {}
    effort, config = version.reasoning_effort, {}
    if effort == PersonaVersion.Effort.NONE:
        form["thinking"] = {"type": "disabled"}
    elif effort:
        config["effort"] = MESSAGE_EFFORT.get(effort, effort)
    if version.output_schema is not None:
        config["format"] = {"type": "json_schema", "schema": version.output_schema}
    return form | ({"output_config": config} if config else {})
