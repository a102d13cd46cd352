"""Flows: the list, one, the builder, and running it now."""

from typing import Any
from uuid import uuid4

from django.contrib import messages
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from definable.limits import takes_long_texts
from integrations.registry import integrations
from personas import actions, estimates, queries, timing
from personas.chains import with_chain
from personas.flow_forms import Builder, FlowForm, changed, inputs_as_text, posted_stages
from personas.models import Flow, Schedule
from personas.stage_forms import KINDS
from personas.stages import BadInput, BadStage, work_of
from personas.views.once import sending_key, wants_rehearsal

INPUT = "input-"  # before the name of an input, in a form


@require_GET
@team_view(Permission.FLOW_VIEW)
def flow_list(request: HttpRequest) -> HttpResponse:
    page = queries.flow_page(team=request.team, after=request.GET.get("after", "")[:60])
    context = {"page": page, "may_edit": request.membership.allows(Permission.FLOW_EDIT)}
    return render(request, "personas/flow_list.html", context)


@require_GET
@team_view(Permission.FLOW_VIEW)
def flow_detail(request: HttpRequest, slug: str) -> HttpResponse:
    flow = _flow_or_404(request, slug)
    context = {
        "flow": flow,
        "stages": [_as_shown(stage) for stage in flow.version.stages],
        "has_prompts": any(work_of(stage).get("kind") == "prompt" for stage in flow.version.stages),
        "estimate": estimates.of_flow(team=request.team, version=flow.version),
        "schedules": _standing(flow),
        "rules": getattr(request.team, "flow_rules", None),
        "personas": _persona_names(request, flow),
        "runs": queries.run_page(team=request.team, flow=slug).rows[:10],
        "may_edit": request.membership.allows(Permission.FLOW_EDIT),
        "may_run": request.membership.allows(Permission.RUN_START),
        "once": uuid4().hex,
    }
    return render(request, "personas/flow_detail.html", context)


@takes_long_texts
@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def flow_create(request: HttpRequest) -> HttpResponse:
    return _builder_page(request, None, [{"kind": "prompt", "name": "draft"}])


@takes_long_texts
@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def flow_edit(request: HttpRequest, slug: str) -> HttpResponse:
    flow = _flow_or_404(request, slug)
    return _builder_page(request, flow, flow.version.stages)


@takes_long_texts
@require_POST
@team_view(Permission.RUN_START)
def flow_run(request: HttpRequest, slug: str) -> HttpResponse:
    flow = _flow_or_404(request, slug)
    try:
        run = actions.run_flow(
            flow=flow,
            by=request.user,
            idempotency_key=sending_key(request),
            rehearsal=wants_rehearsal(request),
            inputs=_given(request),
        )
    except (actions.NotRunnable, BadInput) as error:
        messages.error(request, str(error))
        return redirect("flow_detail", request.team.slug, flow.slug)
    return redirect("run_detail", request.team.slug, run.pk)


def _given(request: HttpRequest) -> dict[str, str]:
    """The inputs that were written; what was left empty is as the flow says."""
    given = {name.removeprefix(INPUT): text for name, text in request.POST.items() if name.startswith(INPUT)}
    return {name: text for name, text in given.items() if text.strip()}


# --- builder ----------------------------------------------------------------------------


def _builder_page(request: HttpRequest, flow: Flow | None, stages: list[dict]) -> HttpResponse:
    """Show the builder, move its stages about, or save them; nothing is lost on the way."""
    posted = request.method == "POST"
    given = posted_stages(request.POST) if posted else stages
    moved = changed(given, request.POST.get("do", "")) if posted else None
    saving = posted and moved is None
    form = FlowForm(request.POST if saving else None, initial=_named(request, flow, posted))
    builder = Builder(moved if moved is not None else given, posted=saving, **_choices(request))
    if saving and (saved := _save(request, flow, form, builder)):
        messages.success(request, f"Version {saved.version.number} saved")
        return redirect("flow_detail", request.team.slug, saved.slug)
    context = {"flow": flow, "form": form, "builder": builder, "kinds": KINDS.items()}
    wrong = saving and (form.errors or any(stage.errors for stage in builder.forms))
    return render(request, "personas/flow_edit.html", context, status=422 if wrong else 200)


def _save(request: HttpRequest, flow: Flow | None, form: FlowForm, builder: Builder) -> Flow | None:
    stages_fine, name_fine = builder.is_valid(), form.is_valid()
    if not (stages_fine and name_fine):
        for problem in builder.problems():
            form.add_error(None, problem)
        return None
    named = form.cleaned_data | {"stage_list": builder.stages(), "by": request.user}
    try:
        if flow is None:
            return actions.create_flow(team=request.team, **named)
        actions.save_flow(flow=flow, **named)
        return Flow.objects.select_related("version").get(pk=flow.pk)
    except (BadStage, BadInput) as error:
        form.add_error(None, str(error))
        return None


def _as_shown(stage: dict[str, Any]) -> dict[str, Any]:
    """A stage with what it does for each item beside its own fields."""
    return with_chain({**stage, **stage.get("do", {}), "kind": stage["kind"]})


def _standing(flow: Flow) -> list[tuple[Schedule, str, bool]]:
    """Each schedule of a flow with its rule in words and whether it is paused, the soonest first."""
    now = app_now()
    rows = flow.schedules.order_by(F("paused_at").asc(nulls_first=True), "next_at")
    return [(schedule, _words(schedule), schedule.is_paused_at(now)) for schedule in rows]


def _words(schedule: Schedule) -> str:
    try:
        return schedule.rule.in_words()
    except timing.BadRule as error:
        return str(error)


def _named(request: HttpRequest, flow: Flow | None, posted: bool) -> dict[str, str]:
    if posted:
        return {name: request.POST.get(name, "") for name in ("name", "purpose", "inputs")}
    if flow is None:
        return {}
    return {"name": flow.name, "purpose": flow.purpose, "inputs": inputs_as_text(flow.version.inputs)}


def _choices(request: HttpRequest) -> dict[str, list]:
    personas = request.team.personas.working().order_by("name").values_list("pk", "name")
    tools = [(tool.name, tool.title) for each in integrations() for tool in each.tools]
    return {"personas": [("", "Choose one"), *((str(pk), name) for pk, name in personas)], "tools": tools}


def _persona_names(request: HttpRequest, flow: Flow) -> dict[str, str]:
    wanted = {work_of(stage).get("persona") for stage in flow.version.stages} - {None}
    return {str(pk): name for pk, name in request.team.personas.filter(pk__in=wanted).values_list("pk", "name")}


def _flow_or_404(request: HttpRequest, slug: str) -> Flow:
    rows = request.team.flows.filter(archived_at=None).select_related("version", "team")
    return get_object_or_404(rows, slug=slug)
