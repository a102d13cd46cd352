"""How long a team keeps what its runs were given and gave."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts.permissions import Permission
from accounts.teams import team_view
from personas import retention
from personas.run_forms import KeepingForm


@require_http_methods(["GET", "POST"])
@team_view(Permission.SETTINGS_EDIT)
def team_keeping(request: HttpRequest) -> HttpResponse:
    """The rule, what a change of it would remove, and what was removed already. Looking first changes nothing."""
    saving = request.method == "POST"
    form = KeepingForm(request.POST if saving else request.GET if "keep_days" in request.GET else None)
    now = retention.keep_days_of(request.team)
    if not form.is_bound:
        form.initial["keep_days"] = now
    if saving and form.is_valid():
        retention.set_keep_days(team=request.team, days=form.cleaned_data["keep_days"], by=request.user)
        messages.success(request, "Rule set")
        return redirect("team_keeping", request.team.slug)
    days = form.cleaned_data["keep_days"] if form.is_bound and form.is_valid() else None
    context = {"form": form, "now": now, "days": days, "erased": retention.erased(team=request.team)}
    context["goes"] = retention.what_goes(team=request.team, days=days) if days else None
    return render(request, "personas/team_keeping.html", context, status=422 if form.errors else 200)
