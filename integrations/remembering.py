"""Remembering what was made of a text, in a bounded space."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

Made = TypeVar("Made")

MOST = 1_024  # texts for each function: 16 MiB of them at most
LONGEST = 16 * 1024  # characters; a longer one is read anew each time, and is rare


def remember_short(make: Callable[[str], Made]) -> Callable[[str], Made]:
    """Remember what a function makes of the last texts that are not long. What it makes must never change."""
    remembered = lru_cache(maxsize=MOST)(make)

    @wraps(make)
    def made_of(text: str) -> Made:
        return remembered(text) if len(text) <= LONGEST else make(text)

    return made_of
