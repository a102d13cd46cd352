"""/keys: what a management key may do with the other keys of its account."""

from datetime import datetime
from typing import Any

from . import wishes
from .clock import Clock
from .errors import ApiError, invalid
from .exchange import Reply, Request, json_reply
from .fields import mapping
from .guardrails import Guardrails
from .keys import Key, Keys
from .router import Route
from .shown import managed_data, page_of

A_PAGE = 100


class KeyDesk:
    """Lists, makes, changes and deletes keys. Every handler raises ApiError."""

    def __init__(self, keys: Keys, guardrails: Guardrails, clock: Clock) -> None:
        self._keys = keys
        self._guardrails = guardrails
        self._clock = clock

    def routes(self) -> list[Route]:
        return [
            ("GET", "/keys", self._list),
            ("POST", "/keys", self._create),
            ("GET", "/keys/{}", self._show),
            ("PATCH", "/keys/{}", self._change),
            ("DELETE", "/keys/{}", self._delete),
        ]

    def _list(self, request: Request) -> Reply:
        now = self._clock.now()
        manager = self._keys.need_management(request.bearer, now=now)
        wishes.workspace(dict(request.query), account=manager.account, otherwise=ApiError(404))
        offset = wishes.whole(request, "offset", default=0)
        with_disabled, with_expired = wishes.yes(request, "include_disabled"), wishes.yes(request, "include_expired")
        found = [
            key
            for key in self._keys.managed_by(manager)
            if (with_disabled or not key.disabled) and (with_expired or not key.has_expired(now))
        ]
        page = page_of(found, offset=offset, limit=A_PAGE)
        return json_reply({"data": [managed_data(key, now=now) for key in page]})

    def _create(self, request: Request) -> Reply:
        now = self._clock.now()
        manager = self._keys.need_management(request.bearer, now=now)
        key, text = self._keys.mint(now=now, account=manager.account, **_wish(request.json, manager, now))
        return json_reply({"data": managed_data(key, now=now), "key": text}, 201)

    def _show(self, request: Request, sha256: str) -> Reply:
        return json_reply({"data": managed_data(self._find(request, sha256)[0], now=self._clock.now())})

    def _change(self, request: Request, sha256: str) -> Reply:
        now = self._clock.now()
        key, manager = self._find(request, sha256)
        if changes := _changes(request.json, manager):
            for name, value in changes.items():
                setattr(key, name, value)
            key.updated_at = now
            self._keys.changed = True
        return json_reply({"data": managed_data(key, now=now)})

    def _delete(self, request: Request, sha256: str) -> Reply:
        key, _manager = self._find(request, sha256)
        self._keys.remove(key)
        self._guardrails.forget_key(key.sha256)
        return json_reply({"deleted": True})

    def _find(self, request: Request, sha256: str) -> tuple[Key, Key]:
        """The key of this hash and who manages it; other accounts' keys are as good as unknown."""
        manager = self._keys.need_management(request.bearer, now=self._clock.now())
        key = self._keys.keys.get(sha256)
        if key is None or key.management or key.account != manager.account:
            raise ApiError(404)
        return key, manager


def _wish(body: dict[str, Any], manager: Key, now: datetime) -> dict[str, Any]:
    """The fields of a new key; raises ApiError(400)."""
    wishes.workspace(body, account=manager.account, otherwise=invalid("workspace_id: no such workspace"))
    # Of use to organisations only, which no account here is.
    wishes.word(body, "creator_user_id", least=1)
    external = mapping(body, "external")
    return {
        "name": wishes.needed(body, "name"),
        "limit": wishes.amount(body, "limit"),
        "limit_reset": wishes.interval(body, "limit_reset"),
        "include_byok": bool(wishes.flag(body, "include_byok_in_limit")),
        "expires_at": wishes.expiry(body, "expires_at", now=now),
        "external_user": wishes.needed(external, "user") if external else None,
    }


def _changes(body: dict[str, Any], manager: Key) -> dict[str, Any]:
    """The fields to change and their values; raises ApiError. The end of a key cannot be changed and is ignored."""
    wishes.workspace(body, account=manager.account, otherwise=ApiError(404))
    read = {
        "name": wishes.word(body, "name"),
        "disabled": wishes.flag(body, "disabled"),
        "limit": wishes.amount(body, "limit"),
        "limit_reset": wishes.interval(body, "limit_reset"),
        "include_byok": wishes.flag(body, "include_byok_in_limit"),
    }
    named = {"include_byok" if name == "include_byok_in_limit" else name for name in body}
    for name in ("name", "disabled", "include_byok"):
        if name in named and read[name] is None:
            raise invalid(f"{name}: cannot be null")
    return {name: value for name, value in read.items() if name in named}
