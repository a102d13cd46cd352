"""Guardrails: limits that an account sets for some of its keys, and which key holds which."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from .accounts import user_id
from .catalog import Row
from .errors import ApiError, unavailable
from .keys import Key
from .money import as_text
from .routing import PRIVACY, is_named
from .shown import budget_data

# The authors whose models have a switch of their own for zero data retention.
FRONTIER = {"anthropic": "anthropic", "openai": "openai", "google": "google", "x-ai": "xai"}


@dataclass
class Guardrail:
    """One set of limits; an empty list of names means that there is no such limit."""

    id: str
    account: str
    name: str
    created_at: datetime
    description: str | None = None
    limit: Decimal | None = None
    reset: str | None = None
    include_byok: bool = False
    allowed_models: list[str] | None = None
    ignored_models: list[str] | None = None
    allowed_providers: list[str] | None = None
    ignored_providers: list[str] | None = None
    zdr: dict[str, bool | None] = field(default_factory=dict)

    def check_budget(self, key: Key, *, now: datetime) -> None:
        """Raise ApiError(403) where this key has spent what it may. Each key has the whole budget for itself."""
        if self.limit is not None and key.spent_in(self.reset, now) >= self.limit:
            raise ApiError(403, f"Guardrail budget exceeded ({self.reset} limit of ${as_text(self.limit)})")

    def budget(self, key: Key, *, now: datetime) -> dict[str, Any] | None:
        """This limit as GET /key shows it."""
        if self.limit is None:
            return None
        budget = budget_data(key, scope="api_key", limit=self.limit, reset=self.reset, now=now)
        return budget | {"guardrail_id": self.id, "include_byok": self.include_byok}

    def hosts(self, model: Row, rows: list[Row]) -> list[Row]:
        """Those of a model's hosts that this guardrail lets through; raises ApiError(404) where there are none."""
        names = {model["id"], model["canonical_slug"]}
        barred = self.allowed_models is not None and not names & set(self.allowed_models)
        if barred or names & set(self.ignored_models or ()):
            raise ApiError(404, "No models match your request and model restrictions")
        kept = [row for row in rows if self._lets(row)]
        left = [row for row in kept if row["_zdr"]] if self._wants_zdr(model) else kept
        if rows and not left:
            word = "data_policy:zdr" if kept else "allowed_providers"
            raise unavailable("privacy_restricted", PRIVACY, [model["id"]], excluded_by=[word])
        return left

    def _lets(self, row: Row) -> bool:
        allowed, ignored = self.allowed_providers, self.ignored_providers
        return (allowed is None or is_named(row, _lower(allowed))) and not is_named(row, _lower(ignored or []))

    def _wants_zdr(self, model: Row) -> bool:
        author = model["canonical_slug"].partition("/")[0]
        return bool(self.zdr.get(FRONTIER.get(author, "other")))


@dataclass(frozen=True)
class Assignment:
    """That a key holds a guardrail, and since when."""

    id: str
    guardrail_id: str
    key: str
    by: str
    created_at: datetime


class Guardrails:
    """All guardrails, and the keys that hold one. A key holds one at most."""

    def __init__(self) -> None:
        self.changed = False
        self.rows: dict[str, Guardrail] = {}
        self.assignments: dict[str, Assignment] = {}

    def add(self, *, account: str, now: datetime, **fields: Any) -> Guardrail:
        guardrail = Guardrail(str(uuid4()), account=account, created_at=now, **fields)
        self.rows[guardrail.id] = guardrail
        self.changed = True
        return guardrail

    def remove(self, guardrail: Guardrail) -> None:
        """Delete it; the keys that held it hold none."""
        del self.rows[guardrail.id]
        for assignment in [each for each in self.assignments.values() if each.guardrail_id == guardrail.id]:
            del self.assignments[assignment.key]
        self.changed = True

    def assign(self, guardrail: Guardrail, key: Key, *, now: datetime) -> None:
        """Give the key this guardrail, in place of another that it may hold."""
        by = user_id(guardrail.account)
        self.assignments[key.sha256] = Assignment(str(uuid4()), guardrail.id, key.sha256, by, now)
        self.changed = True

    def take(self, guardrail: Guardrail, sha256: str) -> bool:
        """Take this guardrail from a key; False where the key did not hold it."""
        held = self.assignments.get(sha256)
        if held is None or held.guardrail_id != guardrail.id:
            return False
        self.forget_key(sha256)
        return True

    def forget_key(self, sha256: str) -> None:
        if self.assignments.pop(sha256, None):
            self.changed = True

    def of(self, key: Key) -> Guardrail | None:
        """The guardrail that a key holds."""
        held = self.assignments.get(key.sha256)
        return self.rows[held.guardrail_id] if held else None


def _lower(names: list[str]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)
