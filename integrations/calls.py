"""
The one way to call a tool, whoever asks: chat, flow, console, reach test.

    1 resolve    tool and arguments                       InvalidArguments, UnknownTool
    2 authorise  member's role, persona's grant           NotAllowed
    3 constrain  policies                                 PolicyRefuses
    4 reserve    platform credits                         OutOfCredits
    5 open       call row and started event, committed with 4 before anything leaves
    6 send       the secret is opened, one HTTP exchange
    7 close      row, finished event and ledger in one transaction

A refusal is an event too. A crash between 5 and 7 leaves the call `sent`, with its platform
credits held: `close_in_doubt` turns that into `unknown`, which time alone never releases.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection as database
from django.db import transaction
from pydantic import BaseModel

from accounts import credits
from accounts.models import Membership, Team, User
from accounts.permissions import Permission, allows
from audit.actions import Actor, record
from audit.clock import app_now
from audit.ids import uuid7
from integrations import metering, policy, scopes
from integrations.envelope import build_failure, build_result
from integrations.errors import UpstreamError
from integrations.models import Call, Connection
from integrations.registry import (
    InvalidArguments,
    Tool,
    UnknownTool,
    get_integration,
    parse_arguments,
    tokens_upper_bound,
)
from integrations.wire import Answer, Request
from vault.box import Unreadable
from vault.content import seal_content
from vault.models import Grant
from vault.opening import NotGranted, Revoked, open_credential


class NotAllowed(Exception):
    """The member or the persona may not make this call; the message says what would allow it."""


REFUSALS = (InvalidArguments, UnknownTool, NotAllowed, policy.PolicyRefuses, credits.OutOfCredits)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the member whose rights count, and the persona and run that act for them."""

    user: User
    actor: Actor
    persona_id: UUID | None = None
    persona_name: str = ""
    run_id: UUID | None = None
    stage_id: UUID | None = None

    @property
    def subject(self) -> UUID:
        """What an erasure of this call's content would name."""
        return self.persona_id or self.user.pk


@dataclass(frozen=True, slots=True)
class CallResult:
    """A call that was answered. `result` is the tool's envelope as `integrations.envelope` says."""

    call: Call
    answer: Answer
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that may be made: checked, bounded, and ready as bytes."""

    tool: Tool
    arguments: BaseModel
    request: Request

    @property
    def credits(self) -> int:
        """The most it can take, in platform credits."""
        bound = tokens_upper_bound(self.tool, self.arguments)
        return metering.price(sum(bound) if bound else None)


def call_tool(
    *,
    team: Team,
    connection: Connection,
    tool: str,
    arguments: Mapping[str, Any],
    caller: Caller,
    on_text: Callable[[str], None] | None = None,
) -> CallResult:
    """
    Make one call and return what came of it.

    Raises InvalidArguments, UnknownTool, NotAllowed, PolicyRefuses or OutOfCredits when nothing
    was sent, and a kind of UpstreamError when the provider failed. All are in the log by then.
    """
    try:
        prepared = _prepare(team, connection, tool, arguments, caller)
        call = _open(team, connection, prepared, caller)
    except REFUSALS as refusal:
        _record_refusal(team, connection, tool, caller, refusal)
        raise
    return _send(call, connection, prepared, caller, on_text)


# --- 1 to 3 -----------------------------------------------------------------------------


def _prepare(team: Team, connection: Connection, name: str, given: Mapping[str, Any], caller: Caller) -> Prepared:
    tool = connection.provider.tool(name)
    arguments = parse_arguments(tool, given)
    _authorise(team, connection, tool, caller)
    arguments = policy.constrain(arguments, ())
    return Prepared(tool, arguments, tool.prepare(arguments, client_for(connection.integration)))


def _authorise(team: Team, connection: Connection, tool: Tool, caller: Caller) -> None:
    role = Membership.objects.filter(team=team, user=caller.user).values_list("role", flat=True).first()
    if role is None:
        raise NotAllowed(f"{caller.user.email} is no longer a member of {team.name}.")
    if not allows(role, Permission.TOOL_RUN):
        raise NotAllowed(f"The role {role} may not run tools. An owner or admin can change it.")
    if connection.team_id != team.pk or not connection.is_live:
        raise NotAllowed(f"The connection {connection.label} was revoked. Choose another one.")
    if caller.persona_id:
        _check_grant(team, connection, tool, caller)


def _check_grant(team: Team, connection: Connection, tool: Tool, caller: Caller) -> None:
    grants = Grant.objects.live().filter(team=team, holder=caller.persona_id, connection=connection.pk)
    granted = grants.values_list("scopes", flat=True).first()
    if granted is None:
        raise NotAllowed(f"{caller.persona_name} has no grant for {connection.label}. Enable it on the persona's page.")
    if not scopes.allows(granted, tool.name):
        raise NotAllowed(f"{tool.title} is off for {caller.persona_name}. Allow it on the persona's page.")


@cache
def client_for(integration: str) -> Any:
    """Return this process's client of an integration; it keeps the connections of every thread."""
    return get_integration(integration).client(settings.INTEGRATION_URLS[integration])


# --- 4 and 5 ----------------------------------------------------------------------------


def _open(team: Team, connection: Connection, prepared: Prepared, caller: Caller) -> Call:
    call_id = uuid7()
    # durable: a call inside somebody's transaction could be sent before its record is committed.
    with transaction.atomic(durable=True):
        held = credits.reserve(team=team, credits=prepared.credits, call_id=call_id)
        content = seal_content(
            team_id=team.pk, subject=caller.subject, kind="request", data=_request_text(prepared.request), at=held.at
        )
        call = Call.objects.create(
            id=call_id,
            team=team,
            connection=connection,
            tool=prepared.tool.name,
            actor_kind=caller.actor.kind,
            actor_id=caller.actor.id,
            actor_name=caller.actor.name,
            persona_id=caller.persona_id,
            persona_name=caller.persona_name,
            run_id=caller.run_id,
            stage_id=caller.stage_id,
            model=getattr(prepared.arguments, "model", None) or "",
            request_sha256=hashlib.sha256(prepared.request.body).hexdigest(),
            request_content_id=content.id,
            credit_account_id=held.account_id,
            credits_reserved=held.credits,
            started_at=held.at,
        )
        _record(call, "call.started", at=held.at, content=content)
    return call


def _request_text(request: Request) -> bytes:
    """What was asked, as the log shows it: the body, or the address of a request without one."""
    if request.body:
        return request.body
    return json.dumps({"method": request.method, "path": request.path, "query": list(request.query)}).encode()


# --- 6 ----------------------------------------------------------------------------------


def _send(call: Call, connection: Connection, prepared: Prepared, caller: Caller, on_text) -> CallResult:
    try:
        key = _open_key(call, connection, prepared, caller)
        _let_go_of_database()
        answer = client_for(connection.integration).send(prepared.request, key=key, request_id=call.pk, on_text=on_text)
        result = build_result(prepared.tool.read(answer, prepared.arguments), answer)
    except UpstreamError as error:
        _close_failed(call, caller, error)
        raise
    except (Revoked, NotGranted, Unreadable) as refusal:
        message = CANNOT_OPEN[type(refusal)].format(connection=connection.label)
        _close_unsent(call, caller, message)
        raise NotAllowed(message) from refusal
    except BaseException:
        # Our own fault, or the process is ending: whether it was billed is not known.
        close_in_doubt(call=call)
        raise
    _close_done(call, caller, prepared, answer, result)
    return CallResult(call, answer, result)


def _open_key(call: Call, connection: Connection, prepared: Prepared, caller: Caller) -> Any:
    if not prepared.request.needs_key:
        return None
    return open_credential(
        team_id=call.team_id,
        credential_id=connection.credential_id,
        holder=caller.persona_id,
        connection_id=connection.pk,
        permits=lambda granted: scopes.allows(granted, prepared.tool.name),
    )


CANNOT_OPEN = {
    Revoked: "The key of {connection} was revoked just now; nothing was sent. Connect a new one.",
    NotGranted: "The grant for {connection} was taken away just now; nothing was sent.",
    Unreadable: "The key of {connection} cannot be read. Reconnect it on the integrations page.",
}


def _let_go_of_database() -> None:
    """Nobody holds a connection while waiting for a model."""
    if not database.in_atomic_block:
        database.close()


# --- 7 ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended. `credits` None means that its reservation stays held."""

    state: Call.State
    outcome: str
    credits: int | None
    result: dict[str, Any] | None = None
    facts: Mapping[str, Any] | None = None


def _close_done(call: Call, caller: Caller, prepared: Prepared, answer: Answer, result: dict[str, Any]) -> None:
    facts = {
        "status": answer.status,
        "generation_id": answer.generation_id,
        "model_served": answer.model,
        "provider": answer.provider,
        "tokens_in": answer.tokens_in,
        "tokens_out": answer.tokens_out,
        "cost_usd": answer.cost_usd,
        "first_token_ms": answer.first_token_ms,
        "latency_ms": answer.latency_ms,
    }
    _close(call, caller.subject, Ending(Call.State.DONE, "done", _price(prepared, answer), result, facts))


def _price(prepared: Prepared, answer: Answer) -> int:
    if prepared.tool.tokens is None:
        return metering.price(None)
    return metering.price((answer.tokens_in or 0) + (answer.tokens_out or 0))


def _close_failed(call: Call, caller: Caller, error: UpstreamError) -> None:
    state = Call.State.UNKNOWN if error.maybe_billed else Call.State.FAILED
    facts = {
        "status": error.code,
        "generation_id": error.generation_id,
        "provider": error.provider_name or "",
        "message": error.message[:500],
        "retry_at": app_now() + timedelta(seconds=error.retry_after) if error.retry_after is not None else None,
    }
    credits_due = None if error.maybe_billed else 0
    _close(call, caller.subject, Ending(state, error.outcome, credits_due, build_failure(error), facts))


def _close_unsent(call: Call, caller: Caller, message: str) -> None:
    facts = {"message": message}
    _close(call, caller.subject, Ending(Call.State.FAILED, "not_allowed", 0, facts=facts))


def close_in_doubt(*, call: Call) -> None:
    """
    Close a call whose sender is gone: nobody knows whether it was billed.

    It becomes `unknown` and its platform credits stay held until somebody knows.
    """
    facts = {"message": "The worker ended before the answer came. Whether it was billed is not known."}
    _close(call, call.persona_id or UUID(call.actor_id), Ending(Call.State.UNKNOWN, "unknown", None, facts=facts))


def _close(call: Call, subject: UUID, ending: Ending) -> None:
    """
    Write the end of a call once. What is learnt later settles a call that had become `unknown`;
    any other second ending changes nothing.
    """
    with transaction.atomic():
        at = app_now()
        content = _seal_result(call, subject, ending, at)
        fields = {"state": ending.state, "outcome": ending.outcome, "credits": ending.credits, "finished_at": at}
        fields |= {"response_content_id": content.id if content else None} | dict(ending.facts or {})
        action = _end(call, fields)
        if action is None:
            return
        for name, value in fields.items():
            setattr(call, name, value)
        _record(call, action, at=at, content=content)
        _pay(call, at)


def _end(call: Call, fields: dict[str, Any]) -> str | None:
    """Decide with one conditional UPDATE which event this ending is, or None when it comes too late."""
    row = Call.objects.filter(pk=call.pk, started_at=call.started_at)
    if row.filter(state=Call.State.SENT).update(**fields):
        return "call.finished"
    if fields["credits"] is not None and row.filter(state=Call.State.UNKNOWN).update(**fields):
        return "call.settled"
    return None


def _seal_result(call: Call, subject: UUID, ending: Ending, at) -> Any:
    if ending.result is None:
        return None
    data = json.dumps(ending.result, ensure_ascii=False, separators=(",", ":")).encode()
    return seal_content(team_id=call.team_id, subject=subject, kind="response", data=data, at=at)


def _pay(call: Call, at) -> None:
    if call.credits is None:
        return
    held = {"team_id": call.team_id, "account_id": call.credit_account_id, "reserved": call.credits_reserved}
    if call.credits:
        credits.settle(**held, spent=call.credits, call_id=call.pk, at=at)
    else:
        credits.release(**held, call_id=call.pk, at=at)


# --- the log ----------------------------------------------------------------------------


def _record(call: Call, action: str, *, at, content) -> None:
    record(
        action,
        at=at,
        team_id=call.team_id,
        actor=Actor(call.actor_kind, call.actor_id, call.actor_name),
        target=f"connection:{call.connection_id}",
        outcome=call.outcome,
        persona_id=call.persona_id,
        persona_name=call.persona_name,
        run_id=call.run_id,
        tool=call.tool,
        model=call.model_served or call.model,
        call_id=call.pk,
        generation_id=call.generation_id,
        request_sha256=call.request_sha256,
        cost_usd=call.cost_usd,
        credits=call.credits_reserved if action == "call.started" else call.credits,
        content=content,
        details={"state": call.state, "message": call.message} if call.message else {"state": call.state},
    )


def _record_refusal(team: Team, connection: Connection, tool: str, caller: Caller, refusal: Exception) -> None:
    with transaction.atomic():
        record(
            "call.refused",
            team_id=team.pk,
            actor=caller.actor,
            target=f"connection:{connection.pk}",
            target_name=connection.label,
            outcome=OUTCOMES[type(refusal)],
            persona_id=caller.persona_id,
            persona_name=caller.persona_name,
            run_id=caller.run_id,
            tool=tool[:80],
            details={"message": str(refusal)[:500]},
        )


OUTCOMES = {
    InvalidArguments: "invalid_arguments",
    UnknownTool: "unknown_tool",
    NotAllowed: "not_allowed",
    policy.PolicyRefuses: "policy_refuses",
    credits.OutOfCredits: "out_of_credits",
}
