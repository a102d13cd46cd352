"""What a run gave: saved as a file, or shown on a page that is shared inside the team."""

import json
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.text import slugify
from django.views.decorators.http import require_GET, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from personas import results
from personas.views.runs import run_or_404

JSON = ("application/json; charset=utf-8", "json")
MARKDOWN = ("text/markdown; charset=utf-8", "md")


@require_GET
@team_view(Permission.RUN_VIEW)
def run_result(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """The shared page; it is empty while the result is not shared."""
    run = run_or_404(request, run_id)
    context = {"run": run, "result": results.result_of(run) if run.shared_at else None}
    context["may_share"] = request.membership.allows(Permission.RUN_START)
    return render(request, "personas/run_result.html", context)


@require_GET
@team_view(Permission.RUN_VIEW)
def run_download(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """The result as a file that is saved, never shown: what is in it came from a model."""
    run = run_or_404(request, run_id)
    result = results.result_of(run) if results.is_there(run) else None
    if result is None or result.text is None:
        return redirect("run_detail", request.team.slug, run.pk)
    (kind, ending), data = MARKDOWN, result.text
    if request.GET.get("format") == "json":
        (kind, ending), data = JSON, json.dumps(results.as_data(run, result.text), ensure_ascii=False, indent=2)
    response = HttpResponse(data, content_type=kind)
    response["Content-Disposition"] = f'attachment; filename="{slugify(run.title) or "result"}.{ending}"'
    response["Cache-Control"] = "no-store"
    response.is_foreign = True
    return response


@require_POST
@team_view(Permission.RUN_START)
def run_share(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = run_or_404(request, run_id)
    try:
        results.share(run=run, by=request.user)
    except results.CannotShare as problem:
        messages.error(request, str(problem))
    return redirect("run_result", request.team.slug, run.pk)


@require_POST
@team_view(Permission.RUN_START)
def run_unshare(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = run_or_404(request, run_id)
    results.unshare(run=run, by=request.user)
    messages.success(request, "The result is shared no more")
    return redirect("run_detail", request.team.slug, run.pk)
