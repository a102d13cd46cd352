"""Notices of a team: what wants attention, what was over, and which of it a member gets by mail."""

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from personas import noticing, queries
from personas.models import Notice


@require_GET
@team_view(Permission.RUN_VIEW)
def notice_list(request: HttpRequest) -> HttpResponse:
    page = queries.notice_page(team=request.team, after=request.GET.get("after", "")[:36])
    wishes = noticing.wishes_of(request.membership)
    context = {
        "open": list(request.team.notices.filter(over_at=None).select_related("run").order_by("-last_at")[:100]),
        "page": page,
        "kinds": [(value, label, value in wishes) for value, label in Notice.Kind.choices],
        "may_choose": request.membership.allows(Permission.RUN_START),
        "may_put_away": request.membership.allows(Permission.RUN_STOP),
    }
    return render(request, "personas/notice_list.html", context)


@require_POST
@team_view(Permission.RUN_STOP)
def notice_put_away(request: HttpRequest, notice_id: UUID) -> HttpResponse:
    notice = get_object_or_404(request.team.notices, pk=notice_id)
    noticing.put_away(notice=notice, by=request.user)
    return redirect("notice_list", request.team.slug)


@require_POST
@team_view(Permission.RUN_START)
def notice_wishes(request: HttpRequest) -> HttpResponse:
    noticing.set_wish(membership=request.membership, kinds=request.POST.getlist("kinds"))
    messages.success(request, "Your mail is set")
    return redirect("notice_list", request.team.slug)
