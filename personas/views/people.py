"""Personas: the list, one, its editor and what it may use."""

from typing import Any
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
from personas import actions, day, drafting, queries
from personas.forms import PersonaForm
from personas.models import Persona, PersonaVersion

CONFLICT = 409
MOST_MODEL = 200  # characters of a model's id


@require_GET
@team_view(Permission.PERSONA_VIEW)
def persona_list(request: HttpRequest) -> HttpResponse:
    search = request.GET.get("q", "")[:60].strip()
    archived = request.GET.get("show") == "archived"
    page = queries.persona_page(
        team=request.team, search=search, after=request.GET.get("after", "")[:60], archived=archived
    )
    context = {
        "page": page,
        "archived": archived,
        "search": search,
        "all_tools": sum(len(integration.tools) for integration in known_integrations()),
        "may_edit": request.membership.allows(Permission.PERSONA_EDIT),
    }
    if not wants_fragment(request) and not archived:
        context["day"] = _day(request)
    return render_fragment(request, "personas/persona_list.html", "personas/_persona_table.html", context)


def _day(request: HttpRequest) -> day.Day | None:
    now = app_now()
    soon = queries.next_day(team=request.team, now=now)
    return day.lay_out(soon, now, ZoneInfo(request.user.zone)) if soon else None


@require_GET
@team_view(Permission.PERSONA_VIEW)
def persona_detail(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug, archived=True)
    may_edit = request.membership.allows(Permission.PERSONA_EDIT) and not persona.archived_at
    context = {
        "persona": persona,
        "told": persona.version or persona.draft,
        "connections": queries.granted_connections(team=request.team, persona=persona),
        "schedules": queries.schedules_by_persona(team=request.team).get(persona.pk, []),
        "runs": queries.run_page(team=request.team, persona=slug).rows[:10],
        "may_edit": may_edit,
        "may_bring_back": request.membership.allows(Permission.PERSONA_EDIT) and persona.archived_at,
        "may_run": request.membership.allows(Permission.TOOL_RUN) and not persona.archived_at,
        "may_chat": request.membership.allows(Permission.CHAT_USE) and _answers(persona),
    }
    return render(request, "personas/persona_detail.html", context)


@require_http_methods(["GET", "POST"])
@team_view(Permission.PERSONA_EDIT)
def persona_create(request: HttpRequest) -> HttpResponse:
    form = PersonaForm(request.POST or None, initial={"model": request.GET.get("model", "")[:MOST_MODEL]})
    if form.is_valid():
        persona = actions.create_persona(team=request.team, by=request.user, **form.said)
        messages.success(request, "Persona created")
        return redirect("persona_detail", request.team.slug, persona.slug)
    return render(request, "personas/persona_create.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@team_view(Permission.PERSONA_EDIT)
def persona_edit(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug)
    newest = drafting.newest(persona)
    initial = PersonaForm.initial_of(persona, persona.draft or persona.version) | {"seen": newest.number}
    if fallback := request.GET.get("fallback", "")[:MOST_MODEL]:
        initial |= with_fallback(initial, fallback)
    form = PersonaForm(request.POST or None, initial=initial)
    if not form.is_valid():
        return _edit_page(request, persona, form, newest, status=422 if form.errors else 200)
    try:
        version = _save(request, persona, form)
    except drafting.Outdated as conflict:
        seen = form.cleaned_data["seen"]
        return _edit_page(request, persona, form.seeing(conflict.newest), conflict.newest, seen=seen, status=CONFLICT)
    return redirect("persona_version", request.team.slug, slug, version.number)


def with_fallback(initial: dict[str, Any], model: str) -> dict[str, str]:
    """Return what the form's fields of models hold with one more, after those that are there."""
    for name in ("model", "fallback_model"):
        if not initial[name]:
            return {name: model}
    return {"more_models": "\n".join(filter(None, (initial["more_models"], model)))}


def _save(request: HttpRequest, persona: Persona, form: PersonaForm) -> PersonaVersion:
    publishing = request.POST.get("do") == "publish"
    save = drafting.save_and_publish if publishing else drafting.save_draft
    version = save(of=persona, by=request.user, seen=form.cleaned_data["seen"], **form.said)
    said = f"Version {version.number} published" if publishing else f"Draft saved as version {version.number}"
    messages.success(request, said)
    return version


def _answers(persona: Persona) -> bool:
    return bool(not persona.archived_at and persona.version and persona.version.has_models)


def _edit_page(
    request: HttpRequest, persona: Persona, form: PersonaForm, newest: PersonaVersion, *, status: int, **more: Any
) -> HttpResponse:
    context = {"form": form, "persona": persona, "newest": newest, "next": newest.number + 1} | more
    return render(request, "personas/persona_edit.html", context, status=status)


def persona_or_404(request: HttpRequest, slug: str, *, archived: bool = False) -> Persona:
    """Return one of the team's personas, or answer 404. Archived ones are found only where they are asked for."""
    found = request.team.personas if archived else request.team.personas.live()
    return get_object_or_404(found.select_related("version", "draft", "team"), slug=slug)
