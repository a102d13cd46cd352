"""/__sandbox: what scripts the stand-in and is no part of the service."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from . import wishes
from .accounts import SHARED_ACCOUNT
from .consent import decide
from .errors import ApiError, invalid
from .exchange import Reply, Request, json_reply
from .oauth import read_wish
from .service import Service

PREFIX = "/__sandbox"


class Control:
    """The back door: faults, keys, consents and the clock."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._handlers: dict[tuple[str, str], Callable[[Request], Any]] = {
            ("GET", "/health"): lambda _request: {"status": "ok", "models": len(service.catalog.models)},
            ("GET", "/rules"): lambda _request: service.rules.describe(),
            ("POST", "/rules"): self._add_rules,
            ("DELETE", "/rules"): self._clear_rules,
            ("POST", "/keys"): self._hand_out_key,
            ("POST", "/authorize"): self._authorize,
            ("GET", "/clock"): lambda _request: service.clock.describe(),
            ("POST", "/clock"): self._advance_clock,
            ("DELETE", "/clock"): self._reset_clock,
        }

    def reply(self, request: Request) -> Reply:
        handler = self._handlers.get((request.method, request.path.removeprefix(PREFIX)))
        try:
            if handler is None:
                raise ApiError(404)
            return json_reply(handler(request))
        except ApiError as error:
            return json_reply({"error": error.chat_error()}, error.status)

    def _add_rules(self, request: Request) -> list[dict[str, Any]]:
        # A list is as welcome as one rule, so the body is not read as an object.
        self._service.rules.add(request.any_json)
        return self._service.rules.describe()

    def _clear_rules(self, _request: Request) -> list[dict[str, Any]]:
        self._service.rules.clear()
        return []

    def _hand_out_key(self, request: Request) -> dict[str, str]:
        text = self._service.books.keys.hand_out(key_wish(request.json), now=self._service.clock.now())
        self._service.books.save()
        return {"key": text}

    def _authorize(self, request: Request) -> dict[str, str]:
        """Decide as a user would on the page whose `url` is given."""
        body = request.json
        if unknown := body.keys() - {"url", "account", "deny"}:
            raise invalid(f"unknown words {', '.join(sorted(unknown))}")
        query = dict(parse_qsl(urlsplit(wishes.needed(body, "url")).query, keep_blank_values=True))
        account = wishes.word(body, "account", least=1) or SHARED_ACCOUNT
        return decide(read_wish(query), self._service.oauth, account=account, approves=not wishes.flag(body, "deny"))

    def _advance_clock(self, request: Request) -> dict[str, Any]:
        self._service.clock.advance(request.json)
        return self._service.clock.describe()

    def _reset_clock(self, _request: Request) -> dict[str, Any]:
        self._service.clock.reset()
        return self._service.clock.describe()


def key_wish(data: dict[str, Any]) -> dict[str, Any]:
    """What POST /__sandbox/keys may ask for; raises ApiError(400) for anything else."""
    allowed = {"key", "management", "limit", "limit_reset", "balance", "account", "expired", "disabled", "free_used"}
    if unknown := data.keys() - allowed:
        raise invalid(f"unknown words {', '.join(sorted(unknown))}")
    for name in ("key", "account"):
        if not isinstance(data.get(name, ""), str):
            raise invalid(f"{name}: expected a string")
    for name in ("limit", "balance"):
        value = data.get(name, 0)
        if not (name == "limit" and value is None) and (isinstance(value, bool) or not _is_number(value)):
            raise invalid(f"{name}: expected a number")
    used = data.get("free_used", 0)
    if isinstance(used, bool) or not isinstance(used, int) or used < 0:
        raise invalid("free_used: expected a whole number from 0")
    return data


def _is_number(value: Any) -> bool:
    try:
        return Decimal(str(value)).is_finite()
    except ArithmeticError:
        return False
