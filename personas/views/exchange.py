"""A persona as a file: out of a team, and into one."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from definable.limits import takes_long_texts
from personas import drafting, exchange
from personas.forms import ImportForm
from personas.views.people import persona_or_404


@require_POST
@team_view(Permission.PERSONA_VIEW)
def persona_export(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug, archived=True)
    text = exchange.export_persona(team=request.team, persona=persona, by=request.user)
    response = HttpResponse(text, content_type="application/json; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{persona.slug}.persona.json"'
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
