"""What outlives the process where a file is given: keys, accounts, guardrails and activity."""

import json
import os
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from .activity import Activity
from .guardrails import Assignment, Guardrail, Guardrails
from .keys import Keys


class Books:
    """Everything about who may do what and who did, kept in a file when there is one."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.keys = Keys()
        self.guardrails = Guardrails()
        self.activity = Activity()
        if path and path.exists():
            self._load(json.loads(path.read_text()))

    def save(self) -> None:
        """Write everything to the file, all or nothing, if anything changed."""
        parts = (self.keys, self.guardrails, self.activity)
        if not self._path or not any(part.changed for part in parts):
            return
        guardrails = self.guardrails
        data = self.keys.data() | {
            "guardrails": [_plain(row) for row in guardrails.rows.values()],
            "assignments": [_plain(each) for each in guardrails.assignments.values()],
            "activity": self.activity.data(),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(f"{self._path.name}.new")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(data, file, indent=1, default=str)
        fresh.replace(self._path)
        for part in parts:
            part.changed = False

    def _load(self, data: dict[str, Any]) -> None:
        self.keys.load(data)
        # Files from before there were guardrails lack the rest.
        self.activity.load(data.get("activity", ()))
        for row in data.get("guardrails", ()):
            limit = None if row["limit"] is None else Decimal(row["limit"])
            self.guardrails.rows[row["id"]] = Guardrail(**_dated(row) | {"limit": limit})
        for row in data.get("assignments", ()):
            self.guardrails.assignments[row["key"]] = Assignment(**_dated(row))


def _plain(row: Guardrail | Assignment) -> dict[str, Any]:
    return {each.name: getattr(row, each.name) for each in fields(row)}


def _dated(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"created_at": datetime.fromisoformat(row["created_at"])}
