"""Notices of a team: what wants attention, what was over, and which of it a member gets by mail."""

from uuid import UUID

from django.contrib import messages
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from personas import delivery, noticing, queries
from personas.models import Notice, NoticeWish

WANTED = Exists(NoticeWish.objects.filter(connection=OuterRef("pk")))


@require_GET
@team_view(Permission.RUN_VIEW)
def notice_list(request: HttpRequest) -> HttpResponse:
    page = queries.notice_page(team=request.team, after=request.GET.get("after", "")[:36])
    wishes = noticing.wishes_of(request.membership)
    context = {
        "open": list(request.team.notices.filter(over_at=None).select_related("run").order_by("-last_at")[:100]),
        "page": page,
        "kinds": [(value, label, value in wishes) for value, label in Notice.Kind.choices],
        "webhooks": [
            (row.pk, row.label, row.is_wanted) for row in delivery.webhooks(request.team).annotate(is_wanted=WANTED)
        ],
        "may_post": request.membership.allows(Permission.FLOW_EDIT),
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


@require_POST
@team_view(Permission.FLOW_EDIT)
def notice_webhooks(request: HttpRequest) -> HttpResponse:
    chosen = set(request.POST.getlist("webhooks"))
    rows = [row for row in delivery.webhooks(request.team) if str(row.pk) in chosen]
    noticing.set_webhooks(team=request.team, connections=rows, by=request.user)
    messages.success(request, "Webhooks are set")
    return redirect("notice_list", request.team.slug)
