"""Migration operations for what Django's own cannot say: partitions and composite foreign keys."""

from datetime import date

from django.db import migrations


def team_key(table: str) -> migrations.RunSQL:
    """Make (team_id, id) of a table a target that composite foreign keys can point to."""
    name = f"{table}_team_id_id"
    return migrations.RunSQL(
        f'ALTER TABLE "{table}" ADD CONSTRAINT "{name}" UNIQUE (team_id, id)',
        f'ALTER TABLE "{table}" DROP CONSTRAINT "{name}"',
    )


def team_reference(table: str, column: str, target: str) -> migrations.RunSQL:
    """
    Bind `table.column` to a row of `target` in the same team.

    A plain foreign key lets one team's row point at another's; this one cannot.
    The target needs `team_key` first.
    """
    name = f"{table}_{column}_same_team"
    return migrations.RunSQL(
        f'ALTER TABLE "{table}" ADD CONSTRAINT "{name}" FOREIGN KEY (team_id, "{column}") '
        f'REFERENCES "{target}" (team_id, id) DEFERRABLE INITIALLY DEFERRED',
        f'ALTER TABLE "{table}" DROP CONSTRAINT "{name}"',
    )


def next_month(month: date) -> date:
    """Return the first day of the month after `month`."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def month_partition(table: str, month: date) -> str:
    """Return the SQL that makes one month's partition of `table`, if it is not there."""
    first = month.replace(day=1)
    return (
        f'CREATE TABLE IF NOT EXISTS "{table}_{first:%Y_%m}" PARTITION OF "{table}" '
        f"FOR VALUES FROM ('{first}') TO ('{next_month(first)}')"
    )
