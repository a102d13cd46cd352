"""Doing the same to many rows: one that cannot be dealt with does not keep the others from it."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog
from django.db import InterfaceError, OperationalError
from django.db.models import Model

Row = TypeVar("Row", bound=Model)

log = structlog.get_logger()


def one_by_one(rows: Iterable[Row], act: Callable[[Row], object]) -> None:
    """
    Do something to each row. One that fails is named in the log, with its traceback, and passed over.

    A database that is not there ends it: the next row would fare no better. Not inside a transaction.
    """
    for row in rows:
        try:
            act(row)
        except (OperationalError, InterfaceError):
            raise
        except Exception as fault:  # noqa: BLE001 - whatever it is, it is named in the log
            note_fault(row, fault)


def note_fault(row: Model, fault: Exception) -> None:
    """Write down which row could not be dealt with, and why."""
    log.error("row.passed_over", row=f"{row._meta.label_lower}:{row.pk}", fault=type(fault).__name__, exc_info=fault)
