"""Making a persona from a template, and lending a persona the tools it was made for."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.defaultfilters import pluralize
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from integrations.actions import ScopesChanged
from integrations.models import Connection
from integrations.scopes import BadScopes
from personas import actions, starters, wishes
from personas.forms import PersonaForm
from personas.models import Persona, PersonaVersion
from personas.starters import Starter
from personas.views.people import CONFLICT, persona_or_404


@require_GET
@team_view(Permission.PERSONA_EDIT)
def persona_new(request: HttpRequest) -> HttpResponse:
    return render(request, "personas/persona_new.html", {"starters": starters.STARTERS})


@require_http_methods(["GET", "POST"])
@team_view(Permission.PERSONA_EDIT)
def persona_start(request: HttpRequest, start: str) -> HttpResponse:
    starter = starters.find(start)
    if starter is None:
        raise Http404
    form = PersonaForm(request.POST or None, initial=_initial(starter))
    problem = ""
    if form.is_valid():
        try:
            persona = _start(request, starter, form)
            messages.success(request, "Persona created")
            return redirect("persona_detail", request.team.slug, persona.slug)
        except (BadScopes, ScopesChanged) as refusal:
            problem = f"Nothing was created. {refusal}"
    context = {"form": form, "starter": starter, "wishes": starter.wishes, "problem": problem}
    context["offers"] = wishes.offers(team=request.team, wishes=starter.wishes, name=starter.name)
    context["chosen"] = request.POST.get("connection", "")
    status = 422 if form.errors or problem else 200
    return render(request, "personas/persona_start.html", context, status=status)


def _initial(starter: Starter) -> dict[str, Any]:
    persona = Persona(name=starter.name, purpose=starter.purpose)
    return PersonaForm.initial_of(persona, PersonaVersion(**starter.says))


@transaction.atomic
def _start(request: HttpRequest, starter: Starter, form: PersonaForm) -> Persona:
    """Make the persona and lend it what it was made for: both or neither."""
    persona = actions.create_persona(
        team=request.team, by=request.user, wants=wishes.written(starter.wishes), **form.said
    )
    if connection := _chosen(request):
        wishes.lend(persona=persona, connection=connection, by=request.user)
    return persona


def _chosen(request: HttpRequest) -> Connection | None:
    """The connection that was chosen. None of the team's: not found. No choice: None."""
    text = request.POST.get("connection", "")
    if not text:
        return None
    try:
        return get_object_or_404(request.team.connections.live(), pk=UUID(text))
    except ValueError:
        raise Http404 from None


# --- the tools that a persona was made for ------------------------------------------------


@require_http_methods(["GET", "POST"])
@team_view(Permission.PERSONA_EDIT)
def persona_wishes(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug)
    if request.method == "GET":
        return _wishes_page(request, persona)
    connection = _chosen(request)
    if connection is None:
        return _wishes_page(request, persona, problem="Choose a connection first.", status=422)
    try:
        met = wishes.lend(persona=persona, connection=connection, by=request.user)
    except (ScopesChanged, BadScopes) as refusal:
        return _wishes_page(request, persona, problem=f"Nothing was lent. {refusal}", status=CONFLICT)
    messages.success(request, f"{len(met)} tool{pluralize(len(met))} allowed")
    return redirect("persona_detail", request.team.slug, slug)


def _wishes_page(request: HttpRequest, persona: Persona, *, problem: str = "", status: int = 200) -> HttpResponse:
    wanted = wishes.read(persona.wants)
    offers = wishes.offers(team=request.team, wishes=wanted, name=persona.name, persona=persona)
    context = {"persona": persona, "wishes": wanted, "offers": offers, "problem": problem}
    return render(request, "personas/persona_wishes.html", context, status=status)


@require_POST
@team_view(Permission.PERSONA_EDIT)
def persona_wishes_drop(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug)
    wishes.forget(persona=persona, by=request.user)
    messages.success(request, "It does without them")
    return redirect("persona_detail", request.team.slug, slug)
