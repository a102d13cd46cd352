"""Events as lines: the page's export and the command write the same ones."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC
from uuid import UUID

from audit.models import Event

COLUMNS = (
    "id",
    "at",
    "team",
    "actor",
    "actor_name",
    "action",
    "target",
    "outcome",
    "persona",
    "persona_name",
    "run",
    "tool",
    "model",
    "call",
    "generation_id",
    "request_sha256",
    "cost_usd",
    "credits",
)
# What a spreadsheet would run as a formula, or cut off, when a cell starts with it.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")

Row = dict[str, str | int | None]
TeamName = Callable[[UUID | None], str | None]


def row_of(event: Event, team: str | None) -> Row:
    """
    Write one event as plain values: times in UTC, ids and dollars as text, what is not known as None.

    `call` is what was sent upstream as X-Request-Id.
    """
    return {
        "id": str(event.pk),
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "team": team,
        "actor": f"{event.actor_kind}:{event.actor_id}",
        "actor_name": event.actor_name,
        "action": event.action,
        "target": event.target,
        "outcome": event.outcome,
        "persona": _text(event.persona_id),
        "persona_name": event.persona_name,
        "run": _text(event.run_id),
        "tool": event.tool,
        "model": event.model,
        "call": _text(event.call_id),
        "generation_id": event.generation_id,
        "request_sha256": event.request_sha256,
        "cost_usd": None if event.cost_usd is None else f"{event.cost_usd.normalize():f}",
        "credits": event.credits,
    }


def _text(id: UUID | None) -> str | None:
    return None if id is None else str(id)


def json_lines(events: Iterable[Event], team_name: TeamName) -> Iterator[str]:
    """Write one JSON object a line."""
    for event in events:
        yield json.dumps(row_of(event, team_name(event.team_id))) + "\n"


def csv_lines(events: Iterable[Event], team_name: TeamName) -> Iterator[str]:
    """Write a table with a header line. No cell can be taken for a formula."""
    return csv_table(COLUMNS, (row_of(event, team_name(event.team_id)) for event in events))


def csv_table(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """Write rows as such a table; those of an export, of whatever they tell."""
    writer = csv.writer(_Echo())
    yield writer.writerow(columns)
    for row in rows:
        yield writer.writerow([_cell(row[column]) for column in columns])


def _cell(value: str | int | None) -> str | int | None:
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


class _Echo:
    """Hands each written line back to the writer's caller."""

    def write(self, line: str) -> str:
        return line
