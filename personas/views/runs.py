"""Runs: the list, and one with its live progress. What is done with one: personas/views/run_deeds.py."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from definable.fragments import render_fragment
from integrations.models import Call
from personas import fair, ledger, queries, results, stage_shown
from personas.models import Delivery, Run, StageRun
from personas.run_forms import DecisionForm
from personas.timeline import Row, lay_out

LATE = timedelta(seconds=15)  # a hint is repeated after 10; a run that still waits has no worker
UNSETTLED = (StageRun.State.WAITING, StageRun.State.RUNNING)
FILTERS = ("state", "flow", "persona")


@require_GET
@team_view(Permission.RUN_VIEW)
def run_list(request: HttpRequest) -> HttpResponse:
    filters = {name: request.GET.get(name, "")[:60] for name in FILTERS}
    page = queries.run_page(team=request.team, after=_uuid(request.GET.get("after", "")), **filters)
    states = [*Run.State.choices, (queries.GAVE_UP, "Given up")]
    context = {"page": page, "filters": filters, "states": states, "filtered": any(filters.values())}
    context["flows"] = request.team.flows.filter(archived_at=None).order_by("name")[:100]
    return render_fragment(request, "personas/run_list.html", "personas/_run_table.html", context)


@require_GET
@team_view(Permission.RUN_VIEW)
def run_detail(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = run_or_404(request, run_id)
    return render(request, "personas/run_detail.html", _about(request, run))


@require_GET
@team_view(Permission.RUN_VIEW)
def run_progress(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """The part of the page that changes; 304 while it has not."""
    run = run_or_404(request, run_id)
    about = _about(request, run)
    if request.headers.get("HX-PTag") == about["version"]:
        return HttpResponseNotModified()
    response = render(request, "personas/_run.html", about)
    response["HX-PTag"] = about["version"]
    return response


def _about(request: HttpRequest, run: Run) -> dict:
    stages = list(run.stages.select_related("persona", "persona_version", "decided_by"))
    calls = queries.calls_of(run=run)
    now = app_now()
    timeline = lay_out(run, stages, calls, now)
    wanted = request.GET.get("stage", "")[:3]
    shown = _shown_row(timeline.rows, wanted)
    asks = _asking(run, timeline.rows)
    done = sum(row.stage.state == StageRun.State.DONE for row in timeline.rows)
    is_late = run.state == Run.State.QUEUED and now - run.queued_at > LATE
    deliveries = list(run.deliveries.select_related("user", "connection").order_by("id"))
    return {
        "run": run,
        "tried": [] if shown.items else ledger.tried(stage=shown.stage, calls=shown.calls),
        "why_parked": ledger.last_word(run=run) if run.state == Run.State.PARKED else "",
        "timeline": timeline,
        "shown": shown,
        "wanted": wanted,
        "texts": stage_shown.open_stage(run, shown),
        "done": done,
        "passed_over": sum(row.stage.was_passed_over for row in timeline.rows),
        "settled": sum(row.stage.state not in UNSETTLED for row in timeline.rows),
        "current": next((row for row in timeline.rows if row.stage.state in UNSETTLED), timeline.rows[-1]),
        "asks": asks,
        "tried_stage": stages[-1],
        "decision": DecisionForm() if asks else None,
        "is_late": is_late,
        "why_waiting": fair.why_waiting(run) if is_late and run.flow_id else "",
        "usual": queries.usual_duration(run=run) if not run.is_finished else None,
        "cost_usd": sum((call.cost_usd for call in calls if call.cost_usd is not None), start=Decimal(0)),
        "tokens_in": sum(call.tokens_in or 0 for call in calls),
        "tokens_out": sum(call.tokens_out or 0 for call in calls),
        "calls": calls,
        "failed_calls": sum(call.state in ("failed", "unknown") for call in calls),
        "credits": sum(call.credits or 0 for call in calls),
        "credits_held": sum(call.credits_reserved for call in calls if call.credits is None),
        "version": _version(run, calls, shown, deliveries, 0 if asks else timeline.elapsed),
        "changes_yet": not run.is_finished or any(row.state == Delivery.State.WAITING for row in deliveries),
        "deciders": queries.deciders(approval=run.approval) if run.waits_for_approval else [],
        "may_stop": request.membership.allows(Permission.RUN_STOP) and not run.is_finished,
        "may_start": request.membership.allows(Permission.RUN_START) and run.is_finished,
        "has_result": results.is_there(run),
        "deliveries": deliveries,
        "may_share": request.membership.allows(Permission.RUN_START),
        "may_decide": request.membership.allows(Permission.RUN_START),
        "may_audit": request.membership.allows(Permission.AUDIT_VIEW),
        "once": uuid4().hex,
    }


def _version(run: Run, calls: list[Call], shown: Row, deliveries: list[Delivery], elapsed: float) -> str:
    """
    What changes when the page would: a run at work each second, a finished one while its result is on its way.

    One that somebody is to decide stays as it is, so that nothing moves under whoever writes a note.
    """
    seconds = 0 if run.is_finished else int(elapsed)
    ended = sum(call.finished_at is not None for call in calls)
    delivered = "".join(f"-{row.state}{row.tries}" for row in deliveries)
    return f"{run.changes}-{seconds}-{len(calls)}-{ended}-{shown.stage.number}{delivered}"


def _shown_row(rows: list[Row], wanted: str) -> Row:
    """The stage the URL names; else the one that asks or failed, the last that has output, or the first."""
    by_number = {str(row.stage.number): row for row in rows}
    first = [row for row in rows if row.stage.waits_for_decision]
    first += [row for row in rows if row.stage.state == StageRun.State.FAILED]
    done = [row for row in rows if row.stage.output_content_id]
    return by_number.get(wanted) or next(iter([*first, *reversed(done), *rows]))


def _asking(run: Run, rows: list[Row]) -> Row | None:
    """The stage that waits for a member to decide."""
    waiting = [row for row in rows if row.stage.waits_for_decision]
    return waiting[0] if waiting and run.state == Run.State.PARKED else None


def run_or_404(request: HttpRequest, run_id: UUID) -> Run:
    """A run of the team that is no turn of a chat, with what its page names."""
    rows = request.team.runs.outside_chats().select_related(
        "flow", "flow_version", "firing__schedule", "user", "team", "approval", "again_of", "shared_by"
    )
    return get_object_or_404(rows, pk=run_id)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
