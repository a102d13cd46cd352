"""Personas and flows as files: out of a team, and into one."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from definable.limits import takes_long_texts
from personas import drafting, exchange, flow_exchange
from personas.forms import FlowImportForm, ImportForm
from personas.views.flows import flow_or_404
from personas.views.people import persona_or_404


@require_POST
@team_view(Permission.PERSONA_VIEW)
def persona_export(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug, archived=True)
    text = exchange.export_persona(team=request.team, persona=persona, by=request.user)
    return _file(text, f"{persona.slug}.persona.json", "application/json")


def _file(text: str, name: str, kind: str) -> HttpResponse:
    response = HttpResponse(text, content_type=f"{kind}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    return response


@takes_long_texts
@require_http_methods(["GET", "POST"])
@team_view(Permission.PERSONA_EDIT)
def persona_import(request: HttpRequest) -> HttpResponse:
    form = ImportForm(request.POST or None)
    found = _import(request, form) if form.is_valid() else None
    if found is None:
        return render(request, "personas/persona_import.html", {"form": form}, status=422 if form.errors else 200)
    if found.draft is None:
        messages.info(request, "Already here: the file holds nothing new")
        return redirect("persona_detail", request.team.slug, found.persona.slug)
    messages.success(request, f"Imported as draft {found.draft.number}")
    return redirect("persona_version", request.team.slug, found.persona.slug, found.draft.number)


def _import(request: HttpRequest, form: ImportForm) -> exchange.Imported | None:
    """Take the file in, or put on the form what is wrong with it."""
    try:
        return exchange.import_persona(team=request.team, text=form.cleaned_data["text"], by=request.user)
    except exchange.NotAPersona as refusal:
        form.add_error("text", str(refusal))
    except drafting.IsArchived as archived:
        form.add_error("text", f"{archived} came from this file and is archived. Bring it back first.")
    return None


# --- flows ------------------------------------------------------------------------------


@require_POST
@team_view(Permission.FLOW_VIEW)
def flow_export(request: HttpRequest, slug: str) -> HttpResponse:
    flow = flow_or_404(request, slug)
    return _file(flow_exchange.export_flow(flow=flow, by=request.user), f"{flow.slug}.flow.yaml", "application/yaml")


@takes_long_texts
@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def flow_import(request: HttpRequest) -> HttpResponse:
    form = FlowImportForm(request.POST or None)
    found = _import_flow(request, form) if form.is_valid() else None
    if found is None:
        return render(request, "personas/flow_import.html", {"form": form}, status=422 if form.errors else 200)
    if found.draft is None:
        messages.info(request, "Already here: the file holds nothing new")
        return redirect("flow_detail", request.team.slug, found.flow.slug)
    messages.success(request, f"Imported as draft {found.draft.number}")
    if found.unknown:
        messages.error(request, f"Choose a persona of this team for: {', '.join(dict.fromkeys(found.unknown))}.")
    return redirect("flow_version", request.team.slug, found.flow.slug, found.draft.number)


def _import_flow(request: HttpRequest, form: FlowImportForm) -> flow_exchange.Imported | None:
    """Take the file in, or put on the form what is wrong with it."""
    try:
        return flow_exchange.import_flow(team=request.team, text=form.cleaned_data["text"], by=request.user)
    except flow_exchange.NotAFlow as refusal:
        form.add_error("text", str(refusal))
    except drafting.IsArchived as archived:
        form.add_error("text", f"{archived} came from this file and is archived. Bring it back first.")
    return None
