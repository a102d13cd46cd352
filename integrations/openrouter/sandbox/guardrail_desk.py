"""/guardrails: what a management key may do with guardrails and the keys that hold them."""

from typing import Any

from . import wishes
from .accounts import workspace_id
from .clock import Clock
from .errors import ApiError, invalid
from .exchange import Reply, Request, json_reply
from .guardrails import FRONTIER, Assignment, Guardrail, Guardrails
from .intervals import iso
from .keys import Key, Keys
from .router import Route
from .shown import page_of

A_PAGE, LONGEST_PAGE = 50, 100
LONGEST_NAME, LONGEST_DESCRIPTION = 200, 1000
ZDR_GROUPS = (*FRONTIER.values(), "other")
LISTS = ("allowed_models", "ignored_models", "allowed_providers", "ignored_providers")


class GuardrailDesk:
    """Lists, makes and deletes guardrails, and gives them to keys. Every handler raises ApiError."""

    def __init__(self, keys: Keys, guardrails: Guardrails, clock: Clock) -> None:
        self._keys = keys
        self._guardrails = guardrails
        self._clock = clock

    def routes(self) -> list[Route]:
        return [
            ("GET", "/guardrails", self._list),
            ("POST", "/guardrails", self._create),
            ("GET", "/guardrails/{}", self._show),
            ("DELETE", "/guardrails/{}", self._delete),
            ("GET", "/guardrails/assignments/keys", self._all_assignments),
            ("GET", "/guardrails/{}/assignments/keys", self._assignments),
            ("POST", "/guardrails/{}/assignments/keys", self._assign),
            ("POST", "/guardrails/{}/assignments/keys/remove", self._unassign),
        ]

    def _list(self, request: Request) -> Reply:
        manager = self._manager(request)
        wishes.workspace(dict(request.query), account=manager.account, otherwise=ApiError(404))
        rows = [row for row in self._guardrails.rows.values() if row.account == manager.account]
        return _page(request, [_shown(row) for row in rows])

    def _create(self, request: Request) -> Reply:
        manager = self._manager(request)
        fields = _wish(request.json, manager)
        guardrail = self._guardrails.add(account=manager.account, now=self._clock.now(), **fields)
        return json_reply({"data": _shown(guardrail)}, 201)

    def _show(self, request: Request, guardrail_id: str) -> Reply:
        return json_reply({"data": _shown(self._find(request, guardrail_id))})

    def _delete(self, request: Request, guardrail_id: str) -> Reply:
        self._guardrails.remove(self._find(request, guardrail_id))
        return json_reply({"deleted": True})

    def _all_assignments(self, request: Request) -> Reply:
        account = self._manager(request).account
        held = self._guardrails.assignments.values()
        mine = [each for each in held if self._guardrails.rows[each.guardrail_id].account == account]
        return _page(request, [self._shown_assignment(each) for each in mine])

    def _assignments(self, request: Request, guardrail_id: str) -> Reply:
        guardrail = self._find(request, guardrail_id)
        held = [each for each in self._guardrails.assignments.values() if each.guardrail_id == guardrail.id]
        return _page(request, [self._shown_assignment(each) for each in held])

    def _assign(self, request: Request, guardrail_id: str) -> Reply:
        guardrail = self._find(request, guardrail_id)
        # Hashes of nobody's keys, or of somebody else's, are not counted and not complained of.
        found = [self._keys.keys.get(sha256) for sha256 in _hashes(request.json)]
        mine = [key for key in found if key and key.account == guardrail.account and not key.management]
        for key in mine:
            self._guardrails.assign(guardrail, key, now=self._clock.now())
        return json_reply({"assigned_count": len(mine)})

    def _unassign(self, request: Request, guardrail_id: str) -> Reply:
        guardrail = self._find(request, guardrail_id)
        taken = [sha256 for sha256 in _hashes(request.json) if self._guardrails.take(guardrail, sha256)]
        return json_reply({"unassigned_count": len(taken)})

    def _manager(self, request: Request) -> Key:
        return self._keys.need_management(request.bearer, now=self._clock.now())

    def _find(self, request: Request, guardrail_id: str) -> Guardrail:
        manager = self._manager(request)
        guardrail = self._guardrails.rows.get(guardrail_id)
        if guardrail is None or guardrail.account != manager.account:
            raise ApiError(404)
        return guardrail

    def _shown_assignment(self, assignment: Assignment) -> dict[str, Any]:
        key = self._keys.keys[assignment.key]
        return {
            "id": assignment.id,
            "guardrail_id": assignment.guardrail_id,
            "key_hash": key.sha256,
            "key_name": key.name,
            "key_label": key.label,
            "assigned_by": assignment.by,
            "created_at": iso(assignment.created_at),
        }


def _page(request: Request, rows: list[Any]) -> Reply:
    offset = wishes.whole(request, "offset", default=0)
    limit = wishes.whole(request, "limit", default=A_PAGE, least=1, most=LONGEST_PAGE)
    return json_reply({"data": page_of(rows, offset=offset, limit=limit), "total_count": len(rows)})


def _hashes(body: dict[str, Any]) -> list[str]:
    hashes = wishes.names(body, "key_hashes")
    if hashes is None:
        raise invalid("key_hashes: required")
    return list(dict.fromkeys(hashes))


def _wish(body: dict[str, Any], manager: Key) -> dict[str, Any]:
    """The fields of a new guardrail; raises ApiError(400)."""
    wishes.workspace(body, account=manager.account, otherwise=invalid("workspace_id: no such workspace"))
    limit, reset = wishes.amount(body, "limit_usd"), wishes.interval(body, "reset_interval")
    if (limit is None) != (reset is None):
        raise invalid("limit_usd and reset_interval: one needs the other")
    whole = wishes.flag(body, "enforce_zdr")
    zdr = {group: wishes.flag(body, f"enforce_zdr_{group}") for group in ZDR_GROUPS}
    return {
        "name": wishes.needed(body, "name", most=LONGEST_NAME),
        "description": wishes.word(body, "description", most=LONGEST_DESCRIPTION),
        "limit": limit,
        "reset": reset,
        "include_byok": bool(wishes.flag(body, "include_byok_in_budgets")),
        "zdr": {group: whole if value is None else value for group, value in zdr.items()},
        **{name: wishes.names(body, name) for name in LISTS},
    }


def _shown(guardrail: Guardrail) -> dict[str, Any]:
    return {
        "id": guardrail.id,
        "name": guardrail.name,
        "description": guardrail.description,
        "limit_usd": None if guardrail.limit is None else float(guardrail.limit),
        "reset_interval": guardrail.reset,
        "include_byok_in_budgets": guardrail.include_byok,
        **{name: getattr(guardrail, name) for name in LISTS},
        "enforce_zdr": None,
        **{f"enforce_zdr_{group}": guardrail.zdr.get(group) for group in ZDR_GROUPS},
        "workspace_id": workspace_id(guardrail.account),
        "created_at": iso(guardrail.created_at),
        "updated_at": None,
    }
