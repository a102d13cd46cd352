"""Monthly partitions: made ahead of time, so that a month never waits for its table."""

import structlog
from django.db import connection
from django.db.backends.utils import CursorWrapper

from audit.schema import month_partition, next_month

MONTHS_AHEAD = 3
log = structlog.get_logger()

PARTITIONED = """
SELECT c.relname, d.relname FROM pg_partitioned_table p
JOIN pg_class c ON c.oid = p.partrelid
JOIN pg_class d ON d.oid = p.partdefid
WHERE c.relnamespace = 'public'::regnamespace
"""


def make_months() -> None:
    """
    Make this month's and the next months' partitions of every partitioned table.

    Rows found in a default partition came while nobody made their month; they are kept and
    a warning names the table, since they block that month from being made.
    """
    with connection.cursor() as cursor:
        cursor.execute(PARTITIONED)
        for table, default in cursor.fetchall():
            _make(cursor, table)
            cursor.execute(f'SELECT EXISTS (SELECT FROM "{default}")')  # noqa: S608 - the name is the catalog's
            if cursor.fetchone()[0]:
                log.warning("partition.default_hit", table=table)


def _make(cursor: CursorWrapper, table: str) -> None:
    cursor.execute("SELECT date_trunc('month', app_now() AT TIME ZONE 'UTC')::date")
    month = cursor.fetchone()[0]
    for _ in range(MONTHS_AHEAD + 1):
        cursor.execute(month_partition(table, month))
        month = next_month(month)
