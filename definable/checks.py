"""Is this Django still looked after?"""

import re
from datetime import date

import django
from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register

SERIES = (5, 2)  # the long-term release
FIXED_UNTIL = date(2028, 4, 30)
PINNED = re.compile(r"^django==(\d+)\.(\d+)\.(\d+)", re.MULTILINE)


def django_state() -> str:
    """Return which Django runs and how long it gets security fixes, for the operator."""
    return f"Django {django.get_version()}, security fixes until {FIXED_UNTIL:%B %Y}"


@register(Tags.security)
def check_django(**_kwargs: object) -> list[CheckMessage]:
    """Warn about a Django that misses security fixes."""
    return _behind(django.VERSION[:3], _pinned_release()) + _abandoned(django.VERSION[:2], date.today())


def _pinned_release() -> tuple[int, ...]:
    found = PINNED.search((settings.BASE_DIR / "requirements" / "run.txt").read_text())
    return tuple(int(part) for part in found.groups()) if found else SERIES


def _behind(running: tuple[int, ...], pinned: tuple[int, ...]) -> list[CheckMessage]:
    if running >= pinned:
        return []
    versions = [".".join(map(str, version)) for version in (running, pinned)]
    return [
        Warning(
            f"Django {versions[0]} runs, and {versions[1]} is the one with the fixes.",
            hint="Install what requirements/run.txt lists.",
            id="definable.W001",
        )
    ]


def _abandoned(series: tuple[int, ...], today: date) -> list[CheckMessage]:
    if series == SERIES and today <= FIXED_UNTIL:
        return []
    return [
        Warning(
            f"Nobody here watches over Django {series[0]}.{series[1]} any more.",
            hint="Move to a release of Definable with a supported Django.",
            id="definable.W002",
        )
    ]
