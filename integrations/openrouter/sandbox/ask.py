"""What is asked of a model, whichever of the two formats it came in."""

from dataclasses import dataclass, field
from typing import Any

from .preferences import Preferences


@dataclass(frozen=True)
class Turn:
    """One message: its text, and what a tool said if it is a tool's answer."""

    role: str
    text: str = ""
    tool_result: bool = False
    images: int = 0


@dataclass(frozen=True)
class OfferedTool:
    name: str
    schema: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """One question to a model. `models` are tried in order; an empty list means the account's default."""

    models: list[str]
    turns: list[Turn]
    system: str = ""
    tools: list[OfferedTool] = field(default_factory=list)
    tool_choice: str = "auto"  # none, auto, required, or a tool's name
    parallel_tools: bool = True
    max_tokens: int | None = None
    stop: list[str] = field(default_factory=list)
    json_schema: dict[str, Any] | None = None
    wants_json: bool = False
    wants_reasoning: bool = False
    shows_reasoning: bool = True
    seed: int | None = None
    streams: bool = False
    user: str | None = None
    session_id: str | None = None
    preferences: Preferences = field(default_factory=Preferences)
    overhead: str = ""  # what else fills the context: tool definitions, as sent

    @property
    def last(self) -> str:
        """What the model is to answer: the last thing said to it."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user" and not turn.tool_result), "")

    @property
    def tool_results(self) -> list[str]:
        """What tools answered since the model last spoke."""
        results = []
        for turn in reversed(self.turns):
            if not turn.tool_result:
                break
            results.append(turn.text)
        return results[::-1]

    @property
    def conversation(self) -> str:
        return "\n".join([self.system, *(f"{turn.role}: {turn.text}" for turn in self.turns)])
