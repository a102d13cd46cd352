"""What management requests may ask for, field by field. Unknown fields pass: the service ignores them too."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from .accounts import workspace_id
from .errors import ApiError, invalid
from .exchange import Request
from .fields import texts
from .intervals import INTERVALS

# Seconds are needed and every zone but Z is refused.
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def word(body: dict[str, Any], name: str, *, least: int = 0, most: int | None = None) -> str | None:
    """A text, or None where it is absent or null."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) < least:
        raise invalid(f"{name}: expected a string of at least {least} characters")
    if most is not None and len(value) > most:
        raise invalid(f"{name}: expected at most {most} characters")
    return value


def needed(body: dict[str, Any], name: str, *, most: int | None = None) -> str:
    """A text that must be there and say something."""
    value = word(body, name, least=1, most=most)
    if value is None:
        raise invalid(f"{name}: required")
    return value


def flag(body: dict[str, Any], name: str) -> bool | None:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(f"{name}: expected true or false")
    return value


def amount(body: dict[str, Any], name: str) -> Decimal | None:
    """US dollars from zero, or None where there is no limit."""
    value = body.get(name)
    if value is None:
        return None
    dollars = Decimal("NaN") if isinstance(value, bool) or not isinstance(value, int | float) else Decimal(str(value))
    if not dollars.is_finite() or dollars < 0:
        raise invalid(f"{name}: expected a number from 0")
    return dollars


def interval(body: dict[str, Any], name: str) -> str | None:
    return one_of(body, name, INTERVALS)


def one_of(body: dict[str, Any], name: str, allowed: tuple[str, ...]) -> str | None:
    value = body.get(name)
    if value is not None and value not in allowed:
        raise invalid(f"{name}: expected one of {', '.join(allowed)}")
    return value


def expiry(body: dict[str, Any], name: str, *, now: datetime) -> datetime | None:
    """A time that is still to come, or None for never."""
    value = body.get(name)
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value) if UTC_TIME.fullmatch(value) else None
    except (TypeError, ValueError):
        moment = None
    if moment is None:
        raise invalid(f"{name}: expected a UTC time such as 2027-12-31T23:59:59Z")
    if moment <= now:
        raise invalid(f"{name}: must be in the future")
    return moment


def names(body: dict[str, Any], name: str) -> list[str] | None:
    """A list with something in it, or None where there is none."""
    if body.get(name) is None:
        return None
    if isinstance(body[name], str) or not (found := texts(body, name)):
        raise invalid(f"{name}: expected an array of at least 1 string")
    return found


def workspace(body: dict[str, Any], *, account: str, otherwise: ApiError) -> None:
    """Whatever workspace is named must be the account's own; raises ApiError(400), or `otherwise` for another's."""
    value = body.get("workspace_id")
    if value is None:
        return
    try:
        known = str(UUID(value)) == workspace_id(account)
    except (AttributeError, TypeError, ValueError):
        raise invalid("workspace_id: expected a UUID") from None
    if not known:
        raise otherwise


def whole(request: Request, name: str, *, default: int, least: int = 0, most: int | None = None) -> int:
    """A whole number of the query."""
    value = request.query.get(name) or str(default)
    # Longer than any page number, and int() would take its time.
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else -1
    if number < least or (most is not None and number > most):
        raise invalid(f"{name}: expected a whole number from {least}" + (f" to {most}" if most is not None else ""))
    return number


def yes(request: Request, name: str) -> bool:
    """A switch of the query."""
    value = request.query.get(name, "false")
    if value not in ("true", "false"):
        raise invalid(f"{name}: expected true or false")
    return value == "true"
