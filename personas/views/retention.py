"""What a rule about retention would change: tried on the last 30 days, before anyone is affected by it."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Value
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from audit.export import csv_table
from integrations.models import Policy
from integrations.policy import Rules
from integrations.policy_actions import fingerprint, policies_by_holder
from personas import retention_shown
from personas.policy_effect import REPLAYED_DAYS, Policies, PolicyHolder, policies_of
from personas.policy_forms import as_typed
from personas.policy_shown import change_of
from personas.retention_forms import RetentionForm
from personas.retention_impact import Impact, impact_of
from personas.views.policies import address, may_edit

KINDS = ("persona", "flow")
MOST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Tried:
    """A rule that was read from the address, whose it is, and what it would do."""

    holder: PolicyHolder
    in_force: Policy | None
    policies: Policies
    rules: Rules
    impact: Impact

    @property
    def before(self) -> Rules:
        return self.policies.kept.get(self.holder.id, Rules())


@require_safe
@team_view(Permission.LIMIT_VIEW)
def retention(request: HttpRequest) -> HttpResponse:
    form = _form(request)
    tried = _try(request, form)
    template = "personas/_retention_impact.html" if request.htmx else "personas/retention.html"
    context = {"form": form, "page": reverse("retention", args=[request.team.slug])}
    if tried is None:
        return render(request, template, context, status=200 if request.htmx else 422)
    return render(request, template, context | _impact(request, form, tried) | _in_force(request, tried))


@require_safe
@team_view(Permission.LIMIT_VIEW)
def retention_export(request: HttpRequest) -> HttpResponseBase:
    form = _form(request)
    tried = _try(request, form)
    if tried is None:
        return HttpResponse(form.errors.as_text(), status=422, content_type="text/plain")
    rows = retention_shown.exported(retention_shown.shown(tried.impact, _names(tried.policies)))
    response = StreamingHttpResponse(csv_table(retention_shown.COLUMNS, rows), content_type="text/csv")
    response["Content-Disposition"] = f'attachment; filename="retention-{request.team.slug}-{tried.impact.last}.csv"'
    return response


def _form(request: HttpRequest) -> RetentionForm:
    personas, flows = (
        things.filter(archived_at=None).annotate(kind=Value(kind)).order_by().values_list("kind", "slug", "name")
        for kind, things in (("persona", request.team.personas), ("flow", request.team.flows))
    )
    found = list(personas.union(flows).order_by("name", "slug"))
    scopes = {wanted: [(f"{kind}:{slug}", name) for kind, slug, name in found if kind == wanted] for wanted in KINDS}
    return RetentionForm(request.GET, personas=scopes["persona"], flows=scopes["flow"])


def _try(request: HttpRequest, form: RetentionForm) -> Tried | None:
    """What the rule of a form would do; None where the form says what is wrong with it."""
    if not form.is_valid():
        return None
    holder = _holder(request, *form.whose)
    kept = policies_by_holder(team=request.team)
    policies = policies_of(request.team, holder, {each: row.rules for each, row in kept.items()})
    floor = None if holder.kind == "team" else policies.kept.get(request.team.pk)
    rules = form.rules(policies.kept.get(holder.id, Rules()), floor)
    if form.errors:
        return None
    impact = impact_of(request.team, holder, rules, policies, _days(request))
    return Tried(holder, kept.get(holder.id), policies, rules, impact)


def _holder(request: HttpRequest, kind: str, slug: str) -> PolicyHolder:
    if kind == "team":
        return PolicyHolder.of(request.team)
    things = {"persona": request.team.personas, "flow": request.team.flows}[kind]
    return PolicyHolder.of(get_object_or_404(things.filter(archived_at=None), slug=slug))


def _days(request: HttpRequest) -> tuple[date, date]:
    today = app_now().astimezone(ZoneInfo(request.team.zone)).date()
    return today - timedelta(days=REPLAYED_DAYS - 1), today


def _names(policies: Policies) -> dict[str, str]:
    return {slug: provider.name for slug, provider in policies.known.providers.items()}


# --- what is shown ----------------------------------------------------------------------


def _impact(request: HttpRequest, form: RetentionForm, tried: Tried) -> dict[str, Any]:
    impact = tried.impact
    rows = retention_shown.shown(impact, _names(tried.policies))
    affected = [row for row in rows if row.of.outcome != "same"]
    listed = rows if request.GET.get("rows") == "all" else affected
    return {
        "holder": tried.holder,
        "impact": impact,
        "latency_now": impact.latency_ms(after=False),
        "latency_after": impact.latency_ms(after=True),
        "uptime_now": impact.weakest_uptime(after=False),
        "uptime_after": impact.weakest_uptime(after=True),
        "verdicts": [each for kind in KINDS if (each := retention_shown.verdict(impact, kind))],
        "shift": retention_shown.shift(impact),
        "rows": listed[:MOST_ROWS],
        "tells_latency": any(each.latency_ms for row in listed for each in (row.now, row.after)),
        "more": len(listed) - MOST_ROWS,
        "unchanged": len(rows) - len(affected),
        "lists_all": listed is rows,
        "read_at": tried.policies.known.read_at,
        "query": form.query,
    }


def _in_force(request: HttpRequest, tried: Tried) -> dict[str, Any]:
    """What is in force, and what applying or undoing would send."""
    holder = tried.holder
    return {
        "changes": tried.rules != tried.before,
        "carried": list(as_typed(tried.rules).items()),
        "seen": fingerprint(tried.in_force and tried.in_force.rules),
        "may_edit": may_edit(request, holder),
        "apply": address(request, holder, apply=True),
        "policy_page": address(request, holder),
        **change_of(tried.in_force),
    }
