"""Time zones by IANA name."""

from functools import cache
from zoneinfo import ZoneInfo, available_timezones


@cache
def known_zones() -> frozenset[str]:
    """Return every zone a person may choose. Files such as posixrules are left out."""
    return frozenset(name for name in available_timezones() if "/" in name or name == "UTC")


def zone_or_utc(name: str) -> ZoneInfo:
    """Return the zone of that name, or UTC where there is none."""
    return ZoneInfo(name if name in known_zones() else "UTC")
