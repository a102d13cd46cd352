"""What a grant's scopes say. `vault` keeps them; only this module reads them."""

from collections.abc import Iterable, Mapping

ALLOWED = "allowed"


def scopes_for(tools: Iterable[str]) -> dict:
    """Return the scopes of a grant that allows exactly these tools."""
    return {"tools": dict.fromkeys(sorted(tools), ALLOWED)}


def allowed_tools(scopes: Mapping) -> set[str]:
    """Return the names of the tools that a grant allows."""
    return {name for name, rule in scopes.get("tools", {}).items() if rule == ALLOWED}


def allows(scopes: Mapping, tool: str) -> bool:
    """Whether a grant allows a tool. What it does not name is off."""
    return scopes.get("tools", {}).get(tool) == ALLOWED
