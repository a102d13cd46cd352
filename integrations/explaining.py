"""
Whether a call could be made, and every rule that says so: asked of the same code as a real call.

Nothing is sent, held or written down. The caps that count are those of now, whatever time is asked about.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from accounts.models import Team
from integrations.approvals import NeedsApproval
from integrations.bookkeeping import Caller
from integrations.caps import CapReached
from integrations.models import Connection
from integrations.policy import PolicyRefuses
from integrations.preparing import Asked, prepare_from
from integrations.registry import InvalidArguments, Tool
from integrations.scopes import Rule, Step
from integrations.standing import NotAllowed, Standing, authorise, look_up

QUESTION = [{"role": "user", "content": "?"}]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would become of a call: off means refused, and the message says what would help."""

    rule: Rule
    message: str
    steps: tuple[Step, ...]


def explain(
    *,
    team: Team,
    connection: Connection,
    tool: Tool,
    caller: Caller,
    model: str | None = "",
    at: datetime | None = None,
) -> Explanation:
    """
    Say whether this caller could use a tool at a time, asking this model, and the whole path of rules.

    `at` None is now. A model is asked one short question; other tools are decided without arguments, and so is
    a model that is not known yet (None).
    """
    trail: list[Step] = []
    try:
        standing = look_up(team=team, connection=connection, caller=caller)
        standing = replace(standing, now=at or standing.now)
        if tool.tokens and model is not None:
            prepare_from(standing, Asked(team, connection, tool.name, _sample(model), caller), trail)
        else:
            _authorise(standing, team, connection, tool, caller, trail)
    except (NeedsApproval, _AsksFirst):
        return Explanation(Rule.ASK, f"{tool.title} asks a person first.", tuple(trail))
    except NotAllowed as refusal:
        return Explanation(Rule.OFF, str(refusal), refusal.steps)
    except (PolicyRefuses, CapReached, InvalidArguments) as refusal:
        return _refused(refusal, trail)
    return Explanation(Rule.ALLOWED, "", tuple(trail))


def _authorise(
    standing: Standing, team: Team, connection: Connection, tool: Tool, caller: Caller, trail: list[Step]
) -> None:
    """Raise what a real call with any arguments would raise."""
    verdict = authorise(standing, team=team, connection=connection, tool=tool, caller=caller, arguments=None)
    trail += verdict.steps
    if verdict.rule is Rule.ASK:
        raise _AsksFirst


class _AsksFirst(Exception):
    """As NeedsApproval, of a tool whose arguments are not known."""


def _sample(model: str) -> Mapping[str, Any]:
    return {"messages": QUESTION} | ({"model": model} if model else {})


KINDS = {PolicyRefuses: "policy", CapReached: "caps", InvalidArguments: "arguments"}


def _refused(refusal: Exception, trail: list[Step]) -> Explanation:
    kind = next(name for cause, name in KINDS.items() if isinstance(refusal, cause))
    step = Step(kind, False, str(refusal))
    return Explanation(Rule.OFF, step.words, (*trail, step))
