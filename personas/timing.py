"""When a cron rule fires, in a zone with clock changes. Pure: the same answer on every machine."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError
from cronsim.explain import Expression


class BadRule(Exception):
    """The rule or the zone cannot be used; the message says what to do."""


def zone(name: str) -> ZoneInfo:
    """Return an IANA time zone. Raises BadRule for a name that is none."""
    if name not in available_timezones():
        raise BadRule(f"“{name}” is not a time zone. Choose one such as Europe/Berlin or UTC.")
    return ZoneInfo(name)


def instants(cron: str, zone_name: str, after: datetime) -> Iterator[datetime]:
    """
    Yield the instants, in UTC, at which a rule fires after a given one.

    A local time that a clock change skips fires once at the end of the gap; one that comes
    twice fires once. Raises BadRule when the rule cannot be read or has no further instant.
    """
    local = after.astimezone(zone(zone_name))
    if len(cron.split()) != 5:
        raise BadRule("A cron rule has five fields: minute, hour, day of month, month, day of week.")
    try:
        rule = CronSim(cron, local)
    except CronSimError as error:
        raise BadRule(f"This cron rule cannot be read: {error}. Example: 0 6 * * 1 is Monday 06:00.") from None
    return (instant.astimezone(UTC) for instant in rule)


def next_instant(cron: str, zone_name: str, after: datetime) -> datetime:
    """Return the first instant after a given one, in UTC. Raises BadRule when there is none."""
    for instant in instants(cron, zone_name, after):
        return instant
    raise BadRule("This cron rule never fires: no such date comes in the next 50 years.")


def next_instants(cron: str, zone_name: str, after: datetime, count: int = 6) -> list[datetime]:
    """Return the next `count` instants in UTC. Raises BadRule."""
    found = list(islice(instants(cron, zone_name, after), count))
    if not found:
        raise BadRule("This cron rule never fires: no such date comes in the next 50 years.")
    return found


def in_words(cron: str) -> str:
    """Say a readable rule in words, such as “At 06:00 on Monday”."""
    return Expression(cron.split()).explain()
