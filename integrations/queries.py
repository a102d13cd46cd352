"""Reads shared by pages: connections with what they reach and who may use them."""

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from accounts.models import Team
from integrations.models import Connection
from integrations.registry import Tool
from integrations.scopes import allowed_tools
from vault.models import Grant


@dataclass(frozen=True, slots=True)
class ToolReach:
    """One tool of a connection: whether its key reaches it, and why not."""

    tool: Tool
    usable: bool
    reason: str

    @property
    def state(self) -> str:
        """The word under which pages show it."""
        if self.tool.hints.retired:
            return "withdrawn"
        return "ready" if self.usable else "blocked"


def reach_of(connection: Connection) -> list[ToolReach]:
    """Return each tool of a connection with what its last test found."""
    untested = "Not tested yet."
    return [
        ToolReach(tool, connection.can_use(tool.name), connection.reach.get(tool.name, untested))
        for tool in connection.provider.tools
    ]


def grants_of(*, team: Team, connection: Connection) -> dict[UUID, set[str]]:
    """Return the tools each holder may use of a connection."""
    grants = Grant.objects.live().filter(team=team, connection=connection.pk)
    return {grant.holder: allowed_tools(grant.scopes) for grant in grants}


def personas_per_connection(*, team: Team) -> Counter[UUID]:
    """Count the holders of each connection of a team."""
    return Counter(Grant.objects.live().filter(team=team).values_list("connection", flat=True))
