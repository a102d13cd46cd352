"""
The one way to call a tool, whoever asks: chat, flow, console, reach test.

    1 resolve    tool and arguments                       InvalidArguments, UnknownTool
    2 authorise  member's role, grant, approval           NotAllowed, NeedsApproval, NotApproved
    3 constrain  policies                                 PolicyRefuses
    4 reserve    pace, platform credits, dollars          TooManyCalls, OutOfCredits, RunLimitReached, CapReached,
                                                          StageLimitReached
    5 open       call row and started event, committed with 4 before anything leaves
    6 send       the secret is opened, one HTTP exchange
    7 close      row, finished event and ledgers in one transaction

A refusal is an event too. 1 to 3 are in `preparing`; 4, 5 and 7 in `bookkeeping`. A crash between
5 and 7 leaves the call `sent`, with what it reserved held: `close_in_doubt` turns that into
`unknown`, which time alone never releases.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
from django.db import DatabaseError, transaction

from accounts.credits import OutOfCredits
from accounts.models import Team
from audit.actions import record
from audit.canon import exact_usd
from audit.clock import app_now
from audit.statements import Statement
from integrations import catalog, pricing, scopes
from integrations.advice import in_words
from integrations.approvals import NeedsApproval, NotApproved
from integrations.at_once import TooManyAtOnce
from integrations.binding import bind_one_run
from integrations.bookkeeping import (
    Caller,
    Ending,
    Opening,
    as_details,
    close_call,
    close_in_doubt,
    let_go_of_database,
    note_generation,
    open_call,
)
from integrations.caps import CapReached, UnknownPrice
from integrations.clients import client_for
from integrations.envelope import build_failure, build_result
from integrations.errors import BadAnswer, UpstreamError, Withdrawn
from integrations.models import Call, Connection
from integrations.pace import TooManyCalls
from integrations.policy import BadRules, PolicyRefuses
from integrations.preparing import Asked, Prepared, prepare
from integrations.purse import RunLimitReached, StageLimitReached
from integrations.queue import settle_later
from integrations.registry import InvalidArguments, UnknownTool
from integrations.scopes import Step
from integrations.standing import NotAllowed
from integrations.wire import Answer
from vault.opening import Found, NotGranted, Revoked, Unreadable, finding, unlock
from vault.secret import Secret

__all__ = [
    "OUTCOMES",
    "REFUSALS",
    "CallResult",
    "Caller",
    "NeedsApproval",
    "NotAllowed",
    "call_tool",
    "close_in_doubt",
]

log = structlog.get_logger()

OnText = Callable[[str], None] | None
OnWait = Callable[[], None] | None

OUTCOMES = {
    InvalidArguments: "invalid_arguments",
    UnknownTool: "unknown_tool",
    NotAllowed: "not_allowed",
    NotApproved: "not_approved",
    PolicyRefuses: "policy_refuses",
    BadRules: "policy_refuses",
    TooManyCalls: "too_many_calls",
    TooManyAtOnce: "too_many_calls",
    OutOfCredits: "out_of_credits",
    RunLimitReached: "run_limit",
    StageLimitReached: "stage_limit",
    CapReached: "cap_reached",
    UnknownPrice: "unknown_price",
}
REFUSALS = tuple(OUTCOMES)


@dataclass(frozen=True, slots=True)
class CallResult:
    """A call that was answered. `result` is the tool's envelope as `integrations.envelope` says."""

    call: Call
    answer: Answer
    result: dict[str, Any]


def call_tool(
    *,
    team: Team,
    connection: Connection,
    tool: str,
    arguments: Mapping[str, Any],
    caller: Caller,
    on_text: OnText = None,
    on_reasoning: OnText = None,
    on_wait: OnWait = None,
    chain: Sequence[str] = (),
    approval_id: UUID | None = None,
) -> CallResult:
    """
    Make one call and return what came of it.

    `on_text` gets the text of a model's answer piece by piece, `on_reasoning` what it thinks, and
    `on_wait` is called several times a second, also while nothing comes. What they raise ends the
    call: as a Withdrawn when the answer is not wanted any more, and then its bill is asked for soon.
    `chain` names the models that may still be asked for this answer, `approval_id` what a person
    allowed. Raises one of REFUSALS when nothing was sent, NeedsApproval when a person must be asked
    first, and a kind of UpstreamError when the provider failed. All but NeedsApproval are in the log
    by then.
    """
    asked = Asked(team, connection, tool, arguments, caller, chain, approval_id)
    trail: list[Step] = []
    try:
        prepared = prepare(asked, trail)
        _bind(prepared)
        call, found = open_call(_opening(prepared))
    except REFUSALS as refusal:
        _record_refusal(asked, refusal, [*trail, *_last_steps(refusal)])
        raise
    answer = _send(call, prepared, found, {"on_text": on_text, "on_reasoning": on_reasoning, "on_wait": on_wait})
    return CallResult(call, answer, _close(call, prepared, answer))


def _bind(prepared: Prepared) -> None:
    """Make a grant for one run this run's. Raises NotAllowed when another run was quicker."""
    standing, asked = prepared.standing, prepared.asked
    if not (standing.scopes and standing.scopes.wants_run and standing.holder and asked.caller.run_id):
        return
    place = {"team_id": asked.team.pk, "connection_id": asked.connection.pk, "holder": standing.holder}
    if not bind_one_run(**place, run_id=asked.caller.run_id):
        raise NotAllowed("The grant was for one run, and another run was first. Renew it under Scopes.")


def _opening(prepared: Prepared) -> Opening:
    return Opening(
        team=prepared.asked.team,
        connection=prepared.asked.connection,
        tool=prepared.tool.name,
        model=prepared.model,
        request=prepared.request,
        caller=prepared.asked.caller,
        now=prepared.standing.now,
        most_credits=prepared.most_credits,
        most_usd=prepared.most_usd,
        demands=prepared.demands,
        spends=prepared.tool.hints.spends_money,
        approval=prepared.approval,
        why=prepared.why,
        key=_finding_key(prepared),
    )


def _finding_key(prepared: Prepared) -> Statement[Found | None] | None:
    # The public catalog answers strangers too, but with a key it knows latency and throughput.
    if prepared.tool.credential == "none":
        return None
    return finding(**_place_of_key(prepared), connection_id=prepared.asked.connection.pk)


def _place_of_key(prepared: Prepared) -> dict[str, Any]:
    team, connection = prepared.asked.team, prepared.asked.connection
    return {"team_id": team.pk, "credential_id": connection.credential_id, "holder": prepared.standing.holder}


# --- 6 ----------------------------------------------------------------------------------


def _send(call: Call, prepared: Prepared, found: Found | None, listeners: Mapping[str, Any]) -> Answer:
    key = _open_key_or_close(call, prepared, found)
    let_go_of_database()
    try:
        return client_for(prepared.asked.connection.provider).send(
            replace(prepared.request, once=prepared.asked.caller.stage_id or call.pk),
            key=key,
            request_id=call.pk,
            on_generation=lambda generation_id: _note(call, generation_id),
            **listeners,
        )
    except UpstreamError as error:
        _close_failed(call, prepared, error)
        raise
    except Withdrawn as withdrawn:
        close_in_doubt(call=call, message=withdrawn.words)
        if call.generation_id:
            settle_later(call.pk)  # somebody waits to see what it took
        raise
    except BaseException:
        # Our own fault, or the process is ending: whether it was billed is not known.
        close_in_doubt(call=call)
        raise


def _open_key_or_close(call: Call, prepared: Prepared, found: Found | None) -> Secret | None:
    try:
        return _open_key(prepared, found)
    except Exception as fault:
        words = CANNOT_OPEN.get(type(fault), "The key of {connection} could not be opened; nothing was sent.")
        message = words.format(connection=prepared.asked.connection.label)
        close_call(call, Ending(Call.State.FAILED, OUTCOMES[NotAllowed], 0, facts={"message": message}))
        if type(fault) in CANNOT_OPEN:
            raise NotAllowed(message) from fault
        raise


def _open_key(prepared: Prepared, found: Found | None) -> Secret | None:
    if prepared.tool.credential == "none":
        return None
    return unlock(found, **_place_of_key(prepared), permits=lambda granted: scopes.allows(granted, prepared.tool.name))


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
    credits = _credits(prepared, answer)
    facts = _facts(answer) | {"price_usd": _catalog_price(prepared, answer)}
    try:
        result = build_result(prepared.tool.read(answer, prepared.arguments), answer)
        said = _as_json(result)
    except Exception:
        # A fault of ours. The answer came and was billed, so its bill counts.
        fault = BadAnswer("The answer came, but it could not be read.", partial_text=answer.text)
        facts |= {"message": fault.message}
        close_call(call, Ending(Call.State.FAILED, fault.outcome, credits, _as_json(build_failure(fault)), facts))
        raise
    close_call(call, Ending(Call.State.DONE, "done", credits, said, facts))
    return result


def _credits(prepared: Prepared, answer: Answer) -> int:
    """What an answer takes in platform credits: all that was held where it does not say its tokens."""
    if prepared.tool.tokens and (answer.tokens_in is None or answer.tokens_out is None):
        return prepared.most_credits
    return prepared.price(answer.tokens_in, answer.tokens_out)


def _catalog_price(prepared: Prepared, answer: Answer) -> Decimal | None:
    """What its tokens cost by the catalog: to be held against what the provider says it charged."""
    if answer.tokens_in is None or answer.tokens_out is None:
        return None
    known = catalog.current(prepared.asked.connection.integration)
    model = known.find(answer.model) or known.find(prepared.model)
    price = pricing.by_catalog(model, tokens_in=answer.tokens_in, tokens_out=answer.tokens_out)
    return None if price is None else exact_usd(price)


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


def _close_failed(call: Call, prepared: Prepared, error: UpstreamError) -> None:
    facts = {
        "status": error.code,
        "generation_id": error.generation_id or call.generation_id,
        "provider": error.provider_name[:80],
        "cost_usd": error.cost_usd,
        "message": in_words(error, quotes=call.request_content_id is not None)[:500],
        "retry_at": app_now() + timedelta(seconds=error.retry_after) if error.retry_after is not None else None,
    }
    said = _as_json(build_failure(error))
    if error.maybe_billed:
        ending = Ending(Call.State.UNKNOWN, error.outcome, None, said, facts)
    elif error.may_have_acted:
        # Whether it was done stays unknown for good, but what a tool call takes is known: nothing stays held.
        ending = Ending(Call.State.UNKNOWN, error.outcome, prepared.price(), said, facts)
    else:
        ending = Ending(Call.State.FAILED, error.outcome, 0, said, facts)
    close_call(call, ending)


def _as_json(result: Mapping[str, Any]) -> bytes:
    return json.dumps(result, ensure_ascii=False, separators=(",", ":")).encode()


# --- refusals ---------------------------------------------------------------------------


def _last_steps(refusal: Exception) -> Sequence[Step]:
    """The rules that a refusal names itself: the whole path, or the last one."""
    return getattr(refusal, "steps", None) or [Step(OUTCOMES[type(refusal)], False, str(refusal)[:500])]


def _record_refusal(asked: Asked, refusal: Exception, why: Sequence[Step]) -> None:
    connection, caller = asked.connection, asked.caller
    ours = connection.team_id == asked.team.pk  # another team's name for it is none of this log's business
    with transaction.atomic():
        record(
            "call.refused",
            team_id=asked.team.pk,
            actor=caller.actor,
            target=f"connection:{connection.pk}",
            target_name=connection.label if ours else "",
            outcome=OUTCOMES[type(refusal)],
            persona_id=caller.persona_id,
            persona_name=caller.persona_name,
            run_id=caller.run_id,
            tool=asked.tool[:80],
            details={"message": str(refusal)[:500], "why": as_details(why)},
        )
