"""JSON out as stable bytes, JSON in with exact numbers and storable text."""

import json
import math
import re
from decimal import Decimal
from typing import Any, NoReturn

from integrations.errors import InvalidRequest

# Half a surrogate pair and NUL are legal JSON escapes, but neither UTF-8 nor PostgreSQL can hold them.
UNSTORABLE_ESCAPE = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")
MOST_USD = Decimal(1_000_000)


def encode(body: dict[str, Any]) -> bytes:
    """
    Serialise a request body, keys in the order given: providers key their prompt caches by it.

    Raises InvalidRequest for what JSON or UTF-8 cannot hold.
    """
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_number)
        return text.encode()
    except (ValueError, RecursionError):
        raise InvalidRequest("The arguments hold a number or a character that JSON cannot carry.", sent=False) from None


def decode(body: bytes) -> Any:
    """Read JSON; numbers with a point become Decimal. Raises ValueError for anything that is not JSON."""
    try:
        value = DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return _storable(value) if UNSTORABLE_ESCAPE.search(body) else value


def usd(value: Any) -> Decimal | None:
    """Read an amount in US dollars; None when it is missing, negative or absurd."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    amount = Decimal(value)
    return amount if 0 <= amount < MOST_USD else None


def count(value: Any) -> int | None:
    """Read a number of tokens; None when it is missing or absurd."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def as_dict(value: Any) -> dict[str, Any]:
    """Return the value when it is an object, else an empty one: providers send null and worse."""
    return value if isinstance(value, dict) else {}


def dicts(value: Any) -> list[dict[str, Any]]:
    """Return the objects of a list, and none when it is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """Return the value when it is text, else nothing."""
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | str:
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} has no JSON form")
    number = float(value)
    return number if math.isfinite(number) else str(value)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


# json.loads would make one for each event of a stream.
DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        # Through UTF-16 so that two halves that belong together become one character again.
        joined = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return joined.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return value
