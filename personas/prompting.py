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

REPAIR = (
    "This answer cannot be used: {problem} Give the same answer once more, as JSON of the form that was asked for "
    "and nothing else."
)

Arguments = dict[str, Any]
Messages = Sequence[dict[str, Any]]
Schema = dict[str, Any] | None


def chain_of(spec: PromptStage, version: PersonaVersion) -> tuple[Sequence[str], str]:
    """Return the chain and the routing of a stage: its own, or its persona's."""
    if spec.chain or spec.routing:
        return spec.chain, spec.routing or Routing.ORDER
    return version.chain, version.routing


def tool_of(version: PersonaVersion) -> str:
    """Return the tool by which the persona's models are asked."""
    return MESSAGE_TOOL if version.format == PersonaVersion.Format.MESSAGES else TOOL


def arguments_of(version: PersonaVersion, told: str | Messages, schema: Schema = None) -> Arguments:
    """
    Return the arguments of a call of `tool_of` that puts a text, or some messages, to the persona, but for its model.

    `schema` is the form of the answer, in place of the persona's own.
    """
    messages = [{"role": "user", "content": told}] if isinstance(told, str) else told
    return conversation_of(version, version.instructions, messages, schema)


def repair(answer: str, problem: str) -> list[dict[str, Any]]:
    """Return the messages that ask for the same answer in the form that it should have. They fit either format."""
    return [
        {"role": "assistant", "content": answer},
        {"role": "user", "content": REPAIR.format(problem=problem)},
    ]


def conversation_of(version: PersonaVersion, system: str, told: Messages, schema: Schema = None) -> Arguments:
    """
    Return the arguments of a call of `tool_of` that goes on with a conversation, but for its model.

    `told` is in the version's format; `system` is what stands before it, `schema` as for `arguments_of`.
    """
    write = _as_messages if version.format == PersonaVersion.Format.MESSAGES else _as_chat
    return write(version, system, list(told), version.output_schema if schema is None else schema)


def _as_chat(version: PersonaVersion, system: str, told: list[dict[str, Any]], schema: Schema) -> Arguments:
    opening = [{"role": "system", "content": system}] if system else []
    arguments = {"messages": [*opening, *told], "max_completion_tokens": version.max_tokens} | _sampling(version)
    if version.reasoning_effort:
        arguments["reasoning"] = {"effort": version.reasoning_effort}
    if schema is not None:
        named = {"name": SCHEMA_NAME, "strict": True, "schema": schema}
        arguments["response_format"] = {"type": "json_schema", "json_schema": named}
    return arguments


def _as_messages(version: PersonaVersion, system: str, told: list[dict[str, Any]], schema: Schema) -> Arguments:
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
    if schema is not None:
        config["format"] = {"type": "json_schema", "schema": schema}
    return arguments | ({"output_config": config} if config else {})


def _sampling(version: PersonaVersion) -> Arguments:
    given = {"temperature": version.temperature, "top_p": version.top_p}
    return {name: float(value) for name, value in given.items() if value is not None}
