"""
The record of a call: its row, its events with what was said, and its platform credits.

A call is opened before it leaves and closed after, each in one transaction. In between it is
`sent`; if its sender dies there, it becomes `unknown`, and its platform credits stay held until
somebody knows what it took.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection as database
from django.db import transaction

from accounts import credits
from accounts.credits import Reservation
from accounts.models import Team, User
from audit.actions import Actor, Sealed, record
from audit.canon import exact_usd
from audit.ids import uuid7
from audit.statements import Answer, RoundTrip, Statement, one_round_trip
from integrations import at_once, caps, purse
from integrations.approvals import consume
from integrations.caps import Demand
from integrations.models import Call, Cap, Connection
from integrations.pace import keeping_pace
from integrations.purse import StageLimit
from integrations.scopes import Step
from integrations.wire import Request
from vault.content import seal_content
from vault.opening import Found


@dataclass(frozen=True, slots=True)
class Caller:
    """
    Who asks: the member whose rights count, and the persona, flow and run that act for them.

    `attempt` counts the tries of one stage from 1; `unattended` means that nobody sits before it,
    `untrusted` that whoever asks has read text of strangers. `most_credits` bounds what all calls of its
    run may take in platform credits; None: only the plan does. `stage_limit` bounds what its stage may cost.
    Without `keep` the log has no prompt and no answer of its calls, only that they were made.
    Without a user it is the installation itself, which may only look things up.
    """

    user: User | None
    actor: Actor
    persona_id: UUID | None = None
    persona_name: str = ""
    flow_id: UUID | None = None
    run_id: UUID | None = None
    stage_id: UUID | None = None
    attempt: int = 1
    unattended: bool = False
    untrusted: bool = False
    most_credits: int | None = None
    stage_limit: StageLimit | None = None
    keep: bool = True

    @classmethod
    def system(cls, part: str) -> "Caller":
        """The installation, by the name of the part that acts."""
        return cls(None, Actor.system(part))


@dataclass(frozen=True, slots=True)
class Opening:
    """
    A call that is about to leave, with the most it can take in platform credits and US dollars.

    `most_usd` None: nobody knows. `demands` are the caps that must hold it; `spends`: it can cost
    dollars at all. `approval` is the id and
    the hash of what a person allowed, where they had to be asked. `why` is the path of rules so far, `key`
    finds the credential to send it with.
    """

    team: Team
    connection: Connection
    tool: str
    model: str
    request: Request
    caller: Caller
    now: datetime
    most_credits: int
    most_usd: Decimal | None = None
    demands: tuple[Demand, ...] = ()
    spends: bool = False
    approval: tuple[UUID, str] | None = None
    why: Sequence[Step] = ()
    key: Statement[Found | None] | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """
    How a call ended: what becomes of its row, and what was said.

    `credits` None means that its reservation stays held. `facts` are further columns of the row.
    """

    state: Call.State
    outcome: str
    credits: int | None
    said: bytes | None = None
    facts: Mapping[str, Any] | None = None


# --- opening ----------------------------------------------------------------------------


def open_call(opening: Opening) -> tuple[Call, Found | None]:
    """
    Record that a call is about to leave, and hold the most that it can take. Return it, with what `key` found.

    Raises TooManyCalls, OutOfCredits, RunLimitReached, StageLimitReached, CapReached and NotApproved. When
    this returns, the record is committed.
    """
    return credits.with_room(lambda: _open(opening), team=opening.team, credits=opening.most_credits)


def _open(opening: Opening) -> tuple[Call, Found | None]:
    call = _new(opening)
    # durable: a call inside somebody's transaction could be sent before its record is committed.
    with transaction.atomic(durable=True):
        content = _seal(call, "request", _request_text(opening.request)) if opening.caller.keep else None
        call.request_content_id = content.id if content else None
        expected = _expected_usd(opening)
        with one_round_trip() as trip:
            held = _reserve(trip, opening, call, expected)
            _insert(call)
            _record(call, "call.started", at=call.started_at, content=content, why=as_details(opening.why))
            key = trip.add(opening.key) if opening.key else None
        if opening.approval:
            _consume(opening.approval, call)
    call.credit_account_id = held.meaning.account_id
    call._state.adding = False
    call.may_hold_dollars = bool(opening.demands)
    return call, key and key.meaning


def _reserve(trip: RoundTrip, opening: Opening, call: Call, expected_usd: Decimal | None) -> Answer[Reservation]:
    """Hold what a call can take in every ledger, in one order everywhere."""
    caller = opening.caller
    if caller.user:
        trip.add(keeping_pace(team_id=call.team_id, subjects=_subjects(opening), now=opening.now))
    for statement in at_once.checking(opening.connection, opening.now):
        trip.add(statement)
    held = trip.add(credits.reserving(team=opening.team, credits=opening.most_credits, call_id=call.pk))
    if caller.most_credits is not None and caller.run_id:
        limit = {"team_id": call.team_id, "run_id": caller.run_id, "most_credits": caller.most_credits}
        trip.add(purse.checking(**limit, needed=opening.most_credits))
    if opening.spends and caller.stage_limit and caller.run_id:
        place = {"team_id": call.team_id, "run_id": caller.run_id}
        trip.add(purse.checking_stage(**place, limit=caller.stage_limit, needed=opening.most_usd))
    if opening.demands:
        dollars = {"usd": opening.most_usd, "expected_usd": expected_usd}
        place = {"team_id": call.team_id, "call_id": call.pk, "at": call.started_at}
        trip.add(caps.holding(demands=opening.demands, **dollars, **place))
    return held


def _consume(approval: tuple[UUID, str], call: Call) -> None:
    approval_id, sha256 = approval
    place = {"team_id": call.team_id, "call_id": call.pk, "call_started_at": call.started_at}
    consume(approval_id=approval_id, sha256=sha256, **place)


def _new(opening: Opening) -> Call:
    caller = opening.caller
    return Call(
        id=uuid7(),
        team_id=opening.team.pk,
        connection_id=opening.connection.pk,
        tool=opening.tool,
        actor_kind=caller.actor.kind,
        actor_id=caller.actor.id,
        actor_name=caller.actor.name,
        persona_id=caller.persona_id,
        persona_name=caller.persona_name,
        flow_id=caller.flow_id,
        run_id=caller.run_id,
        stage_id=caller.stage_id,
        attempt=caller.attempt,
        approval_id=opening.approval[0] if opening.approval else None,
        model=opening.model,
        request_sha256=hashlib.sha256(opening.request.body).hexdigest(),
        credits_reserved=opening.most_credits,
        most_usd=None if opening.most_usd is None else exact_usd(opening.most_usd),
        started_at=opening.now,
    )


def _subjects(opening: Opening) -> dict[str, str]:
    """Whose calls a minute this one counts for."""
    caller = opening.caller
    counted = {"team": "", "member": str(caller.user.pk), "tool": opening.tool}
    return counted | ({"persona": str(caller.persona_id)} if caller.persona_id else {})


def _expected_usd(opening: Opening) -> Decimal | None:
    if all(demand.mode != Cap.Mode.EXPECTED for demand in opening.demands):
        return None
    return caps.usual_usd(team_id=opening.team.pk, persona_id=opening.caller.persona_id, model=opening.model)


# A picture or document inside a request, in the fields that hold one and nowhere else: no text may pass for it.
# It is kept where it was given; the log names it by its hash.
CARRIED = re.compile(
    rb'("(?:url|file_data)":"data:[a-z]{1,20}/[a-z0-9.+-]{1,80};base64,'
    rb'|"media_type":"[a-z]{1,20}/[a-z0-9.+-]{1,80}","data":")([A-Za-z0-9+/]{1024,}={0,2})(?=")'
)


def _request_text(request: Request) -> bytes:
    """What was asked, as the log shows it: the body without files, or the address of a request without one."""
    if request.body:
        return CARRIED.sub(_named, request.body)
    return json.dumps({"method": request.method, "path": request.path, "query": list(request.query)}).encode()


def _named(carried: re.Match[bytes]) -> bytes:
    field, data = carried.groups()
    return b"%s[%d characters, SHA-256 %s]" % (field, len(data), hashlib.sha256(data).hexdigest().encode())


COLUMNS = [field.attname for field in Call._meta.concrete_fields]
VALUES = {name: f"%({name})s" for name in COLUMNS} | {"credit_account_id": credits.HOLDING_ACCOUNT}
INSERT = f"""
INSERT INTO {Call._meta.db_table} ({", ".join(VALUES)}) VALUES ({", ".join(VALUES.values())})
"""  # noqa: S608 - our own names


def _insert(call: Call) -> None:
    with database.cursor() as cursor:
        cursor.execute(INSERT, {name: getattr(call, name) for name in COLUMNS} | {"state": str(call.state)})


# --- on the way -------------------------------------------------------------------------


def note_generation(call: Call, generation_id: str) -> None:
    """Keep the provider's name for the answer as soon as it is known: with it a lost call can be settled."""
    call.generation_id = generation_id
    with database.cursor() as cursor:
        cursor.execute(
            "UPDATE integrations_call SET generation_id = %s WHERE id = %s AND started_at = %s",
            [generation_id, call.pk, call.started_at],
        )


# --- closing ----------------------------------------------------------------------------


def close_call(call: Call, ending: Ending) -> None:
    """
    Write the end of a call once, and settle or release what it held.

    What is learnt later settles a call that had become `unknown`; any other second ending
    changes nothing.
    """
    with transaction.atomic():
        said = ending.said if call.request_content_id else None  # of a call without it, nothing is kept
        content = None if said is None else _seal(call, "response", said)
        fields = {"state": str(ending.state), "outcome": ending.outcome, "credits": ending.credits}
        fields |= ending.facts or {}
        if content:
            fields["response_content_id"] = content.id
        ended = _end(call, fields)
        if ended is None:
            return
        before, at = ended
        for name, value in (fields | {"finished_at": at}).items():
            setattr(call, name, value)
        with one_round_trip() as trip:
            _pay(trip, call, at)
            _record(call, "call.finished" if before == Call.State.SENT else "call.settled", at=at, content=content)


SENDER_GONE = "The worker ended before the answer came. Whether it was billed is not known."


def close_in_doubt(*, call: Call, message: str = SENDER_GONE) -> None:
    """
    Close a call whose sender is gone, or wants no answer any more: nobody knows what was billed.

    It becomes `unknown` and its platform credits stay held until somebody knows.
    """
    close_call(call, Ending(Call.State.UNKNOWN, "unknown", None, facts={"message": message}))


# One conditional UPDATE decides which ending counts.
END = """
UPDATE integrations_call SET finished_at = app_now(), {fields}
 WHERE id = %(id)s AND started_at = %(started_at)s AND state = %(before)s
RETURNING finished_at
"""


def _end(call: Call, fields: Mapping[str, Any]) -> tuple[Call.State, datetime] | None:
    """Write how the call ended; return its state before and the time, or None when this comes too late."""
    statement = END.format(fields=", ".join(f"{name} = %({name})s" for name in fields))
    learnt = [Call.State.UNKNOWN] if fields["credits"] is not None else []
    with database.cursor() as cursor:
        for before in [Call.State.SENT, *learnt]:
            cursor.execute(statement, {**fields, "id": call.pk, "started_at": call.started_at, "before": str(before)})
            if row := cursor.fetchone():
                return before, row[0]
    return None


def _pay(trip: RoundTrip, call: Call, at: datetime) -> None:
    if call.credits is None:
        return
    held = {"team_id": call.team_id, "account_id": call.credit_account_id, "reserved": call.credits_reserved}
    if call.credits:
        trip.add(credits.settling(**held, spent=call.credits, call_id=call.pk, at=at))
    else:
        trip.add(credits.releasing(**held, call_id=call.pk, at=at))
    if call.most_usd is None or not call.may_hold_dollars:
        return  # no cap holds a call whose price nobody knows
    if call.credits or call.cost_usd or call.state == Call.State.DONE:
        trip.add(caps.settling(team_id=call.team_id, call_id=call.pk, usd=call.cost_usd, at=at))
    else:
        trip.add(caps.releasing(team_id=call.team_id, call_id=call.pk, at=at))


NOT_KEPT = "Not kept: the chat was temporary."


# --- the log ----------------------------------------------------------------------------


def as_details(why: Sequence[Step]) -> list[dict[str, Any]]:
    """A path of rules as events keep it."""
    return [{"rule": step.rule, "holds": step.holds, "words": step.words} for step in why]


def _record(call: Call, action: str, *, at: datetime, content: Sealed | None, why: list | None = None) -> None:
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
        details=_details(call) | ({"why": why} if why else {}),
    )


def _details(call: Call) -> dict[str, Any]:
    known = {"message": call.message, "attempt": call.attempt if call.attempt > 1 else None}
    known["content"] = NOT_KEPT if call.request_content_id is None else None
    return {"state": str(call.state)} | {name: value for name, value in known.items() if value}


def _seal(call: Call, kind: str, said: bytes) -> Sealed:
    # Both texts of a call lie under one month's key, however long the answer took.
    return seal_content(team_id=call.team_id, subject=_subject(call), kind=kind, data=said, at=call.started_at)


def _subject(call: Call) -> UUID:
    """What an erasure of this call's texts would name: its persona, its user, or the team it was made for."""
    if call.persona_id or call.actor_kind == "system":
        return call.persona_id or call.team_id
    return UUID(call.actor_id)


# --- the database -----------------------------------------------------------------------


def let_go_of_database() -> None:
    """Nobody holds a connection while waiting for a model."""
    if not database.in_atomic_block:
        database.close()
