"""How many runs of flows may be at work at once: of one flow, and of all of a team."""

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from personas import at_once

MOST = 1000


class AtOnceForm(forms.Form):
    """A number of runs, or nothing for no bound of one's own."""

    most = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=MOST,
        error_messages=dict.fromkeys(
            ["invalid", "min_value", "max_value"], f"Give a number from 1 to {MOST}, or none."
        ),
    )


@require_POST
@team_view(Permission.FLOW_EDIT)
def flow_at_once(request: HttpRequest, slug: str) -> HttpResponse:
    flow = get_object_or_404(request.team.flows.filter(archived_at=None), slug=slug)
    form = AtOnceForm(request.POST)
    if _is_fine(request, form):
        at_once.set_for_flow(flow=flow, most=form.cleaned_data["most"], by=request.user)
    return redirect("flow_detail", request.team.slug, slug)


@require_POST
@team_view(Permission.FLOW_EDIT)
def flows_at_once(request: HttpRequest) -> HttpResponse:
    form = AtOnceForm(request.POST)
    if _is_fine(request, form):
        at_once.set_for_team(team=request.team, most=form.cleaned_data["most"], by=request.user)
    return redirect("schedule_calendar", request.team.slug)


def _is_fine(request: HttpRequest, form: AtOnceForm) -> bool:
    """Whether it can be saved; the page that follows says so, or what is wrong."""
    if form.is_valid():
        messages.success(request, "Limit saved")
        return True
    messages.error(request, form.errors["most"][0])
    return False
