"""What is asked of scopes before they are kept: do they fit the tools, did nobody change them meanwhile? Pure."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from integrations.invalid import field_path
from integrations.registry import Integration, InvalidArguments, Tool, json_schema, parse_arguments
from integrations.scopes import BadScopes, Rule, Scopes, ToolScope, read_scopes

NO_GRANT = "none"


def fingerprint(kept: Mapping[str, Any] | None) -> str:
    """Name what a grant keeps, so that a change of it is noticed. None is no grant."""
    if kept is None:
        return NO_GRANT
    return sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def read_or_none(kept: Mapping[str, Any] | None) -> Scopes | None:
    """Read what a grant keeps; None without one, and for scopes that nobody can read, which allow nothing."""
    try:
        return None if kept is None else read_scopes(kept)
    except BadScopes:
        return None


def titles(integration: Integration) -> dict[str, str]:
    """Return the titles of an integration's tools by their names."""
    return {tool.name: tool.title for tool in integration.tools}


def with_tools(kept: Mapping[str, Any], tools: Iterable[str]) -> dict[str, Any]:
    """Return scopes that switch on exactly these tools. Those that are on already stay as they are."""
    before = read_or_none(kept) or Scopes()
    wanted = set(tools)
    said = {name: _switched(before.tools.get(name), name in wanted) for name in sorted(wanted | before.tools.keys())}
    return before.model_copy(update={"tools": said}).as_json()


def _switched(said: ToolScope | None, on: bool) -> ToolScope:
    said = said or ToolScope(rule=Rule.OFF)
    if not on:
        return said.model_copy(update={"rule": Rule.OFF})
    return said.model_copy(update={"rule": Rule.ALLOWED}) if said.rule is Rule.OFF else said


# --- do they fit the tools? ---------------------------------------------------------------


def problems(scopes: Scopes, integration: Integration) -> list[str]:
    """Say what of these scopes the integration's tools do not know, in sentences that repeat no value."""
    tools = {tool.name: tool for tool in integration.tools}
    found = []
    for name, said in scopes.tools.items():
        if name not in tools:
            found.append(f"{integration.name} has no tool called {field_path([name])}.")
        else:
            found += [f"{tools[name].title}: {problem}" for problem in pin_problems(tools[name], said.pinned)]
    return found


def pin_problems(tool: Tool, pinned: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with arguments that are to be fixed. What is left out is for the caller to give."""
    unknown = sorted(pinned.keys() - json_schema(tool)["properties"].keys())
    if unknown:
        return [f"{field_path([name])}: There is no argument of this name." for name in unknown]
    try:
        parse_arguments(tool, pinned)
    except InvalidArguments as error:
        return [str(problem) for problem in error.problems if problem.path.partition(".")[0] in ("", *pinned)]
    return []
