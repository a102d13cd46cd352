"""Where a persona is used, a copy of it, and archiving it."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from integrations.policy_actions import PolicyLoosens
from integrations.scopes import BadScopes
from personas import retiring, timing
from personas.forms import DuplicateForm
from personas.models import Persona, Schedule
from personas.uses import uses_of
from personas.views.people import CONFLICT, persona_or_404

NEXT = 3  # firings shown of each schedule


@require_GET
@team_view(Permission.PERSONA_VIEW)
def persona_uses(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug, archived=True)
    return render(request, "personas/persona_uses.html", _uses(request, persona) | {"persona": persona})


@require_http_methods(["GET", "POST"])
@team_view(Permission.PERSONA_EDIT)
def persona_duplicate(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug)
    form = DuplicateForm(request.POST or None, initial={"name": f"{persona.name[:52]} (copy)"})
    if form.is_valid():
        try:
            copy = retiring.duplicate_persona(persona=persona, by=request.user, **form.cleaned_data)
        except (PolicyLoosens, BadScopes) as refusal:
            form.add_error(None, f"Nothing was copied. {refusal}")
        else:
            messages.success(request, "Persona duplicated")
            return redirect("persona_detail", request.team.slug, copy.slug)
    context = _uses(request, persona) | {"persona": persona, "form": form}
    return render(request, "personas/persona_duplicate.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@team_view(Permission.PERSONA_EDIT)
def persona_archive(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug)
    if request.method == "GET":
        return _archive_page(request, persona)
    pause = "pause" in request.POST and request.membership.allows(Permission.FLOW_EDIT)
    try:
        retiring.archive_persona(persona=persona, by=request.user, pause=pause, seen=_seen(request))
    except retiring.UsesChanged:
        return _archive_page(request, persona, status=CONFLICT, changed=True)
    messages.success(request, "Persona archived")
    return redirect("persona_detail", request.team.slug, slug)


def _archive_page(request: HttpRequest, persona: Persona, *, status: int = 200, changed: bool = False) -> HttpResponse:
    context = _uses(request, persona) | {"persona": persona, "changed": changed}
    return render(request, "personas/persona_archive.html", context, status=status)


@require_POST
@team_view(Permission.PERSONA_EDIT)
def persona_bring_back(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug, archived=True)
    retiring.bring_back(persona=persona, by=request.user)
    messages.success(request, "Persona brought back")
    return redirect("persona_detail", request.team.slug, slug)


def _uses(request: HttpRequest, persona: Persona) -> dict[str, object]:
    found = uses_of(team=request.team, persona=persona)
    return {"uses": found, "firings": [(schedule, _next(schedule)) for schedule in found.schedules]}


def _next(schedule: Schedule) -> list:
    """When a schedule fires next; nothing while it is paused, or when its rule ends."""
    if schedule.paused_at:
        return []
    try:
        return schedule.rule.next_few(app_now(), NEXT)
    except timing.BadRule:
        return []


def _seen(request: HttpRequest) -> set[UUID]:
    return {found for text in request.POST.getlist("seen") if (found := _uuid(text))}


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
