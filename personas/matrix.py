"""What a persona or a flow may do with each tool of each connection, and how much it was used."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from uuid import UUID

from accounts.models import Team
from integrations import lending
from integrations.models import Connection
from integrations.queries import Use, use_of_tools
from integrations.registry import Tool
from integrations.scopes import Rule, Scopes, ToolScope
from personas.models import Flow, Persona
from vault.models import Grant

RULES = {rule.value: rule for rule in Rule}
MOST_COLUMNS = 5  # connections side by side; further ones have pages of their own


@dataclass(frozen=True, slots=True)
class Holder:
    """Who is lent connections: a persona or a flow."""

    kind: Literal["persona", "flow"]
    id: UUID
    name: str
    slug: str

    @classmethod
    def of(cls, thing: Persona | Flow) -> "Holder":
        kind: Literal["persona", "flow"] = "persona" if isinstance(thing, Persona) else "flow"
        return cls(kind, thing.pk, thing.name, thing.slug)


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """
    One connection and what its grant says.

    `kept` is the grant as it is stored, None without one; `granted` is None also when it cannot be read.
    """

    connection: Connection
    kept: Mapping[str, Any] | None
    granted: Scopes | None

    @classmethod
    def of(cls, connection: Connection, kept: Mapping[str, Any] | None) -> "Column":
        return cls(connection, kept, lending.read_or_none(kept))

    @property
    def scopes(self) -> Scopes:
        """What may be done; without a grant, nothing."""
        return self.granted or Scopes()

    @property
    def seen(self) -> str:
        """Names the grant as it is now, so that a change of it is noticed."""
        return lending.fingerprint(self.kept)

    @property
    def is_broken(self) -> bool:
        return self.kept is not None and self.granted is None


@dataclass(frozen=True, slots=True)
class Cell:
    """One tool through one connection. `chosen` is what a form asks for, None where it asks for nothing."""

    column: Column
    tool: Tool
    use: Use
    chosen: Rule | None = None

    @property
    def name(self) -> str:
        """The name of its field in a form."""
        return f"{self.column.connection.pk}-{self.tool.name}"

    @property
    def rule(self) -> Rule:
        return self.column.scopes.rule_of(self.tool.name)

    @property
    def shown(self) -> Rule:
        """What a form shows as selected."""
        return self.chosen or self.rule

    @property
    def limits(self) -> int:
        """How many limits of its own the tool has in this grant."""
        said = self.column.scopes.tools.get(self.tool.name, ToolScope(rule=Rule.OFF))
        return sum((bool(said.pinned), said.max_tokens is not None, said.max_messages is not None, not said.unattended))

    @property
    def is_reached(self) -> bool:
        """Whether the connection's key reaches the tool."""
        return self.column.connection.can_use(self.tool.name)


@dataclass(frozen=True, slots=True)
class Row:
    """One tool; None where a connection has no such tool."""

    tool: Tool
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Tools as rows, connections as columns; `more` are connections that did not fit."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    more: tuple[Connection, ...]

    def asked_for(self, posted: Mapping[str, Any]) -> "Matrix":
        """Return it with what a form asks for, cell by cell."""
        rows = [replace(row, cells=tuple(cell and _chosen(cell, posted) for cell in row.cells)) for row in self.rows]
        return replace(self, rows=tuple(rows))

    def rules(self, column: Column) -> dict[str, Rule]:
        """What a form asks for through one connection, by tool."""
        cells = [cell for row in self.rows for cell in row.cells if cell and cell.column is column]
        return {cell.tool.name: cell.chosen for cell in cells if cell.chosen}


def matrix(*, team: Team, holder: Holder) -> Matrix:
    """Return what a holder may do with the team's live connections, those it is lent already first."""
    grants = dict(Grant.objects.live().filter(team=team, holder=holder.id).values_list("connection", "scopes"))
    live = sorted(team.connections.live(), key=lambda row: (row.pk not in grants, row.created_at))
    columns = tuple(Column.of(row, grants.get(row.pk)) for row in live[:MOST_COLUMNS])
    used = use_of_tools(team=team, **{f"{holder.kind}_id": holder.id})
    rows = tuple(Row(tool, tuple(_cell(column, tool, used) for column in columns)) for tool in _tools(columns))
    return Matrix(columns, rows, tuple(live[MOST_COLUMNS:]))


def column(*, team: Team, holder: Holder, connection: Connection) -> Column:
    """Return what a holder may do with one connection."""
    live = Grant.objects.live().filter(team=team, holder=holder.id, connection=connection.pk)
    return Column.of(connection, live.values_list("scopes", flat=True).first())


def _tools(columns: Iterable[Column]) -> list[Tool]:
    return list(dict.fromkeys(tool for each in columns for tool in each.connection.provider.tools))


def _cell(column: Column, tool: Tool, used: Mapping[tuple[UUID, str], Use]) -> Cell | None:
    if tool not in column.connection.provider.tools:
        return None
    return Cell(column, tool, used.get((column.connection.pk, tool.name), Use(0, None)))


def _chosen(cell: Cell, posted: Mapping[str, Any]) -> Cell:
    return replace(cell, chosen=RULES.get(posted.get(cell.name, "")))


def with_rules(column: Column, rules: Mapping[str, Rule]) -> Scopes:
    """Return a connection's scopes with these rules for its tools, everything else as it was."""
    before = column.scopes
    tools = dict(before.tools)
    for name, rule in rules.items():
        if rule is not before.rule_of(name):
            tools[name] = tools.get(name, ToolScope(rule=rule)).model_copy(update={"rule": rule})
    return before.model_copy(update={"tools": tools})
