"""Calls that belong to no team: the provider's public lists, asked without a key by the installation itself."""

from typing import Any

from audit.actions import Actor, record
from audit.ids import uuid7
from integrations.bookkeeping import let_go_of_database
from integrations.clients import client_for
from integrations.errors import UpstreamError
from integrations.registry import Integration
from integrations.wire import Answer, Request


def ask_publicly(*, provider: Integration, request: Request, part: str) -> Answer:
    """
    Make one exchange without a key, for a part of the installation; its two events have no team.

    The started event is committed before anything leaves. Raises UpstreamError.
    """
    call_id = uuid7()
    said: dict[str, Any] = {"actor": Actor.system(part), "team_id": None, "target": request.path, "call_id": call_id}
    record("call.started", **said)
    let_go_of_database()
    try:
        answer = client_for(provider).send(request, key=None, request_id=call_id)
    except UpstreamError as error:
        record("call.finished", outcome=error.outcome, **said)
        raise
    record("call.finished", outcome="done", **said)
    return answer
