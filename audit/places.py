"""A place in a list that is sorted by time and id, as an address says it: pages stay whole while rows are added."""

from datetime import datetime, timedelta
from uuid import UUID

from audit.canon import EPOCH


def place(at: datetime, id: UUID) -> str:
    """Name the row after which the next page begins."""
    return f"{(at - EPOCH) // timedelta(microseconds=1)}.{id.hex}"


def read_place(text: str) -> tuple[datetime, UUID] | None:
    """Return a row's time and id, and None for what names no place."""
    micros, _, id = text.partition(".")
    try:
        return EPOCH + timedelta(microseconds=int(micros)), UUID(id)
    except (ValueError, OverflowError):
        return None
