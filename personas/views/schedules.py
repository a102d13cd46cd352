"""Schedules of a flow: setting one, what came of it, its pauses; and the calendar over all of a team."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from definable.limits import takes_long_texts
from personas import month, schedule_queries, schedule_times, schedules, starting, timing
from personas.models import Flow, Schedule
from personas.schedule_forms import PauseForm, ScheduleForm, initial, rule_of
from personas.stages import BadInput

BLANK = {
    "kind": Schedule.Kind.CRON,
    "cron": "0 6 * * 1",
    "every": 1,
    "unit": "hours",
    "catch_up": Schedule.CatchUp.LATEST,
    "overlap": Schedule.Overlap.SKIP,
}


@takes_long_texts
@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def schedule_create(request: HttpRequest, slug: str) -> HttpResponse:
    flow = _flow_or_404(request, slug)
    form = ScheduleForm(request.POST or None, flow=flow, initial=BLANK | {"zone": request.user.zone})
    return _form_page(request, flow, None, form)


@takes_long_texts
@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def schedule_edit(request: HttpRequest, slug: str, schedule_id: UUID) -> HttpResponse:
    flow = _flow_or_404(request, slug)
    schedule = _schedule_or_404(flow, schedule_id)
    shown = initial(schedule, starting.kept_inputs(schedule))
    return _form_page(request, flow, schedule, ScheduleForm(request.POST or None, flow=flow, initial=shown))


def _form_page(request: HttpRequest, flow: Flow, schedule: Schedule | None, form: ScheduleForm) -> HttpResponse:
    if form.is_valid() and (saved := _save(request, flow, schedule, form)):
        messages.success(request, "Schedule set")
        return redirect("schedule_detail", request.team.slug, flow.slug, saved.pk)
    data = {name: form[name].value() for name in form.fields}
    context = {"flow": flow, "form": form, "schedule": schedule} | _preview(data)
    return render(request, "personas/flow_schedule.html", context, status=422 if form.errors else 200)


def _save(request: HttpRequest, flow: Flow, schedule: Schedule | None, form: ScheduleForm) -> Schedule | None:
    try:
        if schedule:
            return schedules.change_schedule(schedule=schedule, wish=form.wish(), by=request.user)
        return schedules.add_schedule(flow=flow, wish=form.wish(), by=request.user)
    except (timing.BadRule, BadInput, schedules.TooMany) as error:
        form.add_error(None, str(error))
        return None


@require_GET
@team_view(Permission.FLOW_EDIT)
def schedule_preview(request: HttpRequest, slug: str) -> HttpResponse:
    _flow_or_404(request, slug)
    data = {name: value[:120] for name, value in request.GET.items()}
    return render(request, "personas/_schedule_preview.html", _preview(data))


def _preview(data: dict[str, Any]) -> dict[str, Any]:
    try:
        rule = rule_of(data)
        return {"next": schedule_times.next_times(rule, app_now()), "words": rule.in_words(), "zone": rule.zone}
    except timing.BadRule as error:
        return {"problem": str(error)}
    except ValidationError as error:
        return {"problem": error.messages[0]}


@require_GET
@team_view(Permission.FLOW_VIEW)
def schedule_detail(request: HttpRequest, slug: str, schedule_id: UUID) -> HttpResponse:
    flow = _flow_or_404(request, slug)
    schedule = _schedule_or_404(flow, schedule_id)
    now = app_now()
    paused = schedule.is_paused_at(now)
    context = {
        "flow": flow,
        "schedule": schedule,
        "paused": paused,
        "rules": getattr(request.team, "flow_rules", None),
        "words": _words(schedule),
        "next": [] if schedule.paused_at else _times(schedule, max(now, schedule.paused_until or now)),
        "page": schedule_queries.firing_page(schedule=schedule, after=request.GET.get("after", "")[:36]),
        "pause": PauseForm(zone=request.user.zone),
        "may_edit": request.membership.allows(Permission.FLOW_EDIT),
    }
    return render(request, "personas/schedule_detail.html", context)


def _words(schedule: Schedule) -> str:
    try:
        return schedule.rule.in_words()
    except timing.BadRule as error:
        return str(error)


def _times(schedule: Schedule, now: Any) -> list[schedule_times.Time]:
    try:
        return schedule_times.next_times(schedule.rule, now)
    except timing.BadRule:
        return []


@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def schedule_pause(request: HttpRequest, slug: str, schedule_id: UUID) -> HttpResponse:
    flow = _flow_or_404(request, slug)
    schedule = _schedule_or_404(flow, schedule_id)
    form = PauseForm(request.POST or None, zone=request.user.zone)
    if form.is_valid() and _pause(schedule, form, request):
        return redirect("schedule_detail", request.team.slug, flow.slug, schedule.pk)
    context = {"flow": flow, "schedule": schedule, "form": form}
    return render(request, "personas/schedule_pause.html", context, status=422 if form.errors else 200)


def _pause(schedule: Schedule, form: PauseForm, request: HttpRequest) -> bool:
    try:
        schedules.pause_schedule(schedule=schedule, by=request.user, **form.cleaned_data)
    except timing.BadRule:
        form.add_error("until", "It has no time after that. Leave this empty to switch it off.")
        return False
    return True


@require_POST
@team_view(Permission.FLOW_EDIT)
def schedule_resume(request: HttpRequest, slug: str, schedule_id: UUID) -> HttpResponse:
    flow = _flow_or_404(request, slug)
    schedule = _schedule_or_404(flow, schedule_id)
    try:
        schedules.resume_schedule(schedule=schedule, by=request.user)
    except timing.BadRule as error:
        messages.error(request, f"{error} Change its rule to use it again.")
    return redirect("schedule_detail", request.team.slug, flow.slug, schedule.pk)


@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def schedule_delete(request: HttpRequest, slug: str, schedule_id: UUID) -> HttpResponse:
    flow = _flow_or_404(request, slug)
    schedule = _schedule_or_404(flow, schedule_id)
    if request.method == "POST":
        try:
            schedules.delete_schedule(schedule=schedule, by=request.user)
        except schedules.StillGoing as error:
            messages.error(request, str(error))
            return redirect("schedule_detail", request.team.slug, flow.slug, schedule.pk)
        messages.success(request, "Schedule deleted")
        return redirect("flow_detail", request.team.slug, flow.slug)
    return render(request, "personas/schedule_delete.html", {"flow": flow, "schedule": schedule})


# --- all of a team ----------------------------------------------------------------------


@require_GET
@team_view(Permission.FLOW_VIEW)
def schedule_calendar(request: HttpRequest) -> HttpResponse:
    now = app_now()
    active = schedule_queries.active_schedules(team=request.team)
    costs = schedule_queries.usual_costs(team=request.team, flows={row.flow_id for row in active})
    context = {
        "month": month.lay_out(active, costs, now, timing.zone(request.user.zone)),
        "rules": getattr(request.team, "flow_rules", None),
        "most_at_once": settings.RUNS_AT_ONCE,
        "may_edit": request.membership.allows(Permission.FLOW_EDIT),
    }
    return render(request, "personas/schedule_calendar.html", context)


@require_POST
@team_view(Permission.FLOW_EDIT)
def schedules_pause(request: HttpRequest) -> HttpResponse:
    schedules.pause_all(team=request.team, by=request.user, why=request.POST.get("why", "")[:300])
    messages.success(request, "No schedule fires until they are switched on")
    return redirect("schedule_calendar", request.team.slug)


@require_POST
@team_view(Permission.FLOW_EDIT)
def schedules_resume(request: HttpRequest) -> HttpResponse:
    schedules.resume_all(team=request.team, by=request.user)
    messages.success(request, "Schedules fire again")
    return redirect("schedule_calendar", request.team.slug)


def _schedule_or_404(flow: Flow, schedule_id: UUID) -> Schedule:
    return get_object_or_404(flow.schedules.select_related("team", "flow__version", "owner"), pk=schedule_id)


def _flow_or_404(request: HttpRequest, slug: str) -> Flow:
    """One of the team's flows that has a version in use: nothing else starts one that has none."""
    rows = request.team.flows.filter(archived_at=None, version__isnull=False).select_related("version", "team")
    return get_object_or_404(rows, slug=slug)
