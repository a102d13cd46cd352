"""Many rows in one statement, where Django's own way of doing that would take most of the time."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection
from django.db.models import Field, JSONField, Model


def insert_alike(pattern: Model, rows: Sequence[Mapping[str, Any]]) -> None:
    """
    Insert rows that are as `pattern` is, but for the columns that they all name: one exchange for all of them.

    Values go to the database as they are, JSON aside: nothing is validated but by its columns. Measured on runs
    and events, this takes a third of the CPU of `bulk_create` (`python -m bench dispatch`).
    """
    if rows:
        fields = pattern._meta.concrete_fields
        differ = [field for field in fields if field.attname in rows[0]]
        same = [field for field in fields if field.attname not in rows[0]]
        constants = [field.get_db_prep_save(getattr(pattern, field.attname), connection) for field in same]
        with connection.cursor() as cursor:
            cursor.execute(_statement(pattern, same, differ), [*constants, *(_values(field, rows) for field in differ)])


def _statement(pattern: Model, same: list[Field], differ: list[Field]) -> str:
    columns = ", ".join(field.column for field in [*same, *differ])
    constants = ", ".join(f"%s::{_type(field)}" for field in same)
    names = ", ".join(field.column for field in differ)
    arrays = ", ".join(f"%s::{_type(field)}[]" for field in differ)
    chosen = ", ".join(filter(None, [constants, *(f"given.{field.column}" for field in differ)]))
    table = pattern._meta.db_table
    return f"INSERT INTO {table} ({columns}) SELECT {chosen} FROM unnest({arrays}) AS given ({names})"  # noqa: S608


def _type(field: Field) -> str:
    """Without its length: a cast would cut what is too long, where the column refuses it."""
    return field.db_type(connection).partition("(")[0]


def _values(field: Field, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    values = [row[field.attname] for row in rows]
    return [json.dumps(value) for value in values] if isinstance(field, JSONField) else values
