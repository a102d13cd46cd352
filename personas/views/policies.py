"""
What a team, a persona or a flow asks of providers, and what a change of it would do.

The effect is worked out before anything is applied; what is applied is what was looked at: the preview
carries the rules and a mark of those that it was made from.
"""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from integrations.policy import Rules, merge
from integrations.policy.endpoints import per_million
from integrations.policy.words import sentences_with_source
from integrations.policy_actions import (
    PolicyChanged,
    PolicyLoosens,
    fingerprint,
    kept_policies,
    policies_by_holder,
    readable,
    set_policy,
)
from personas.models import Flow
from personas.policy_effect import FLOOR, Policies, PolicyHolder, effect_of, policies_of
from personas.policy_forms import PolicyForm
from personas.policy_shown import change_of
from personas.views.people import persona_or_404

CONFLICT = 409
CHANGED = "Somebody changed this policy meanwhile. Nothing was applied; what you see is how it is now."


# --- the addresses ----------------------------------------------------------------------


@require_GET
@team_view(Permission.LIMIT_VIEW)
def policy_team(request: HttpRequest) -> HttpResponse:
    return _page(request, PolicyHolder.of(request.team))


@require_POST
@team_view(Permission.LIMIT_EDIT)
def policy_team_apply(request: HttpRequest) -> HttpResponse:
    return _apply(request, PolicyHolder.of(request.team))


@require_GET
@team_view(Permission.PERSONA_VIEW)
def persona_policy(request: HttpRequest, slug: str) -> HttpResponse:
    return _page(request, PolicyHolder.of(persona_or_404(request, slug)))


@require_POST
@team_view(Permission.PERSONA_EDIT)
def persona_policy_apply(request: HttpRequest, slug: str) -> HttpResponse:
    return _apply(request, PolicyHolder.of(persona_or_404(request, slug)))


@require_GET
@team_view(Permission.FLOW_VIEW)
def flow_policy(request: HttpRequest, slug: str) -> HttpResponse:
    return _page(request, _flow(request, slug))


@require_POST
@team_view(Permission.FLOW_EDIT)
def flow_policy_apply(request: HttpRequest, slug: str) -> HttpResponse:
    return _apply(request, _flow(request, slug))


def _flow(request: HttpRequest, slug: str) -> PolicyHolder:
    flow: Flow = get_object_or_404(request.team.flows.filter(archived_at=None), slug=slug)
    return PolicyHolder.of(flow)


def address(request: HttpRequest, holder: PolicyHolder, *, apply: bool = False) -> str:
    """The page of a holder's policy, or where a change of it is sent."""
    name = ("policy_team" if holder.kind == "team" else f"{holder.kind}_policy") + ("_apply" if apply else "")
    return reverse(name, args=[request.team.slug, *([holder.slug] if holder.slug else [])])


def may_edit(request: HttpRequest, holder: PolicyHolder) -> bool:
    """Whether who asks may change a holder's policy."""
    right = Permission.LIMIT_EDIT if holder.kind == "team" else Permission[f"{holder.kind.upper()}_EDIT"]
    return request.membership.allows(right)


# --- the page ---------------------------------------------------------------------------


def _page(request: HttpRequest, holder: PolicyHolder) -> HttpResponse:
    typed = request.GET if "preview" in request.GET else None
    return _render(request, holder, typed)


def _render(
    request: HttpRequest,
    holder: PolicyHolder,
    typed: Any,
    *,
    notice: str = "",
    problems: list[str] | None = None,
    status: int = 200,
) -> HttpResponse:
    rows = policies_by_holder(team=request.team)
    kept = {each: row.rules for each, row in rows.items()}
    policies = policies_of(request.team, holder, kept)
    before = policies.kept.get(holder.id, Rules())
    floor = None if holder.kind == "team" else policies.kept.get(request.team.pk, Rules())
    form = PolicyForm(typed, rules=before, floor=floor)
    if typed is not None and not form.is_valid() and status == 200:
        status = 422
    changed = form.rules != before
    effect = effect_of(request.team, holder, form.rules, policies)
    context = {
        "holder": holder,
        "form": form,
        "effect": effect,
        "cheapest_in": effect.cheapest and per_million(effect.cheapest.prices.tokens_in),
        "cheapest_out": effect.cheapest and per_million(effect.cheapest.prices.tokens_out),
        "said": _said(policies.with_rules(holder, form.rules), holder),
        "carried": _carried(typed) if typed is not None and changed and not form.errors else None,
        "seen": fingerprint(kept.get(holder.id)),
        "may_edit": may_edit(request, holder),
        "notice": notice,
        "problems": problems or [],
        "page": address(request, holder),
        "apply": address(request, holder, apply=True),
        **change_of(rows.get(holder.id)),
    }
    template = "personas/_policy_effect.html" if request.htmx else "personas/policy.html"
    return render(request, template, context, status=200 if request.htmx else status)


def _said(policies: Policies, holder: PolicyHolder) -> list[tuple[str, str]]:
    """Every rule that would count, with who set it."""
    sources = [(FLOOR, policies.kept.get(policies.team_id, Rules()))]
    if holder.kind != "team":
        sources.append((holder.source, policies.kept.get(holder.id, Rules())))
    return sentences_with_source(merge(sources))


def _carried(typed: Any) -> list[tuple[str, str]]:
    """What was typed, for the form that applies it."""
    return [(name, typed.get(name, "")) for name in PolicyForm(rules=Rules(), floor=None).fields]


# --- apply ------------------------------------------------------------------------------


def _apply(request: HttpRequest, holder: PolicyHolder) -> HttpResponse:
    floor = (
        None
        if holder.kind == "team"
        else readable(kept_policies(team=request.team, holders=[request.team.pk]).get(request.team.pk))
    )
    form = PolicyForm(request.POST, rules=Rules(), floor=floor)
    if not form.is_valid():
        return _render(request, holder, request.POST)
    try:
        set_policy(
            team=request.team,
            holder=holder.id,
            name=holder.name,
            rules=form.rules,
            by=request.user,
            seen=request.POST.get("seen"),
        )
    except PolicyLoosens as refusal:
        return _render(request, holder, request.POST, problems=refusal.problems, status=422)
    except PolicyChanged:
        return _render(request, holder, None, notice=CHANGED, status=CONFLICT)
    messages.success(request, "Policy changed")
    return redirect(_back(request, holder))


def _back(request: HttpRequest, holder: PolicyHolder) -> str:
    """To the rule that was tried, for who came from there; else to the policy."""
    if tried := request.POST.get("tried"):
        return f"{reverse('retention', args=[request.team.slug])}?{QueryDict(tried).urlencode()}"
    return address(request, holder)
