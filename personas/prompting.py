"""What a prompt stage asks, and of which models. Pure."""

from collections.abc import Sequence
from typing import Any

from personas.chains import Routing
from personas.models import PersonaVersion
from personas.stages import PromptStage

TOOL = "create_chat_completion"


def chain_of(spec: PromptStage, version: PersonaVersion) -> tuple[Sequence[str], str]:
    """Return the chain and the routing of a stage: its own, or its persona's."""
    if spec.chain or spec.routing:
        return spec.chain, spec.routing or Routing.ORDER
    return version.chain, version.routing


def arguments_of(version: PersonaVersion, text: str) -> dict[str, Any]:
    """Return the arguments of a call that puts this text to the persona, but for its model."""
    messages = [{"role": "user", "content": text}]
    if version.instructions:
        messages.insert(0, {"role": "system", "content": version.instructions})
    arguments: dict[str, Any] = {"messages": messages, "max_completion_tokens": version.max_tokens}
    if version.temperature is not None:
        arguments["temperature"] = float(version.temperature)
    return arguments
