"""Days, weeks (from Monday) and months, all in UTC, after which a limit starts again."""

from datetime import UTC, date, datetime, timedelta

INTERVALS = ("daily", "weekly", "monthly")


def interval_start(interval: str, now: datetime) -> date:
    """The first UTC day of the current day, week or month."""
    today = now.date()
    if interval == "weekly":
        return today - timedelta(days=today.weekday())
    return today.replace(day=1) if interval == "monthly" else today


def interval_end(interval: str, now: datetime) -> datetime:
    """When the current interval is over, at 00:00 UTC."""
    start = interval_start(interval, now)
    if interval == "monthly":
        end = (start + timedelta(days=32)).replace(day=1)
    else:
        end = start + timedelta(days=7 if interval == "weekly" else 1)
    return datetime(end.year, end.month, end.day, tzinfo=UTC)


def iso(moment: datetime) -> str:
    """A UTC time as answers write it, to the millisecond."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
