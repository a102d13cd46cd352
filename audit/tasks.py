"""Background doors of the log."""

from celery import shared_task

from audit import months


@shared_task
def make_months(**_later: object) -> None:
    """Make the coming months' partitions ahead of time."""
    months.make_months()
