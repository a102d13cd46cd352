"""The page on which one stage of a flow is tried alone."""

from collections.abc import Mapping
from uuid import UUID, uuid4

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_GET, require_http_methods

from accounts.permissions import Permission
from accounts.teams import team_view
from definable.fragments import render_fragment
from definable.limits import takes_long_texts
from personas import preflight, trials
from personas.models import FlowVersion, Run
from personas.stages import BadInput
from personas.trial_forms import TrialForm
from personas.views.once import sending_key


@takes_long_texts
@require_http_methods(["GET", "POST"])
@team_view(Permission.RUN_START)
def flow_stage_try(request: HttpRequest, slug: str, number: int, stage: int) -> HttpResponse:
    """Try stage number `stage` of a version, with what the form pins; or keep that, or say what it would take."""
    version = version_or_404(request, slug, number, stage)
    flow = version.flow
    wanted, samples = _wanted(request, version), trials.samples(flow)
    run = wanted or trials.last_run(flow)
    recorded = trials.recorded(run) if run else {}
    values = _prefilled(version, samples, recorded, run_first=bool(wanted))
    form = TrialForm(request.POST or None, version=version, number=stage, initial=TrialForm.initial_of(values))
    if form.is_valid() and "estimate" not in request.POST and (answer := _done(request, form, version, stage)):
        return answer
    written = form.pinned if form.is_bound and not form.errors else values
    context = {
        "flow": flow,
        "version": version,
        "number": stage,
        "stage": version.stages[stage - 1],
        "form": form,
        "run": run,
        "from_run": bool(wanted),
        "cut": [form.label_of(name) for name in form.references if _is_cut(values.get(name), recorded.get(name))],
        "samples": samples,
        "estimate": trials.estimate(version, stage, written),
        "may_keep": request.membership.allows(Permission.FLOW_EDIT),
        "once": uuid4().hex,
    }
    status = 422 if form.errors else 200
    return render_fragment(request, "personas/flow_stage_try.html", "personas/_estimate.html", context, status=status)


@require_GET
@team_view(Permission.RUN_START)
def flow_stage_check(request: HttpRequest, slug: str, number: int, stage: int) -> HttpResponse:
    """What would stand in the way of a trial that the reader starts."""
    version = version_or_404(request, slug, number, stage)
    alone = trials.alone(version, stage, {})
    found = preflight.findings(flow=version.flow, version=alone, by=request.user)
    context = {"flow": version.flow, "version": version, "number": stage, "findings": found}
    return render_fragment(request, "personas/flow_stage_check.html", "personas/_preflight.html", context)


def version_or_404(request: HttpRequest, slug: str, number: int, stage: int) -> FlowVersion:
    """A version of one of the team's flows that has a stage of this number, counted from 1; or answer 404."""
    rows = request.team.flow_versions.filter(flow__archived_at=None).select_related("flow__team", "team__plan")
    version = get_object_or_404(rows, flow__slug=slug, number=number)
    if not 1 <= stage <= len(version.stages):
        raise Http404
    return version


def _done(request: HttpRequest, form: TrialForm, version: FlowVersion, stage: int) -> HttpResponse | None:
    """Do what was pressed; None when it could not be done, which the form then says."""
    what = request.POST.get("do", "try")
    if what in ("keep", "clear"):
        if not request.membership.allows(Permission.FLOW_EDIT):
            raise PermissionDenied
        _keep(request, form, version, what)
        return redirect(request.get_full_path())
    try:
        run = trials.try_stage(
            version=version, number=stage, pinned=form.pinned, by=request.user, idempotency_key=sending_key(request)
        )
    except (BadInput, trials.CannotTry) as problem:
        form.add_error(None, str(problem))
        return None
    return redirect("run_detail", request.team.slug, run.pk)


def _keep(request: HttpRequest, form: TrialForm, version: FlowVersion, what: str) -> None:
    if what == "keep":
        trials.keep_samples(flow=version.flow, values=form.pinned, by=request.user)
        messages.success(request, "Kept as sample data")
    else:
        trials.clear_samples(flow=version.flow, by=request.user)
        messages.success(request, "Sample data erased")


def _wanted(request: HttpRequest, version: FlowVersion) -> Run | None:
    """The run that the address names."""
    try:
        wanted = UUID(request.GET.get("run", ""))
    except ValueError:
        return None
    return get_object_or_404(request.team.runs.filter(flow=version.flow), pk=wanted)


def _prefilled(
    version: FlowVersion, samples: Mapping[str, str], recorded: Mapping[str, str], *, run_first: bool
) -> dict[str, str]:
    """What references are filled in with: sample data or what the run gave, cut where too long, else defaults."""
    defaults = {f"input.{each['name']}": each.get("default", "") for each in version.inputs}
    short = {name: text[: trials.LONGEST] for name, text in recorded.items()}
    return defaults | (samples | short if run_first else short | samples)


def _is_cut(filled_in: str | None, recorded: str | None) -> bool:
    return bool(recorded and len(recorded) > trials.LONGEST and filled_in == recorded[: trials.LONGEST])
