"""Flows: the list, one, the builder, and running it now."""

import re
from typing import Any
from uuid import uuid4

from django.contrib import messages
from django.db.models import F
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import AppNow
from definable.fragments import render_fragment
from definable.limits import takes_long_texts
from integrations.registry import integrations
from personas import actions, drafting, estimates, flow_actions, graphing, preflight, queries, timing
from personas.chains import with_chain
from personas.flow_forms import Builder, FlowForm, changed, inputs_as_text, posted_stages
from personas.models import Flow, FlowVersion, Schedule
from personas.referring import TEXTS, refers, usable_in
from personas.stage_forms import KINDS
from personas.stages import BadInput, BadStage, work_of
from personas.views.once import sending_key, wants_rehearsal

CONFLICT = 409
INPUT = "input-"  # before the name of an input, in a form
TRY = "try"  # before the number of a stage, in the name of a button
TEXT_FIELD = re.compile(rf"stage-(?P<position>[0-9]{{1,2}})-(?P<field>{'|'.join(TEXTS)})")


@require_GET
@team_view(Permission.FLOW_VIEW)
def flow_list(request: HttpRequest) -> HttpResponse:
    page = queries.flow_page(team=request.team, after=request.GET.get("after", "")[:60])
    context = {"page": page, "may_edit": request.membership.allows(Permission.FLOW_EDIT)}
    return render(request, "personas/flow_list.html", context)


@require_GET
@team_view(Permission.FLOW_VIEW)
def flow_detail(request: HttpRequest, slug: str) -> HttpResponse:
    flow = flow_or_404(request, slug)
    shown = flow.shown
    context = {
        "flow": flow,
        "shown": shown,
        "stages": [_as_shown(stage) for stage in shown.stages],
        "graph": graphing.draw(shown.stages),
        "has_prompts": any(work_of(stage).get("kind") == "prompt" for stage in shown.stages),
        "estimate": estimates.of_flow(team=request.team, version=shown),
        "schedules": _standing(flow),
        "rules": getattr(flow.team, "flow_rules", None),
        "personas": persona_names(request, flow.shown),
        "runs": queries.run_page(team=request.team, flow=slug).rows[:10],
        "may_edit": request.membership.allows(Permission.FLOW_EDIT),
        "may_try": request.membership.allows(Permission.RUN_START),
        "may_run": request.membership.allows(Permission.RUN_START) and flow.version,
        "once": uuid4().hex,
    }
    return render(request, "personas/flow_detail.html", context)


@require_GET
@team_view(Permission.FLOW_VIEW)
def flow_preflight(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """What would stand in the way of a run of this version, started by the reader or by a schedule."""
    flow = flow_or_404(request, slug)
    version = get_object_or_404(flow.versions, number=number)
    scheduled = request.GET.get("as") == "schedule"
    found = preflight.findings(flow=flow, version=version, by=request.user, unattended=scheduled)
    context = {"flow": flow, "version": version, "findings": found, "scheduled": scheduled}
    context["estimate"] = estimates.of_flow(team=request.team, version=version)
    return render_fragment(request, "personas/flow_preflight.html", "personas/_preflight.html", context)


@takes_long_texts
@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def flow_create(request: HttpRequest) -> HttpResponse:
    return _builder_page(request, None, [{"kind": "prompt", "name": "draft"}])


@takes_long_texts
@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def flow_edit(request: HttpRequest, slug: str) -> HttpResponse:
    flow = flow_or_404(request, slug)
    return _builder_page(request, flow, (flow.draft or flow.version).stages)


@takes_long_texts
@require_POST
@team_view(Permission.RUN_START)
def flow_run(request: HttpRequest, slug: str) -> HttpResponse:
    flow = flow_or_404(request, slug)
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


@takes_long_texts
@require_POST
@team_view(Permission.FLOW_EDIT)
def flow_references(request: HttpRequest) -> HttpResponse:
    """What one text of the builder refers to, while somebody writes it. Nothing is saved."""
    found = TEXT_FIELD.fullmatch(request.GET.get("field", "")[:40])
    posted = posted_stages(request.POST)
    if not found or int(found["position"]) >= len(posted):
        return HttpResponseBadRequest("The form has no such text.")
    position, field = int(found["position"]), found["field"]
    usable = usable_in(posted, position, field, request.POST.get("inputs", ""))
    text = posted[position].get(field, "")
    return render(request, "personas/_references.html", {"refers": refers(text, usable)})


@takes_long_texts
@require_POST
@team_view(Permission.FLOW_EDIT)
def flow_graph(request: HttpRequest) -> HttpResponse:
    """The graph of the stages as they stand in the builder, while somebody writes them. Nothing is saved."""
    return render(request, "personas/_graph.html", {"graph": graphing.draw(posted_stages(request.POST))})


def _builder_page(request: HttpRequest, flow: Flow | None, stages: list[dict]) -> HttpResponse:
    """Show the builder, move its stages about, or save them; nothing is lost on the way."""
    posted = request.method == "POST"
    given = posted_stages(request.POST) if posted else stages
    moved = changed(given, request.POST.get("do", "")) if posted else None
    saving = posted and moved is None
    form = FlowForm(request.POST if saving else None, initial=_named(request, flow, posted))
    inputs = str(form["inputs"].value() or "")
    builder = Builder(moved if moved is not None else given, posted=saving, inputs=inputs, **_choices(request))
    context = {"flow": flow, "form": form, "builder": builder, "kinds": KINDS.items()}
    context["graph"] = graphing.draw(moved if moved is not None else given)
    if flow:
        context["newest"] = drafting.newest(flow)
    try:
        if saving and (saved := _save(request, flow, form, builder)):
            return _after_saving(request, saved)
    except drafting.Outdated as conflict:
        seen, form = form.cleaned_data["seen"], form.seeing(conflict.newest)
        return render(request, "personas/flow_edit.html", context | {"form": form, "seen": seen}, status=CONFLICT)
    wrong = saving and (form.errors or any(stage.errors for stage in builder.forms))
    return render(request, "personas/flow_edit.html", context, status=422 if wrong else 200)


def _after_saving(request: HttpRequest, flow: Flow) -> HttpResponse:
    """To the flow; or to trying the stage whose button saved it."""
    verb, _, stage = request.POST.get("do", "").partition("-")
    if verb != TRY or not stage.isdecimal():
        return redirect("flow_detail", request.team.slug, flow.slug)
    return redirect("flow_stage_try", request.team.slug, flow.slug, drafting.newest(flow).number, int(stage[:3]))


def _save(request: HttpRequest, flow: Flow | None, form: FlowForm, builder: Builder) -> Flow | None:
    stages_fine, name_fine = builder.is_valid(), form.is_valid()
    if not (stages_fine and name_fine):
        for problem in builder.problems():
            form.add_error(None, problem)
        return None
    is_draft = request.POST.get("do", "").partition("-")[0] in ("draft", TRY)
    said = form.cleaned_data | {"stage_list": builder.stages(), "by": request.user, "is_draft": is_draft}
    try:
        flow, number = _saved(request, flow, said)
    except (BadStage, BadInput) as error:
        form.add_error(None, str(error))
        return None
    messages.success(request, f"Draft saved as version {number}" if is_draft else f"Version {number} published")
    return flow


def _saved(request: HttpRequest, flow: Flow | None, said: dict[str, Any]) -> tuple[Flow, int]:
    if flow is not None:
        return flow, flow_actions.save_flow(flow=flow, **said).number
    del said["seen"]
    return flow_actions.create_flow(team=request.team, **said), 1


def _as_shown(stage: dict[str, Any]) -> dict[str, Any]:
    """A stage with what it does for each item beside its own fields."""
    uses = graphing.uses(stage)
    return with_chain({**stage, **stage.get("do", {}), "kind": stage["kind"]}) | {"uses": uses}


def _standing(flow: Flow) -> list[tuple[Schedule, str, bool]]:
    """Each schedule of a flow with its rule in words and whether it is paused, the soonest first."""
    rows = flow.schedules.annotate(now=AppNow()).order_by(F("paused_at").asc(nulls_first=True), "next_at")
    return [(schedule, _words(schedule), schedule.is_paused_at(schedule.now)) for schedule in rows]


def _words(schedule: Schedule) -> str:
    try:
        return schedule.rule.in_words()
    except timing.BadRule as error:
        return str(error)


def _named(request: HttpRequest, flow: Flow | None, posted: bool) -> dict[str, str]:
    if posted:
        return {name: request.POST.get(name, "") for name in ("name", "purpose", "inputs", "seen")}
    if flow is None:
        return {}
    inputs = inputs_as_text((flow.draft or flow.version).inputs)
    return {"name": flow.name, "purpose": flow.purpose, "inputs": inputs, "seen": drafting.newest(flow).number}


def _choices(request: HttpRequest) -> dict[str, list]:
    personas = request.team.personas.working().order_by("name").values_list("pk", "name")
    tools = [(tool.name, tool.title) for each in integrations() for tool in each.tools]
    return {"personas": [("", "Choose one"), *((str(pk), name) for pk, name in personas)], "tools": tools}


def persona_names(request: HttpRequest, *versions: FlowVersion) -> dict[str, str]:
    """The names of all personas that stages of these versions speak as, by id."""
    wanted = {work_of(stage).get("persona") for version in versions for stage in version.stages} - {None, ""}
    return {str(pk): name for pk, name in request.team.personas.filter(pk__in=wanted).values_list("pk", "name")}


def flow_or_404(request: HttpRequest, slug: str) -> Flow:
    """Return one of the team's flows, or answer 404."""
    rows = request.team.flows.filter(archived_at=None).select_related(
        "version", "draft", "team__flow_rules__schedules_paused_by"
    )
    return get_object_or_404(rows, slug=slug)
