"""
Deciding what is asked, and the ends of a question without a decision.

Only a person decides: `decide` takes a User, and no tool reaches it.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal
from uuid import UUID

from django.db import transaction

from accounts.models import Membership, User
from accounts.permissions import Permission, Role, allows
from audit.actions import Actor
from audit.clock import AppNow, app_now
from integrations.actions import set_scopes
from integrations.approvals import EXPIRED, OPEN, end, log_event, outcome_in_words
from integrations.models import Approval, Connection
from integrations.scopes import BadScopes, Rule, Scopes, read_scopes
from vault.models import Grant

Verdict = Literal["once", "always", "refused"]

BATCH = 100


class AlreadyDecided(Exception):
    """Somebody else was first, or it is too late. The message says who, or what became of it."""


class NotYours(Exception):
    """This member may not decide this approval; the message says who may."""


class CannotWiden(Exception):
    """The grant that asked has ended, or cannot be changed as it stands; the message says which."""


# --- deciding ---------------------------------------------------------------------------


@transaction.atomic
def decide(*, approval: Approval, verdict: Verdict, by: User, at: datetime) -> None:
    """
    Allow a waiting call once, allow it and all like it from now on, or refuse it.

    "always" also sets the tool to "allowed" in the grant that asked, or lifts what made an allowed tool
    ask, and needs the right to edit personas. Raises NotYours, AlreadyDecided when it no longer waits, and CannotWiden.
    """
    role = Membership.objects.filter(team_id=approval.team_id, user=by, user__is_active=True)
    why_not = why_not_yours(approval, user_id=by.pk, role=role.values_list("role", flat=True).first(), verdict=verdict)
    if why_not:
        raise NotYours(why_not)
    state = Approval.State.REFUSED if verdict == "refused" else Approval.State.APPROVED
    waiting = Approval.objects.waiting().filter(pk=approval.pk, team_id=approval.team_id, expires_at__gt=AppNow())
    if not waiting.update(state=state, decided_at=at, decided_by=by, always=verdict == "always"):
        raise AlreadyDecided(_what_became_of(approval))
    if verdict == "always":
        _allow_from_now_on(approval, by)
    deed = "refused" if verdict == "refused" else "allowed"
    log_event(f"approval.{deed}", approval, Actor.user(by), at, outcome=verdict)


def why_not_yours(approval: Approval, *, user_id: UUID, role: str | None, verdict: Verdict = "once") -> str:
    """
    Say why a member with this role may not decide; empty when they may.

    Where the grant names approvers, only they and owners decide; a named member needs no further
    right, but a role that may act at all.
    """
    if role is None:
        return "Only members of the team decide."
    if verdict == "always" and not allows(role, Permission.PERSONA_EDIT):
        return f"The role {role} may not change what a persona is allowed. Allow it once, or ask an owner or admin."
    if approval.approvers and role != Role.OWNER:
        if str(user_id) not in approval.approvers:
            return "The grant names who decides, and you are not among them."
        return "" if allows(role, Permission.TOOL_RUN) else f"The role {role} changes nothing."
    if not allows(role, Permission.APPROVAL_DECIDE):
        return f"The role {role} may not decide approvals. Owners, admins and builders can."
    return ""


def _what_became_of(approval: Approval) -> str:
    found = Approval.objects.select_related("decided_by").get(pk=approval.pk)
    return EXPIRED if found.state == Approval.State.WAITING else outcome_in_words(found)


def _allow_from_now_on(approval: Approval, by: User) -> None:
    """Set the tool to "allowed" in the grant that asked: the persona's own, or else that of its flow."""
    # The connection is locked before its grants, as wherever scopes are set.
    rows = Connection.objects.select_for_update(of=("self",)).select_related("team")
    connection = rows.get(pk=approval.connection_id, team_id=approval.team_id)
    grant = _grant_of(approval)
    if grant is None:
        raise CannotWiden("The grant that asked has ended, so there is nothing to allow from now on.")
    own = grant.holder == approval.persona_id
    name = approval.persona_name if own else f"The flow of {approval.persona_name}"
    try:
        scopes = read_scopes(grant.scopes)
        if scopes.rule_of(approval.tool) is Rule.OFF:
            raise CannotWiden("The tool was switched off meanwhile. Switch it on under Scopes.")
        wider = _widened(scopes, approval.tool)
        set_scopes(connection=connection, holder=grant.holder, name=name, scopes=wider, by=by)
    except BadScopes as error:
        raise CannotWiden(f"The grant cannot be changed: {error} Allow this call once.") from error


def _grant_of(approval: Approval) -> Grant | None:
    live = Grant.objects.live().filter(team_id=approval.team_id, connection=approval.connection_id)
    for holder in (approval.persona_id, approval.flow_id):
        if found := live.filter(holder=holder).select_for_update().first():
            return found
    return None


def _widened(scopes: Scopes, tool: str) -> Scopes:
    """
    Return the scopes with what made this tool ask taken away, everything else as it was.

    An allowed tool asked since text of strangers was in the conversation. Whoever allows a tool that always
    asked has said nothing about such text yet.
    """
    was_allowed = scopes.rule_of(tool) is Rule.ALLOWED
    said = scopes.tools[tool].model_copy(update={"after_untrusted": True} if was_allowed else {"rule": Rule.ALLOWED})
    return scopes.model_copy(update={"tools": scopes.tools | {tool: said}})


# --- endings without a decision ---------------------------------------------------------


@transaction.atomic
def expire_due(*, approval_id: UUID | None = None) -> int:
    """End approvals whose time is over, waiting or not used: all of them, or this one. Returns how many."""
    due = Approval.objects.filter(state__in=OPEN, expires_at__lte=AppNow())
    if approval_id:
        due = due.filter(pk=approval_id).select_for_update()
    else:
        due = due.select_for_update(skip_locked=True).order_by("expires_at")[:BATCH]
    return _end_all(due, Approval.State.EXPIRED, app_now(), Actor.system("sweeper"))


@transaction.atomic
def withdraw(*, run_id: UUID, at: datetime, actor: Actor) -> int:
    """Take back what an ended run still asks, or was allowed and did not use. Returns how many."""
    open_ones = Approval.objects.filter(run_id=run_id, state__in=OPEN).select_for_update()
    return _end_all(open_ones, Approval.State.WITHDRAWN, at, actor)


def _end_all(locked: Iterable[Approval], state: Approval.State, at: datetime, actor: Actor) -> int:
    found = list(locked)
    for approval in found:
        end(approval, state, at, actor)
    return len(found)
