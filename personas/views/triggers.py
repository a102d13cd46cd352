"""What starts a flow beside its schedules: the page of its triggers, and the address that machines send to."""

from uuid import UUID

from allauth.core import ratelimit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from definable.limits import takes_json
from personas import triggered, triggers
from personas.models import Flow, Trigger, TriggerEvent
from personas.trigger_forms import AfterForm, WebhookForm
from vault.secret import Secret

MOST_BYTES = 256 * 1024
SHOWN = 20  # events
RATE_SECONDS = 60


# --- what machines call -----------------------------------------------------------------


@takes_json(most=MOST_BYTES)
@login_not_required
@csrf_exempt
@require_POST
def trigger_in(request: HttpRequest, address: str) -> HttpResponse:
    """Take a signed request: 202 with the run, or why there is none. The same event gives the same answer."""
    try:
        trigger = triggered.find(address)
    except triggered.NoSuchTrigger:
        raise Http404 from None
    if not ratelimit.consume(request, action="trigger", key=address):
        return _says("Too many requests. Wait a minute.", status=429, headers={"Retry-After": str(RATE_SECONDS)})
    if len(request.body) > MOST_BYTES:  # a body may come without saying how long it is
        return _says("The body is too large.", status=413)
    if request.content_type != "application/json":
        return _says("Send application/json.", status=415)
    try:
        event = triggered.receive(trigger=trigger, **_signed(request))
    except triggered.NotSigned as problem:
        return _says(str(problem), status=401)
    return _answer(event)


def _signed(request: HttpRequest) -> dict:
    named = {"event": "webhook-id", "timestamp": "webhook-timestamp", "signature": "webhook-signature"}
    return {name: request.headers.get(header, "") for name, header in named.items()} | {"body": request.body}


def _answer(event: TriggerEvent) -> HttpResponse:
    if event.problem:
        return _says(event.problem, status=422)
    return JsonResponse({"event": event.event, "run": event.run_id and str(event.run_id)}, status=202)


def _says(problem: str, *, status: int, headers: dict[str, str] | None = None) -> HttpResponse:
    return JsonResponse({"problem": problem}, status=status, headers=headers)


# --- pages ------------------------------------------------------------------------------


@require_GET
@team_view(Permission.FLOW_VIEW)
def flow_triggers(request: HttpRequest, slug: str) -> HttpResponse:
    flow = _flow_or_404(request, slug)
    rows = request.team.trigger_events.filter(trigger__flow=flow).select_related("trigger__after", "run")
    context = {
        "flow": flow,
        "triggers": list(flow.triggers.select_related("after", "owner").order_by("created_at")),
        "events": rows.order_by("-at", "-id")[:SHOWN],
        "base": settings.BASE_URL,
        "may_edit": request.membership.allows(Permission.FLOW_EDIT),
    }
    return render(request, "personas/flow_triggers.html", context)


@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def flow_trigger_webhook(request: HttpRequest, slug: str) -> HttpResponse:
    flow = _flow_or_404(request, slug)
    form = WebhookForm(request.POST or None, flow=flow)
    if request.method == "POST" and form.is_valid():
        try:
            trigger, secret = triggers.add_webhook(
                flow=flow, name=form.cleaned_data["name"], mapping=form.mapping, by=request.user
            )
            return _show_secret(request, trigger, secret)
        except triggers.CannotTrigger as problem:
            form.add_error(None, str(problem))
    context = {"flow": flow, "form": form, "verb": "Make the address"}
    return render(request, "personas/flow_trigger.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def flow_trigger_after(request: HttpRequest, slug: str) -> HttpResponse:
    flow = _flow_or_404(request, slug)
    form = AfterForm(request.POST or None, flow=flow)
    if form.is_valid():
        told = {name: form.cleaned_data[name] for name in ("name", "after", "outcome")}
        try:
            triggers.add_after(flow=flow, mapping=form.mapping, by=request.user, **told)
            messages.success(request, "Trigger set")
            return redirect("flow_triggers", request.team.slug, flow.slug)
        except triggers.CannotTrigger as problem:
            form.add_error("after", str(problem))
    context = {"flow": flow, "form": form, "verb": "Set trigger", "after": True}
    return render(request, "personas/flow_trigger.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def trigger_edit(request: HttpRequest, trigger_id: UUID) -> HttpResponse:
    trigger = get_object_or_404(_triggers(request), pk=trigger_id)
    form = (AfterForm if trigger.after else WebhookForm)(request.POST or None, flow=trigger.flow, trigger=trigger)
    if form.is_valid():
        told = {name: form.cleaned_data[name] for name in ("name", "outcome") if name in form.cleaned_data}
        triggers.change(trigger=trigger, mapping=form.mapping, by=request.user, **told)
        messages.success(request, "Trigger changed")
        return redirect("flow_triggers", request.team.slug, trigger.flow.slug)
    context = {"flow": trigger.flow, "form": form, "verb": "Save trigger", "after": trigger.after, "trigger": trigger}
    return render(request, "personas/flow_trigger.html", context, status=422 if form.errors else 200)


@require_POST
@team_view(Permission.FLOW_EDIT)
def trigger_rotate(request: HttpRequest, trigger_id: UUID) -> HttpResponse:
    rows = _triggers(request).filter(kind=Trigger.Kind.WEBHOOK)
    trigger = get_object_or_404(rows, pk=trigger_id)
    return _show_secret(request, trigger, triggers.rotate(trigger=trigger, by=request.user))


@require_POST
@team_view(Permission.FLOW_EDIT)
def trigger_pause(request: HttpRequest, trigger_id: UUID) -> HttpResponse:
    trigger = get_object_or_404(_triggers(request), pk=trigger_id)
    triggers.pause(trigger=trigger, paused=request.POST.get("pause") == "yes", by=request.user)
    return redirect("flow_triggers", request.team.slug, trigger.flow.slug)


@require_POST
@team_view(Permission.FLOW_EDIT)
def trigger_remove(request: HttpRequest, trigger_id: UUID) -> HttpResponse:
    trigger = get_object_or_404(_triggers(request), pk=trigger_id)
    triggers.remove(trigger=trigger, by=request.user)
    messages.success(request, "Trigger removed")
    return redirect("flow_triggers", request.team.slug, trigger.flow.slug)


def _show_secret(request: HttpRequest, trigger: Trigger, secret: Secret) -> HttpResponse:
    url = settings.BASE_URL + reverse("trigger_in", args=[trigger.address])
    context = {"flow": trigger.flow, "url": url, "secret": secret.use()}
    return render(request, "personas/trigger_secret.html", context)


def _triggers(request: HttpRequest):
    return request.team.triggers.filter(flow__archived_at=None).select_related("after", "flow__version", "flow__team")


def _flow_or_404(request: HttpRequest, slug: str) -> Flow:
    """One of the team's flows that has a version in use: nothing else starts one that has none."""
    rows = request.team.flows.filter(archived_at=None, version__isnull=False).select_related("version", "team")
    return get_object_or_404(rows, slug=slug)
