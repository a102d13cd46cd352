"""The authoritative bytes of an event: sorted keys, integers only, explicit nulls."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from uuid import UUID

SCHEMA = 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
PICO = Decimal(10) ** 12  # the log's dollars have twelve decimals


def exact_usd(amount: Decimal) -> Decimal:
    """Round dollars to what the log keeps, as PostgreSQL rounds them: halves away from zero."""
    return amount.quantize(1 / PICO, ROUND_HALF_UP)


def canon(fields: Mapping[str, object]) -> bytes:
    """
    Serialise an event's fields to the bytes that later proofs hash.

    Times become microseconds since 1970, dollars become integers of 1e-12 USD, so no
    library's idea of a float can change what was written. Raises TypeError on a float,
    ValueError on dollars with more decimals than that.
    """
    plain = {name: _plain(value) for name, value in fields.items()}
    return ENCODER.encode(plain | {"schema": SCHEMA}).encode()


def _plain(value: object) -> object:
    match value:
        case None | str() | int():
            return value
        case datetime():
            return (value - EPOCH) // timedelta(microseconds=1)
        case Decimal():
            return _pico(value)
        case UUID():
            return str(value)
        case Mapping():
            return {name: _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _:
            raise TypeError(f"The log takes no {type(value).__name__}: it has more than one spelling.")


def _pico(amount: Decimal) -> int:
    scaled = amount * PICO
    if scaled != int(scaled):
        raise ValueError("Dollars in the log have twelve decimals; round them with exact_usd first.")
    return int(scaled)
