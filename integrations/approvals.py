"""
"Ask first": a call that a person must allow before it is made.

What the call would do is frozen, sealed and bound by a hash (`fingerprint`): who, which tool with
which arguments, through which connection, in which run and stage. An approval allows that one call,
costing no more than was shown, until it expires. It is used up in the transaction that opens the
call; a call that provably did nothing gives it back.

Who decides, and how a question ends without that, is in `deciding`.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db import connection as database

from audit.actions import Actor, record
from audit.canon import canon, exact_usd
from audit.clock import app_now
from audit.models import Content
from integrations.models import Approval
from vault.content import open_content, seal_content

OPEN = [Approval.State.WAITING, Approval.State.APPROVED]


@dataclass(frozen=True, slots=True)
class Question:
    """
    A call that must be asked about: everything it would do.

    `arguments` are the checked ones as plain JSON, before policies. `chain` names the models that
    may answer; empty, it is the one of the arguments. `most_usd` is None when no price is known.
    `approvers` are ids of users; empty, everybody with the right decides. `untrusted`: words of strangers
    had been read when it was asked for.
    """

    team_id: UUID
    connection_id: UUID
    tool: str
    chain: tuple[str, ...]
    user_id: UUID
    persona_id: UUID
    persona_name: str
    flow_id: UUID | None
    run_id: UUID | None
    stage_id: UUID | None
    unattended: bool
    arguments: dict[str, Any] = field(repr=False)
    most_credits: int
    most_usd: Decimal | None
    approvers: tuple[UUID | str, ...] = ()
    untrusted: bool = False

    @property
    def model(self) -> str:
        """The model that the arguments name, if any."""
        return str(self.arguments.get("model") or "")

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that may answer, in order."""
        return self.chain or ((self.model,) if self.model else ())


class NeedsApproval(Exception):
    """The grant says "ask first", and nobody allowed this call yet. `question` is what to ask."""

    def __init__(self, question: Question) -> None:
        self.question = question
        super().__init__(f"{question.persona_name or 'This call'} must ask before it uses {question.tool}.")


class Reason(StrEnum):
    """Why an approval does not cover a call."""

    MISSING = "missing"
    WAITING = "waiting"
    REFUSED = "refused"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    USED = "used"
    CHANGED = "changed"


class NotApproved(Exception):
    """The approval does not cover this call; `reason` tells programs why, the message tells people."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


# --- what is bound ----------------------------------------------------------------------


def fingerprint(question: Question) -> str:
    """
    Return the hash that binds an approval to a call: who asks for what, through what, from where.

    The `model` argument is left out: the chain names all models, so a fallback inside it is covered.
    """
    arguments = {name: value for name, value in question.arguments.items() if name != "model"}
    facts = {
        "team": question.team_id,
        "connection": question.connection_id,
        "tool": question.tool,
        "user": question.user_id,
        "persona": question.persona_id,
        "flow": question.flow_id,
        "run": question.run_id,
        "stage": question.stage_id,
        "unattended": question.unattended,
        "chain": question.models,
        # As text: the log's bytes know no floats, and a temperature is one.
        "arguments": json.dumps(arguments, sort_keys=True, separators=(",", ":"), allow_nan=False),
    }
    return sha256(canon(facts)).hexdigest()


def check(approval: Approval | UUID, question: Question, *, now: datetime | None = None) -> str:
    """
    Return the hash to use up, if this approval covers this call at this moment.

    Raises NotApproved. A used approval still covers the same call when the one that used it
    provably did nothing (`consume` decides which of two callers gets it); otherwise somebody must
    say whether to make the call again: NeedsApproval.
    """
    found = _row(approval, question.team_id)
    if found is None:
        raise NotApproved(Reason.MISSING, "There is no such approval.")
    if found.state == Approval.State.USED and not is_given_back(found):
        raise NeedsApproval(question)
    _check_state(found, now or app_now())
    _check_unchanged(found, question)
    return found.request_sha256


def _row(approval: Approval | UUID, team_id: UUID) -> Approval | None:
    if isinstance(approval, Approval):
        return approval if approval.team_id == team_id else None
    return Approval.objects.select_related("decided_by").filter(pk=approval, team_id=team_id).first()


def _check_state(approval: Approval, now: datetime) -> None:
    if approval.state == Approval.State.USED:
        if not is_given_back(approval):
            raise NotApproved(Reason.USED, USED)
    elif approval.state != Approval.State.APPROVED:
        raise NotApproved(Reason(approval.state), outcome_in_words(approval))
    if approval.expires_at <= now:
        raise NotApproved(Reason.EXPIRED, EXPIRED_UNUSED)


def _check_unchanged(approval: Approval, question: Question) -> None:
    beyond = [model for model in (question.model, *question.models) if model and model not in approval.chain]
    if beyond:
        raise _changed(f"{beyond[0]} was not among the models that were shown")
    if fingerprint(replace(question, chain=tuple(approval.chain))) != approval.request_sha256:
        raise _changed("who asks, the connection or the arguments are not what was shown")
    if not _covers(approval, question):
        raise _changed("it can cost more than was shown")


def _changed(what: str) -> NotApproved:
    return NotApproved(Reason.CHANGED, f"This is not the call that was allowed: {what}. Run it again to ask anew.")


def _covers(approval: Approval, question: Question) -> bool:
    """Whether the amounts that were shown bound those of a call. Unknown dollars bound nothing known."""
    if question.most_credits > approval.most_credits:
        return False
    if approval.most_usd is None:
        return True  # the approver was told that no bound is known
    return question.most_usd is not None and exact_usd(question.most_usd) <= approval.most_usd


# --- words ------------------------------------------------------------------------------

USED = "The approval was used by a call that may have been carried out. It serves one call only."
EXPIRED_UNUSED = "It was allowed, but the approval expired before the call was made. Run it again to ask anew."
EXPIRED = "Nobody decided before the approval expired. Run it again to ask anew."


def outcome_in_words(approval: Approval) -> str:
    """Say what became of an approval, and who decided."""
    who = approval.decided_by.email if approval.decided_by else ""
    match approval.state:
        case Approval.State.APPROVED:
            return f"{who} allowed this call{' and all like it from now on' if approval.always else ''}."
        case Approval.State.REFUSED:
            return f"{who} refused this call. Change it, or run it again to ask anew."
        case Approval.State.EXPIRED:
            return EXPIRED_UNUSED if who else EXPIRED
        case Approval.State.WITHDRAWN:
            return "The question was withdrawn: its run ended, or asked for something else."
        case Approval.State.USED:
            return f"{who} allowed this call, and it was made."
        case _:
            return "Nobody has decided yet."


# --- asking -----------------------------------------------------------------------------


def ask(question: Question, *, at: datetime, expires_at: datetime) -> Approval:
    """
    Put a call before the approvers, in the caller's transaction.

    Asking again for the same stage returns the open approval if it covers the call, and
    withdraws it otherwise. The caller holds the run, so nobody else asks for its stage.
    """
    digest = fingerprint(question)
    for open_one in _open_of_stage(question):
        if open_one.request_sha256 == digest and open_one.expires_at > at and _covers(open_one, question):
            return open_one
        late = open_one.expires_at <= at
        end(open_one, Approval.State.EXPIRED if late else Approval.State.WITHDRAWN, at, Actor.system("approvals"))
    return _ask(question, digest, at, expires_at)


def _open_of_stage(question: Question) -> Iterable[Approval]:
    if question.stage_id is None:
        return []
    open_ones = Approval.objects.filter(team_id=question.team_id, stage_id=question.stage_id, state__in=OPEN)
    return open_ones.select_for_update()


def _ask(question: Question, digest: str, at: datetime, expires_at: datetime) -> Approval:
    content = seal_content(
        team_id=question.team_id,
        subject=question.persona_id,
        kind="arguments",
        data=json.dumps(question.arguments, allow_nan=False).encode(),
        at=at,
    )
    approval = Approval.objects.create(
        team_id=question.team_id,
        connection_id=question.connection_id,
        tool=question.tool,
        chain=list(question.models),
        user_id=question.user_id,
        unattended=question.unattended,
        untrusted=question.untrusted,
        persona_id=question.persona_id,
        persona_name=question.persona_name,
        flow_id=question.flow_id,
        run_id=question.run_id,
        stage_id=question.stage_id,
        arguments_content_id=content.id,
        request_sha256=digest,
        most_credits=question.most_credits,
        most_usd=None if question.most_usd is None else exact_usd(question.most_usd),
        approvers=[str(user_id) for user_id in question.approvers],
        asked_at=at,
        expires_at=expires_at,
    )
    log_event("approval.asked", approval, Actor.system("approvals"), at, content=content)
    return approval


def frozen_arguments(approval: Approval) -> dict[str, Any]:
    """
    Return the arguments as they were asked.

    Raises vault.content's Unreadable when they were erased. The caller checks the permission.
    """
    content = Content.objects.get(pk=approval.arguments_content_id, team_id=approval.team_id)
    return json.loads(open_content(content=content))


# --- using it up ------------------------------------------------------------------------

DID_NOTHING = """
EXISTS (SELECT FROM integrations_call before
         WHERE before.id = approval.call_id AND before.started_at = approval.call_started_at
           AND before.state = 'failed' AND before.credits = 0 AND coalesce(before.cost_usd, 0) = 0)
"""

# One conditional UPDATE: of two workers that hold one approval, one makes the call.
CONSUME = f"""
UPDATE integrations_approval approval
   SET state = 'used', call_id = %(call)s, call_started_at = %(started)s
 WHERE id = %(id)s AND team_id = %(team)s AND request_sha256 = %(sha256)s AND expires_at > app_now()
   AND (state = 'approved' OR (state = 'used' AND {DID_NOTHING}))
"""  # noqa: S608 - constants only

GIVEN_BACK = f"SELECT {DID_NOTHING} FROM integrations_approval approval WHERE id = %s"  # noqa: S608 - constants only


def consume(*, approval_id: UUID, team_id: UUID, sha256: str, call_id: UUID, call_started_at: datetime) -> None:
    """
    Use an approval up for one call, inside the transaction that opens it.

    `sha256` is what `check` returned. Raises NotApproved; then that transaction must not commit.
    """
    facts = {"id": approval_id, "team": team_id, "sha256": sha256, "call": call_id, "started": call_started_at}
    with database.cursor() as cursor:
        cursor.execute(CONSUME, facts)
        if cursor.rowcount:
            return
    found = _row(approval_id, team_id)
    if found is None:
        raise NotApproved(Reason.MISSING, "There is no such approval.")
    _check_state(found, app_now())
    raise NotApproved(Reason.CHANGED, "The approval was given for another call.")


def is_given_back(approval: Approval) -> bool:
    """Whether the call that used an approval provably did nothing, so that it may serve another try."""
    with database.cursor() as cursor:
        cursor.execute(GIVEN_BACK, [approval.pk])
        row = cursor.fetchone()
    return bool(row and row[0])


# --- the log ----------------------------------------------------------------------------


def end(approval: Approval, state: Approval.State, at: datetime, actor: Actor) -> None:
    """Close an approval that the caller holds, without a decision."""
    Approval.objects.filter(pk=approval.pk).update(state=state)
    log_event(f"approval.{state}", approval, actor, at, outcome=approval.state)


def log_event(action: str, approval: Approval, actor: Actor, at: datetime, **more: Any) -> None:
    """Write down what happened to an approval, in the caller's transaction."""
    record(
        action,
        at=at,
        team_id=approval.team_id,
        actor=actor,
        target=f"approval:{approval.pk}",
        target_name=approval.persona_name,
        persona_id=approval.persona_id,
        persona_name=approval.persona_name,
        run_id=approval.run_id,
        tool=approval.tool,
        model=approval.chain[0] if approval.chain else "",
        request_sha256=approval.request_sha256,
        credits=approval.most_credits,
        **more,
    )
