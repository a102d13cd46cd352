"""The authoritative bytes of an event: sorted keys, integers only, explicit nulls."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

SCHEMA = 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PICO = Decimal(10) ** 12  # the log's dollars have twelve decimals


def canon(fields: Mapping[str, object]) -> bytes:
    """
    Serialise an event's fields to the bytes that later proofs hash.

    Times become microseconds since 1970, dollars become integers of 1e-12 USD, so no
    library's idea of a float can change what was written.
    """
    plain = {name: _plain(value) for name, value in fields.items()}
    return json.dumps(plain | {"schema": SCHEMA}, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _plain(value: object) -> object:
    match value:
        case datetime():
            return (value - EPOCH) // timedelta(microseconds=1)
        case Decimal():
            return int((value * PICO).to_integral_exact())
        case UUID():
            return str(value)
        case _:
            return value
