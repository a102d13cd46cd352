"""Where the results of a flow go by themselves, and sending one again that was given up."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from personas import delivery
from personas.delivery_forms import DeliveryForm


@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def flow_delivery(request: HttpRequest, slug: str) -> HttpResponse:
    flow = get_object_or_404(request.team.flows.filter(archived_at=None).select_related("team"), slug=slug)
    form = DeliveryForm(request.POST if request.method == "POST" else None, flow=flow)
    if form.is_valid():
        members = [member.user for member in form.cleaned_data["members"]]
        connections = form.cleaned_data["connections"]
        delivery.set_delivery(flow=flow, members=members, connections=connections, by=request.user)
        messages.success(request, "Delivery set")
        return redirect("flow_detail", request.team.slug, flow.slug)
    context = {"flow": flow, "form": form, "verb": "Save", "webhooks": form.fields["connections"].queryset.exists()}
    return render(request, "personas/flow_delivery.html", context, status=422 if form.errors else 200)


@require_POST
@team_view(Permission.RUN_START)
def delivery_again(request: HttpRequest, delivery_id: UUID) -> HttpResponse:
    rows = request.team.deliveries.filter(run__chat=None).select_related("run")
    row = get_object_or_404(rows, pk=delivery_id, run__isnull=False)
    if not delivery.try_again(row=row, by=request.user):
        messages.info(request, "It is on its way already")
    return redirect("run_detail", request.team.slug, row.run_id)
