"""Personas: the list, one, its editor and what it may use."""

from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from definable.fragments import render_fragment, wants_fragment
from integrations.registry import integrations as known_integrations
from personas import actions, day, queries
from personas.forms import PersonaForm
from personas.models import Persona


@require_GET
@team_view(Permission.PERSONA_VIEW)
def persona_list(request: HttpRequest) -> HttpResponse:
    search = request.GET.get("q", "")[:60].strip()
    page = queries.persona_page(team=request.team, search=search, after=request.GET.get("after", "")[:60])
    context = {
        "page": page,
        "search": search,
        "all_tools": sum(len(integration.tools) for integration in known_integrations()),
        "may_edit": request.membership.allows(Permission.PERSONA_EDIT),
    }
    if not wants_fragment(request):
        context["day"] = _day(request)
    return render_fragment(request, "personas/persona_list.html", "personas/_persona_table.html", context)


def _day(request: HttpRequest) -> day.Day | None:
    now = app_now()
    soon = queries.next_day(team=request.team, now=now)
    return day.lay_out(soon, now, ZoneInfo(request.user.zone)) if soon else None


@require_GET
@team_view(Permission.PERSONA_VIEW)
def persona_detail(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug)
    context = {
        "persona": persona,
        "connections": queries.granted_connections(team=request.team, persona=persona),
        "schedules": queries.schedules_by_persona(team=request.team).get(persona.pk, []),
        "runs": queries.run_page(team=request.team, persona=slug).rows[:10],
        "may_edit": request.membership.allows(Permission.PERSONA_EDIT),
        "may_run": request.membership.allows(Permission.TOOL_RUN),
    }
    return render(request, "personas/persona_detail.html", context)


@require_http_methods(["GET", "POST"])
@team_view(Permission.PERSONA_EDIT)
def persona_create(request: HttpRequest) -> HttpResponse:
    form = PersonaForm(request.POST or None)
    if form.is_valid():
        persona = actions.create_persona(team=request.team, by=request.user, **form.cleaned_data)
        messages.success(request, "Persona created")
        return redirect("persona_detail", request.team.slug, persona.slug)
    return _edit_page(request, form, None)


@require_http_methods(["GET", "POST"])
@team_view(Permission.PERSONA_EDIT)
def persona_edit(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug)
    form = PersonaForm(
        request.POST or None, initial=PersonaForm.initial_of(persona.name, persona.purpose, persona.version)
    )
    if form.is_valid():
        version = actions.save_persona(persona=persona, by=request.user, **form.cleaned_data)
        messages.success(request, f"Version {version.number} saved")
        return redirect("persona_detail", request.team.slug, persona.slug)
    return _edit_page(request, form, persona)


def _edit_page(request: HttpRequest, form: PersonaForm, persona: Persona | None) -> HttpResponse:
    status = 422 if form.errors else 200
    return render(request, "personas/persona_edit.html", {"form": form, "persona": persona}, status=status)


def persona_or_404(request: HttpRequest, slug: str) -> Persona:
    """Return one of the team's personas, or answer 404."""
    return get_object_or_404(request.team.personas.live().select_related("version", "team"), slug=slug)
