"""
The tools that a model is offered in a chat: those granted to its persona that work now.

Who may use what is decided as for a call, by the rows of this moment; each call is decided again.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from accounts.models import Team, User
from audit.actions import Actor
from integrations.bookkeeping import Caller
from integrations.models import Connection
from integrations.policy import PolicyRefuses
from integrations.registry import Tool, in_brief, offered_tools
from integrations.scopes import ModelPatterns, Rule, Scopes, offered_schema, pinned
from integrations.standing import NotAllowed, Standing, authorise, look_up
from personas.models import Persona, PersonaVersion
from vault.models import Grant

MOST_FUNCTIONS = 128  # in one request, as both formats have it
LONGEST_NAME = 64
MOST_PATTERNS_NAMED = 12
# What programs read out of a schema, and a model learns nothing from.
LEFT_OUT = {"title", "examples"}
NULL = {"type": "null"}


@dataclass(frozen=True, slots=True)
class Offered:
    """
    A tool of one connection under the name that the model calls it by.

    `tool` has the arguments that a model may give; `pinned` are those that the grant fixes. `asks`: a
    person is asked before each call.
    """

    name: str
    tool: Tool
    connection: Connection
    asks: bool
    description: str
    schema: Mapping[str, Any] = field(repr=False)
    pinned: Mapping[str, Any] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Toolbox:
    """What one turn may use."""

    offered: tuple[Offered, ...] = ()

    def functions(self, format: Literal["chat", "messages"]) -> list[dict[str, Any]]:
        """Return the tools as functions, in the words of a format."""
        if format == PersonaVersion.Format.MESSAGES:
            return [
                {"name": each.name, "description": each.description, "input_schema": each.schema}
                for each in self.offered
            ]
        return [
            {
                "type": "function",
                "function": {"name": each.name, "description": each.description, "parameters": each.schema},
            }
            for each in self.offered
        ]

    def find(self, name: str) -> Offered | None:
        """Return the tool that a model calls by this name."""
        return next((each for each in self.offered if each.name == name), None)


def offered(
    *,
    team: Team,
    persona: Persona,
    user: User,
    version: PersonaVersion,
    now: datetime,
    run_id: UUID | None = None,
) -> Toolbox:
    """
    Return the tools that this persona may use for this member at `now`, in an order that stays.

    `run_id` is the turn that asks: a grant may be for one run only.
    """
    if persona.archived_at or not version.most_tool_calls:
        return Toolbox()
    caller = Caller(user=user, actor=Actor.user(user), persona_id=persona.pk, persona_name=persona.name, run_id=run_id)
    found: dict[str, Offered] = {}
    for connection in _lent(team, persona):
        for each in _of_connection(team, connection, caller, now):
            named = _named(each, found)
            found[named.name] = named
    return Toolbox(tuple(found.values())[:MOST_FUNCTIONS])


def _lent(team: Team, persona: Persona) -> Iterator[Connection]:
    grants = Grant.objects.live().filter(team=team, holder=persona.pk).values("connection")
    rows = team.connections.filter(state=Connection.State.READY, pk__in=grants)
    yield from rows.order_by("created_at", "pk")


def _of_connection(team: Team, connection: Connection, caller: Caller, now: datetime) -> Iterator[Offered]:
    try:
        standing = replace(look_up(team=team, connection=connection, caller=caller), now=now)
    except (NotAllowed, PolicyRefuses):
        return
    for tool in offered_tools(connection.provider):
        rule = _rule(standing, team, connection, tool, caller)
        if rule is not Rule.OFF and connection.can_use(tool.name) and standing.scopes:
            yield _offer(tool, connection, standing.scopes, asks=rule is Rule.ASK)


def _rule(standing: Standing, team: Team, connection: Connection, tool: Tool, caller: Caller) -> Rule:
    try:
        return authorise(standing, team=team, connection=connection, tool=tool, caller=caller, arguments=None).rule
    except NotAllowed:
        return Rule.OFF


# --- what the model is told ---------------------------------------------------------------


def _offer(tool: Tool, connection: Connection, scopes: Scopes, *, asks: bool) -> Offered:
    brief = in_brief(tool)
    schema = compact(offered_schema(brief, scopes))
    words = [tool.summary, tool.when_to_use]
    if tool.tokens and "model" in schema["properties"]:
        words += _models_in_words(scopes.models)
    if asks:
        words.append("A person is asked before each call.")
    return Offered(tool.name, brief, connection, asks, " ".join(words), schema, pinned(scopes, tool.name))


def _models_in_words(limits: ModelPatterns) -> list[str]:
    """Which models may be named, where that is a short list."""
    said = []
    for words, patterns in (("Only these models: ", limits.allow), ("None of these models: ", limits.deny)):
        if 0 < len(patterns) <= MOST_PATTERNS_NAMED:
            said.append(f"{words}{', '.join(patterns)}.")
    return said


def _named(each: Offered, taken: Mapping[str, Offered]) -> Offered:
    """The tool under a name of its own: the oldest connection keeps the plain one."""
    if each.name not in taken:
        return each
    label = each.connection.label
    suffix = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_") or "other"
    name = f"{each.name}_{suffix}"[:LONGEST_NAME]
    number = 2
    while name in taken:
        name = f"{each.name[: LONGEST_NAME - 4]}_{number}"
        number += 1
    return replace(each, name=name, description=f"{each.description} Goes through the connection {label}.")


def compact(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON Schema that allows the same in fewer words. null is left out: a field may be left out too."""
    short = _compact(schema)
    short.pop("description", None)  # the function has one
    if not short.get("required"):
        short.pop("required", None)
    if "$defs" in short:
        used = json.dumps({name: value for name, value in short.items() if name != "$defs"})
        short["$defs"] = _used(short["$defs"], used)
        if not short["$defs"]:
            del short["$defs"]
    return short


def _used(definitions: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The definitions that a schema refers to, also through one another."""
    found: dict[str, Any] = {}
    while more := {
        name: value for name, value in definitions.items() if name not in found and f'#/$defs/{name}"' in text
    }:
        found |= more
        text += json.dumps(more)
    return found


def _compact(value: Any) -> Any:
    if isinstance(value, list):
        return [_compact(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    branches = value.get("anyOf")
    if isinstance(branches, list) and NULL in branches and len(branches) == 2:
        [other] = [each for each in branches if each != NULL]
        rest = {name: each for name, each in value.items() if name != "anyOf"}
        if rest.get("default", ...) is None:
            del rest["default"]
        return _compact({**other, **rest})
    return {name: _inner(name, each) for name, each in value.items() if name not in LEFT_OUT}


def _inner(name: str, value: Any) -> Any:
    # Below `properties` names are fields, and one of them may well be called "title".
    if name in ("properties", "$defs") and isinstance(value, Mapping):
        return {each: _compact(spec) for each, spec in value.items()}
    return _compact(value) if name not in ("default", "enum", "const") else value
