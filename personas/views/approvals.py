"""The inbox of calls that somebody must allow first, and one of them to decide."""

import json
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from audit import display
from audit.clock import app_now
from integrations import approvals, deciding
from integrations.models import Approval
from personas import actions, queries
from vault.box import Unreadable

VERDICTS = {"once": "Call allowed once", "always": "Allowed from now on", "refused": "Call refused"}


@require_GET
@team_view(Permission.APPROVAL_VIEW)
def approval_list(request: HttpRequest) -> HttpResponse:
    only, after = request.GET.get("only", ""), request.GET.get("after", "")
    context = {
        "waiting": None if only == "decided" else _page(request, waiting=True, after=after if only else ""),
        "decided": None if only == "waiting" else _page(request, waiting=False, after=after if only else ""),
    }
    return render(request, "personas/approval_list.html", context)


@require_GET
@team_view(Permission.APPROVAL_VIEW)
def approval_detail(request: HttpRequest, approval_id: UUID) -> HttpResponse:
    approval = _approval_or_404(request, approval_id)
    run = request.team.runs.select_related("flow", "chat").filter(pk=approval.run_id).first()
    rights = _rights(request, approval)
    hidden = bool(run and run.chat and rights["not_yours"] and not run.chat.is_read_by(request.user))
    run = None if run and run.is_turn else run
    context = {
        "approval": approval,
        "tool": approval.connection.provider.tool(approval.tool),
        "run": run,
        "stage": run and run.stages.filter(pk=approval.stage_id).first(),
        "persona": request.team.personas.filter(pk=approval.persona_id).first(),
        "earlier": queries.other_approvals(approval=approval),
        "deciders": queries.deciders(approval=approval),
        "hidden": hidden,
    }
    asked = {} if hidden else _asked(approval)
    return render(request, "personas/approval_detail.html", context | asked | rights)


@require_POST
@team_view(Permission.TOOL_RUN)  # a member may be named in the grant; the action asks for the right to decide
def approval_decide(request: HttpRequest, approval_id: UUID) -> HttpResponse:
    approval = _approval_or_404(request, approval_id)
    verdict = request.POST.get("verdict", "")
    if verdict not in VERDICTS:
        messages.error(request, "Choose what to do with this call")
        return redirect("approval_detail", request.team.slug, approval.pk)
    try:
        actions.decide_approval(approval=approval, verdict=verdict, by=request.user)
        messages.success(request, VERDICTS[verdict])
    except (deciding.NotYours, deciding.CannotWiden) as error:
        messages.error(request, str(error))
    except deciding.AlreadyDecided as error:
        messages.info(request, f"Already decided: {error}")
    return _back(request, approval)


def _back(request: HttpRequest, approval: Approval) -> HttpResponse:
    """To the chat where it was decided, or to its own page."""
    run = request.team.runs.filter(pk=approval.run_id).first() if request.POST.get("back") == "chat" else None
    if run and run.is_turn:
        return redirect(reverse("chat_room", args=[request.team.slug, run.chat_id]) + "#newest")
    return redirect("approval_detail", request.team.slug, approval.pk)


def _page(request: HttpRequest, *, waiting: bool, after: str) -> queries.Page:
    return queries.approval_page(team=request.team, waiting=waiting, after=_uuid(after))


def _asked(approval: Approval) -> dict[str, Any]:
    """What the call would do, laid out for reading. It may come from a model: it stays text."""
    try:
        arguments = approvals.frozen_arguments(approval)
    except Unreadable:
        return {"reading": None}
    plain = {name: value for name, value in arguments.items() if name != "model" and not isinstance(value, list | dict)}
    reading = display.read("arguments", approval.request_sha256, json.dumps(arguments).encode())
    return {"reading": reading, "settings": display.facts_of(plain)}


def _rights(request: HttpRequest, approval: Approval) -> dict[str, Any]:
    """Whether this member may decide, and if not, why not."""
    who = {"user_id": request.user.pk, "role": request.membership.role}
    waits = approval.state == Approval.State.WAITING
    is_open = waits and approval.expires_at > app_now()
    return {
        "is_open": is_open,
        "outcome": approvals.EXPIRED if waits and not is_open else approvals.outcome_in_words(approval),
        "not_yours": deciding.why_not_yours(approval, **who),
        "not_always": deciding.why_not_yours(approval, **who, verdict="always"),
    }


def _approval_or_404(request: HttpRequest, approval_id: UUID) -> Approval:
    return get_object_or_404(request.team.approvals.select_related("connection", "user", "decided_by"), pk=approval_id)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
