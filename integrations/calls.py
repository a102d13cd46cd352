"""
The one way to call a tool, whoever asks: chat, flow, console, reach test.

    1 resolve    tool and arguments                       InvalidArguments, UnknownTool
    2 authorise  member's role, persona's grant           NotAllowed
    3 constrain  policies                                 PolicyRefuses
    4 reserve    platform credits                         OutOfCredits
    5 open       call row and started event, committed with 4 before anything leaves
    6 send       the secret is opened, one HTTP exchange
    7 close      row, finished event and ledger in one transaction

A refusal is an event too. 4, 5 and 7 are in `bookkeeping`. A crash between 5 and 7 leaves the
call `sent`, with its platform credits held: `close_in_doubt` turns that into `unknown`, which
time alone never releases.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, transaction
from pydantic import BaseModel

from accounts.credits import OutOfCredits
from accounts.models import Team
from audit.actions import record
from audit.clock import app_now
from integrations import metering, scopes
from integrations.advice import in_words
from integrations.bookkeeping import (
    Caller,
    Ending,
    close_call,
    close_in_doubt,
    let_go_of_database,
    note_generation,
    open_call,
)
from integrations.envelope import build_failure, build_result
from integrations.errors import BadAnswer, UpstreamError
from integrations.models import Call, Connection
from integrations.policy import PolicyRefuses, constrain
from integrations.registry import (
    Integration,
    InvalidArguments,
    Tool,
    UnknownTool,
    parse_arguments,
    tokens_upper_bound,
)
from integrations.rights import NotAllowed, check_rights
from integrations.wire import Answer, Request
from vault.opening import NotGranted, Revoked, Unreadable, open_credential
from vault.secret import Secret

__all__ = ["OUTCOMES", "REFUSALS", "CallResult", "Caller", "NotAllowed", "call_tool", "client_for", "close_in_doubt"]

log = structlog.get_logger()

OnText = Callable[[str], None] | None

OUTCOMES = {
    InvalidArguments: "invalid_arguments",
    UnknownTool: "unknown_tool",
    NotAllowed: "not_allowed",
    PolicyRefuses: "policy_refuses",
    OutOfCredits: "out_of_credits",
}
REFUSALS = tuple(OUTCOMES)


@dataclass(frozen=True, slots=True)
class CallResult:
    """A call that was answered. `result` is the tool's envelope as `integrations.envelope` says."""

    call: Call
    answer: Answer
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that may be made: checked, bounded, and ready as bytes."""

    connection: Connection
    tool: Tool
    arguments: BaseModel
    request: Request
    caller: Caller

    @property
    def model(self) -> str:
        """The model asked for, if any."""
        return getattr(self.arguments, "model", None) or ""

    @property
    def most_credits(self) -> int:
        """The most it can take, in platform credits."""
        bound = tokens_upper_bound(self.tool, self.arguments)
        return self.price(*bound) if bound else self.price()

    def price(self, tokens_in: int | None = None, tokens_out: int | None = None) -> int:
        """What it takes in platform credits. Nobody pays for what the installation looks up itself."""
        if self.caller.user is None:
            return 0
        tokens = (tokens_in or 0) + (tokens_out or 0) if self.tool.tokens else None
        return metering.price(self.connection.team.plan, tokens)


def call_tool(
    *,
    team: Team,
    connection: Connection,
    tool: str,
    arguments: Mapping[str, Any],
    caller: Caller,
    on_text: OnText = None,
) -> CallResult:
    """
    Make one call and return what came of it.

    `on_text` gets the text of a model's answer piece by piece; what it raises ends the call.
    Raises InvalidArguments, UnknownTool, NotAllowed, PolicyRefuses or OutOfCredits when nothing
    was sent, and a kind of UpstreamError when the provider failed. All are in the log by then.
    """
    try:
        prepared = _prepare(team, connection, tool, arguments, caller)
        call = open_call(
            team=team,
            connection=connection,
            tool=prepared.tool.name,
            model=prepared.model,
            request=prepared.request,
            caller=caller,
            most=prepared.most_credits,
        )
    except REFUSALS as refusal:
        _record_refusal(team, connection, tool, caller, refusal)
        raise
    answer = _send(call, prepared, on_text)
    return CallResult(call, answer, _close(call, prepared, answer))


# --- 1 to 3 -----------------------------------------------------------------------------


def _prepare(team: Team, connection: Connection, name: str, given: Mapping[str, Any], caller: Caller) -> Prepared:
    tool = connection.provider.tool(name)
    arguments = parse_arguments(tool, given)
    check_rights(team=team, connection=connection, tool=tool, caller=caller)
    arguments = constrain(arguments, ())
    request = tool.prepare(arguments, client_for(connection.provider))
    return Prepared(connection, tool, arguments, request, caller)


def client_for(provider: Integration) -> Any:
    """Return this process's client of an integration."""
    return _client(provider.client, settings.INTEGRATION_URLS[provider.slug])


@cache
def _client(make: Callable[[str], Any], base_url: str) -> Any:
    return make(base_url)


# --- 6 ----------------------------------------------------------------------------------


def _send(call: Call, prepared: Prepared, on_text: OnText) -> Answer:
    key = _open_key_or_close(call, prepared)
    let_go_of_database()
    try:
        return client_for(prepared.connection.provider).send(
            prepared.request,
            key=key,
            request_id=call.pk,
            on_text=on_text,
            on_generation=lambda generation_id: _note(call, generation_id),
        )
    except UpstreamError as error:
        _close_failed(call, error)
        raise
    except BaseException:
        # Our own fault, or the process is ending: whether it was billed is not known.
        close_in_doubt(call=call)
        raise


def _open_key_or_close(call: Call, prepared: Prepared) -> Secret | None:
    try:
        return _open_key(call, prepared)
    except Exception as fault:
        words = CANNOT_OPEN.get(type(fault), "The key of {connection} could not be opened; nothing was sent.")
        message = words.format(connection=prepared.connection.label)
        close_call(call, Ending(Call.State.FAILED, OUTCOMES[NotAllowed], 0, facts={"message": message}))
        if type(fault) in CANNOT_OPEN:
            raise NotAllowed(message) from fault
        raise


def _open_key(call: Call, prepared: Prepared) -> Secret | None:
    # The public catalog answers strangers too, but with a key it knows latency and throughput.
    if prepared.tool.credential == "none":
        return None
    return open_credential(
        team_id=call.team_id,
        credential_id=prepared.connection.credential_id,
        holder=prepared.caller.persona_id,
        connection_id=prepared.connection.pk,
        permits=lambda granted: scopes.allows(granted, prepared.tool.name),
    )


CANNOT_OPEN = {
    Revoked: "The key of {connection} was revoked just now; nothing was sent. Connect a new one.",
    NotGranted: "The grant for {connection} was taken away just now; nothing was sent.",
    Unreadable: "The key of {connection} cannot be read; nothing was sent. Reconnect it on the integrations page.",
}


def _note(call: Call, generation_id: str) -> None:
    try:
        note_generation(call, generation_id)
    except DatabaseError:
        log.warning("call.generation_not_noted", call_id=str(call.pk))  # the answer is worth more
    finally:
        let_go_of_database()


# --- 7 ----------------------------------------------------------------------------------


def _close(call: Call, prepared: Prepared, answer: Answer) -> dict[str, Any]:
    """Write down what came back, and return it as the tool's envelope."""
    credits = prepared.price(answer.tokens_in, answer.tokens_out)
    try:
        result = build_result(prepared.tool.read(answer, prepared.arguments), answer)
        said = _as_json(result)
    except Exception:
        # A fault of ours. The answer came and was billed, so its bill counts.
        fault = BadAnswer("The answer came, but it could not be read.", partial_text=answer.text)
        facts = _facts(answer) | {"message": fault.message}
        close_call(call, Ending(Call.State.FAILED, fault.outcome, credits, _as_json(build_failure(fault)), facts))
        raise
    close_call(call, Ending(Call.State.DONE, "done", credits, said, _facts(answer)))
    return result


def _facts(answer: Answer) -> dict[str, Any]:
    return {
        "status": answer.status,
        "generation_id": answer.generation_id,
        "model_served": answer.model[:200],
        "provider": answer.provider[:80],
        "tokens_in": answer.tokens_in,
        "tokens_out": answer.tokens_out,
        "cost_usd": answer.cost_usd,
        "first_token_ms": answer.first_token_ms,
        "latency_ms": answer.latency_ms,
    }


def _close_failed(call: Call, error: UpstreamError) -> None:
    facts = {
        "status": error.code,
        "generation_id": error.generation_id or call.generation_id,
        "provider": error.provider_name[:80],
        "cost_usd": error.cost_usd,
        "message": in_words(error)[:500],
        "retry_at": app_now() + timedelta(seconds=error.retry_after) if error.retry_after is not None else None,
    }
    said = _as_json(build_failure(error))
    if error.maybe_billed:
        ending = Ending(Call.State.UNKNOWN, error.outcome, None, said, facts)
    else:
        ending = Ending(Call.State.FAILED, error.outcome, 0, said, facts)
    close_call(call, ending)


def _as_json(result: Mapping[str, Any]) -> bytes:
    return json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()


# --- refusals ---------------------------------------------------------------------------


def _record_refusal(team: Team, connection: Connection, tool: str, caller: Caller, refusal: Exception) -> None:
    ours = connection.team_id == team.pk  # another team's name for it is none of this log's business
    with transaction.atomic():
        record(
            "call.refused",
            team_id=team.pk,
            actor=caller.actor,
            target=f"connection:{connection.pk}",
            target_name=connection.label if ours else "",
            outcome=OUTCOMES[type(refusal)],
            persona_id=caller.persona_id,
            persona_name=caller.persona_name,
            run_id=caller.run_id,
            tool=tool[:80],
            details={"message": str(refusal)[:500]},
        )
