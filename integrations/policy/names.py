"""
Lists of providers as policies write them, and what they have in common. Pure.

A name is a provider's slug (`azure`: all its endpoints), a full tag (`azure/eastus2`: that one alone) or
the beginning of slugs (`deepinfra*`). Any two names are either one inside the other or strangers, so a
list has exactly one shortest form, and what two lists have in common is a list again.
"""

import re
from collections.abc import Collection, Iterable, Iterator

Names = tuple[str, ...]

_NAME = re.compile(r"[a-z0-9][a-z0-9 ._&()-]{0,99}(\*|/[a-z0-9 ._&()/-]{1,99})?")


def read_name(text: str) -> str | None:
    """A name in its one spelling, or None when the text cannot be one."""
    name = text.strip().lower()
    return name if _NAME.fullmatch(name) else None


def covers(wide: str, narrow: str) -> bool:
    """Whether every endpoint that `narrow` means is also meant by `wide`."""
    return wide in _wider(narrow)


def any_covers(names: Collection[str], narrow: str) -> bool:
    """Whether one of the names means all that `narrow` does. Give a set where there are many."""
    return any(wide in names for wide in _wider(narrow))


def _wider(name: str) -> Iterator[str]:
    """The name itself, and every name that means more."""
    slug = slug_of(name).removesuffix("*")
    yield name
    if "/" in name:
        yield slug
    yield from (f"{slug[:end]}*" for end in range(1, len(slug) + 1))


def slug_of(name: str) -> str:
    """The provider of a slug or tag."""
    return name.partition("/")[0]


def shortest(names: Iterable[str]) -> Names:
    """The same list without what other entries cover, in one order."""
    given = set(names)
    return tuple(sorted(name for name in given if not any(wide in given for wide in _wider(name) if wide != name)))


def common(one: Iterable[str], other: Iterable[str]) -> Names:
    """What both lists mean."""
    here, there = set(one), set(other)
    narrower = {name for name in here if any_covers(there, name)}
    return shortest(narrower | {name for name in there if any_covers(here, name)})
