"""The database's clock decides leases and due work, so that two machines never disagree."""

from datetime import UTC, datetime

from django.db import connection
from django.db.models import DateTimeField, Func


class AppNow(Func):
    """`app_now()` inside a query: the database clock, which only tests may shift."""

    function = "app_now"
    template = "%(function)s()"
    output_field = DateTimeField()


class AppNowOnce(AppNow):
    """The same, asked once for the whole statement: comparisons with it can use an index."""

    template = "(SELECT %(function)s())"


def app_now() -> datetime:
    """Ask the database for the time (one query), in UTC."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT app_now()")
        return cursor.fetchone()[0].astimezone(UTC)
