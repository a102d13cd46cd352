"""The tool console: one tool, run by hand as a persona, in a worker."""

from uuid import uuid4

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from accounts.permissions import Permission
from accounts.teams import team_view
from definable.fragments import wants_fragment
from definable.limits import takes_long_texts
from integrations.forms_spec import form_fields, parse_form
from integrations.queries import reach_of
from integrations.registry import InvalidArguments, Tool, UnknownTool, get_tool, parse_arguments
from personas import actions, estimates, queries
from personas.chains import named
from personas.forms import ToolForm
from personas.models import Persona, Run
from personas.views.once import sending_key, wants_rehearsal
from personas.views.people import persona_or_404

NOT_ARGUMENTS = {"csrfmiddlewaretoken", "once", "rehearse", "estimate"}


@require_GET
@team_view(Permission.TOOL_RUN)
def console(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug)
    connections = queries.granted_connections(team=request.team, persona=persona)
    granted = [(row, [each for each in reach_of(row) if each.tool.name in allowed]) for row, allowed in connections]
    context = {"persona": persona, "connections": [(row, tools) for row, tools in granted if tools]}
    return render(request, "personas/console.html", context)


@takes_long_texts
@require_http_methods(["GET", "POST"])
@team_view(Permission.TOOL_RUN)
def console_tool(request: HttpRequest, slug: str, integration: str, tool: str) -> HttpResponse:
    persona = persona_or_404(request, slug)
    found = _tool_or_404(integration, tool)
    told = persona.version or persona.draft
    initial = {"model": next(iter(named(told.chain)), ""), "system": told.instructions}
    estimating = "estimate" in request.POST
    form = ToolForm(request.POST or None, spec=form_fields(found), initial=initial)
    if request.method == "POST" and not estimating and (run := _run(request, persona, found, form)):
        return redirect("run_detail", request.team.slug, run.pk)
    context = {"persona": persona, "tool": found, "form": form, "once": sending_key(request) or uuid4().hex}
    context["estimate"] = _estimate(request, persona, found)
    if estimating and wants_fragment(request):
        return render(request, "personas/_estimate.html", context)
    context["may_rehearse"] = "model" in found.arguments.model_fields and found.tokens is not None
    wrong = form.errors and not estimating
    return render(request, "personas/console_tool.html", context, status=422 if wrong else 200)


def _estimate(request: HttpRequest, persona: Persona, tool: Tool) -> estimates.Estimate | None:
    """What the arguments as they stand would take, or None while they are not complete."""
    try:
        arguments = parse_form(tool, _posted(request))
        return estimates.of_tool(team=request.team, persona_id=persona.pk, tool=tool, arguments=arguments)
    except InvalidArguments:
        return None


def _posted(request: HttpRequest) -> dict[str, list[str]]:
    return {name: request.POST.getlist(name) for name in request.POST if name not in NOT_ARGUMENTS}


def _run(request: HttpRequest, persona: Persona, tool: Tool, form: ToolForm) -> Run | None:
    """Start the run, or put what is wrong with the arguments on the form."""
    try:
        arguments = parse_form(tool, _posted(request))
        parse_arguments(tool, arguments)
    except InvalidArguments as error:
        form.full_clean()
        for problem in error.problems:
            form.add_error(problem.path if problem.path in form.fields else None, str(problem))
        return None
    return actions.run_tool(
        persona=persona,
        tool=tool,
        arguments=arguments,
        by=request.user,
        idempotency_key=sending_key(request),
        rehearsal=wants_rehearsal(request),
    )


def _tool_or_404(integration: str, name: str) -> Tool:
    try:
        return get_tool(integration, name)
    except UnknownTool:
        raise Http404 from None
