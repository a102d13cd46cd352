"""Would this call be allowed, and why? Decided as a real call is, without making one."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.actions import Actor
from audit.ids import uuid7
from integrations.bookkeeping import Caller
from integrations.explaining import Explanation, explain
from personas import chains
from personas.matrix import Holder
from personas.models import Persona
from personas.scope_forms import TryForm
from personas.views.people import persona_or_404

MOST_LISTED = 100


@require_GET
@team_view(Permission.PERSONA_VIEW)
def persona_scopes_try(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug)
    connections = list(request.team.connections.live().order_by("created_at")[:MOST_LISTED])
    flows = request.team.flows.filter(archived_at=None).order_by("slug")[:MOST_LISTED]
    asked = request.GET if "tool" in request.GET else None
    form = TryForm(asked, team=request.team, connections=connections, flows=flows, initial=_usual(request, persona))
    context: dict[str, Any] = {"holder": Holder.of(persona), "form": form, "connections": connections}
    if not form.is_valid():
        return render(request, "personas/scopes_try.html", context, status=422 if form.errors else 200)
    return render(request, "personas/scopes_try.html", context | {"explanation": _explain(request, persona, form)})


def _usual(request: HttpRequest, persona: Persona) -> dict[str, Any]:
    models = chains.named((persona.version or persona.draft).chain)
    return {"member": request.user.email, "model": next(iter(models), ""), "tool": "create_chat_completion"}


def _explain(request: HttpRequest, persona: Persona, form: TryForm) -> Explanation:
    said = form.cleaned_data
    flow = said["flow"]
    caller = Caller(
        user=said["member"],
        actor=Actor.user(said["member"]),
        persona_id=persona.pk,
        persona_name=persona.name,
        flow_id=flow.pk if flow else None,
        run_id=uuid7(),  # a run that there is not yet
        unattended=said["how"] == "schedule",
    )
    return explain(
        team=request.team,
        connection=said["connection"],
        tool=said["tool"],
        caller=caller,
        model=said["model"],
        at=said["at"],
    )
