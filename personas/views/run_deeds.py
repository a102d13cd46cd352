"""What is done with a run: stopped, paused, run again, laid beside another, kept as a page of the team."""

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from personas import actions, approving, beside, pausing, repeating, stopping
from personas.models import Run
from personas.run_forms import DecisionForm
from personas.views.once import sending_key
from personas.views.runs import run_or_404

OFFERED = 20  # runs to compare with


@require_POST
@team_view(Permission.RUN_STOP)
def run_stop(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = run_or_404(request, run_id)
    try:
        actions.stop_run(run=run, by=request.user)
        messages.success(request, "Run stopping")
    except stopping.AlreadyOver:
        messages.info(request, "This run had ended already")
    return redirect("run_detail", request.team.slug, run.pk)


@require_POST
@team_view(Permission.RUN_STOP)
def run_pause(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = run_or_404(request, run_id)
    try:
        pausing.pause_run(run=run, by=request.user)
    except stopping.AlreadyOver:
        messages.info(request, "This run had ended already")
    except pausing.CannotPause as error:
        messages.error(request, str(error))
    return redirect("run_detail", request.team.slug, run.pk)


@require_POST
@team_view(Permission.RUN_STOP)
def run_resume(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = run_or_404(request, run_id)
    pausing.resume_run(run=run, by=request.user)
    return redirect("run_detail", request.team.slug, run.pk)


@require_POST
@team_view(Permission.RUN_START)
def run_decide(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Approve or refuse what a stage shows. Of two tabs, the first one counts."""
    run = run_or_404(request, run_id)
    form = DecisionForm(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(error for errors in form.errors.values() for error in errors))
        return redirect("run_detail", request.team.slug, run.pk)
    try:
        approving.decide(run=run, by=request.user, **form.cleaned_data)
        messages.success(request, "Approved" if form.cleaned_data["approve"] else "Refused")
    except approving.CannotDecide as error:
        messages.info(request, str(error))
    return redirect("run_detail", request.team.slug, run.pk)


@require_POST
@team_view(Permission.RUN_START)
def run_again(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Run the flow as it is now; or, from a stage, what this run ran with what its earlier stages gave."""
    run = run_or_404(request, run_id)
    wanted, key = request.POST.get("stage", "")[:3], sending_key(request)
    try:
        if run.flow and not wanted:
            again = actions.run_flow(flow=run.flow, by=request.user, idempotency_key=key)
        else:
            number = int(wanted or 1) if (wanted or "1").isdecimal() else 0
            again = repeating.run_again_from(run=run, number=number, by=request.user, idempotency_key=key)
    except (actions.NotRunnable, repeating.CannotRepeat) as error:
        messages.error(request, str(error))
        again = run
    return redirect("run_detail", request.team.slug, again.pk)


@require_GET
@team_view(Permission.RUN_VIEW)
def run_compare(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = run_or_404(request, run_id)
    if run.flow is None or run.is_trial:
        raise Http404
    others = _others(run)
    old = _chosen(request, run, others)
    context = {"run": run, "old": old, "others": others}
    if old:
        context["pairs"] = beside.compare_runs(old=old, new=run, now=app_now())
    return render(request, "personas/run_compare.html", context)


def _others(run: Run) -> list[Run]:
    """The last runs of the same flow."""
    found = run.team.runs.filter(flow=run.flow).exclude(pk=run.pk).exclude(trigger=Run.Trigger.TRIAL)
    found = found.select_related("flow_version", "team", "firing")
    return list(found.order_by("-id")[:OFFERED])


def _chosen(request: HttpRequest, run: Run, others: list[Run]) -> Run | None:
    """The run that the address names; else the one that this one repeats, or the one before it."""
    by_id = {str(other.pk): other for other in others}
    if wanted := request.GET.get("other", "")[:36]:
        return by_id.get(wanted)
    before = next((other for other in others if other.pk < run.pk), None)
    return by_id.get(str(run.again_of_id)) or before
