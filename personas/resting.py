"""The rows behind `personas.cooldown`: which models of a connection are left in peace, for all workers."""

from dataclasses import dataclass, field
from datetime import datetime

from django.db import connection as database

from audit.clock import app_now
from audit.ids import uuid7
from integrations.errors import UpstreamError
from integrations.models import Connection
from personas import cooldown
from personas.cooldown import AWAKE, Rest
from personas.models import Cooldown

# Written only over what was read, so that an event of another worker in between is never lost.
UPSERT = """
INSERT INTO personas_cooldown AS c (id, team_id, connection_id, model, until, failures, outcome, changed_at)
VALUES (%(id)s, %(team)s, %(connection)s, %(model)s, %(until)s, %(failures)s, %(outcome)s, %(now)s)
ON CONFLICT (team_id, connection_id, model) DO UPDATE
   SET until = excluded.until, failures = excluded.failures, outcome = excluded.outcome,
       changed_at = greatest(excluded.changed_at, c.changed_at + interval '1 microsecond')
 WHERE c.changed_at = %(read)s
RETURNING changed_at
"""


@dataclass(slots=True)
class Rests:
    """What one connection's models rest, as last read, kept up by what this worker sees itself."""

    connection: Connection
    _rests: dict[str, Rest] = field(default_factory=dict)
    _changed: dict[str, datetime] = field(default_factory=dict)

    def seconds_left(self, model: str, now: datetime) -> float:
        """For how many more seconds a model is left in peace."""
        names = (model, cooldown.ALL_FREE) if cooldown.is_free(model) else (model,)
        return max(self._rests.get(name, AWAKE).seconds_left(now) for name in names)

    def outcome(self, model: str) -> str:
        """How a resting model failed last."""
        return self._rests.get(model, AWAKE).outcome

    def note(self, model: str, error: UpstreamError | None) -> None:
        """Take in how a call of a model went: its failure, or None. Nothing is written where nothing changes."""
        subject = cooldown.subject(model, error)
        while True:
            now = app_now()
            rest = self._rests.get(subject, AWAKE)
            new = cooldown.after(rest, error, now)
            if new == rest or self._write(subject, new, now):
                return
            self._read([subject])

    def _write(self, subject: str, rest: Rest, now: datetime) -> bool:
        values = {
            "id": uuid7(),
            "team": self.connection.team_id,
            "connection": self.connection.pk,
            "model": subject,
            "until": rest.until,
            "failures": rest.failures,
            "outcome": rest.outcome,
            "now": now,
            "read": self._changed.get(subject),
        }
        with database.cursor() as cursor:
            cursor.execute(UPSERT, values)
            row = cursor.fetchone()
        if row is None:
            return False
        self._rests[subject], self._changed[subject] = rest, row[0]
        return True

    def _read(self, subjects: list[str]) -> None:
        rows = Cooldown.objects.filter(team=self.connection.team_id, connection=self.connection.pk, model__in=subjects)
        for row in rows:
            self._rests[row.model] = Rest(row.until, row.failures, row.outcome)
            self._changed[row.model] = row.changed_at


def read_rests(*, connection: Connection, models: list[str]) -> Rests:
    """Read in one query what the models of a connection rest."""
    rests = Rests(connection)
    rests._read([*models, cooldown.ALL_FREE])
    return rests
