"""Pages about dollar caps: how each stands, a new one, another limit, the end."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from integrations import limiting, spending
from integrations.caps import resets_at
from integrations.dollars import in_dollars
from integrations.limit_forms import EACH, CapForm, LimitForm
from integrations.models import Cap
from integrations.spending import Used

Names = Mapping[str, Mapping[UUID, str]]
PERIOD_NOW = {"day": "today", "week": "this week", "month": "this month", "ever": "up to now"}


@dataclass(frozen=True, slots=True)
class CapRow:
    """A cap as a page shows it. Of a cap for each of its kind, the one that used most."""

    cap: Cap
    name: str
    fullest: str
    counters: int
    held: Decimal
    spent: Decimal
    resets_at: datetime | None

    @property
    def used(self) -> Decimal:
        return self.held + self.spent

    @property
    def left(self) -> Decimal:
        return max(Decimal(0), self.cap.limit_usd - self.used)

    @property
    def meter(self) -> dict[str, float]:
        """Numbers for a meter, which shows a full bar where nothing may be spent."""
        limit = float(self.cap.limit_usd) or 1.0
        value = float(self.used) if self.cap.limit_usd else limit
        return {"max": limit, "low": limit * 0.8, "high": limit * 0.95, "value": min(limit, value)}


@require_safe
@team_view(Permission.LIMIT_VIEW)
def limit_list(request: HttpRequest) -> HttpResponse:
    """Every live cap with what is spent, held and left in its period."""
    rows, now = _rows(request), app_now()
    bills = list(spending.unlike_bills(team=request.team, at=now))
    expects = any(row.cap.mode == Cap.Mode.EXPECTED for row in rows)
    context = {
        "rows": rows,
        "may_edit": request.membership.allows(Permission.LIMIT_EDIT),
        "may_audit": request.membership.allows(Permission.AUDIT_VIEW),
        "bills": bills,
        "overshoot": spending.overshoot_per_call(team=request.team) if expects else None,
        "expects": expects,
    }
    return render(request, "integrations/limit_list.html", context)


def _rows(request: HttpRequest) -> list[CapRow]:
    caps, now = list(request.team.caps.live()), app_now()
    if not caps:
        return []
    used, names = spending.used_by_cap(team=request.team, at=now), _names(request)
    kinds = list(Cap.Kind)
    rows = [_row(cap, used.get(cap.pk), names, now) for cap in caps]
    return sorted(rows, key=lambda row: (kinds.index(row.cap.kind), row.cap.subject is not None, row.name.casefold()))


def _row(cap: Cap, used: Used | None, names: Names, now: datetime) -> CapRow:
    held, spent, counters = (used.reserved_usd, used.spent_usd, used.counters) if used else (Decimal(0), Decimal(0), 0)
    fullest = _name_of(cap.kind, used.subject, names) if used and cap.subject is None and cap.kind != "team" else ""
    name = _name_of(cap.kind, cap.subject, names)
    return CapRow(cap, name, fullest, counters, held, spent, resets_at(cap.period, now))


def _names(request: HttpRequest) -> Names:
    """What can be limited by name: members, personas, flows."""
    members = request.team.memberships.select_related("user").order_by("user__name", "user__email")
    return {
        "member": {member.user_id: str(member.user) for member in members},
        "persona": dict(request.team.personas.order_by("name").values_list("id", "name")),
        "flow": dict(request.team.flows.order_by("name").values_list("id", "name")),
    }


def _name_of(kind: str, subject: UUID | None, names: Names) -> str:
    if kind == Cap.Kind.TEAM:
        return "The whole team"
    if subject is None:
        return EACH[kind]
    gone = f"A {kind} that is gone" if kind in names else f"Run {subject.hex[-8:]}"
    return names.get(kind, {}).get(subject, gone)


# --- new --------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@team_view(Permission.LIMIT_EDIT)
def limit_create(request: HttpRequest) -> HttpResponse:
    """Choose a cap, see in a sentence what it means, then set it."""
    names, preview = _names(request), ""
    form = CapForm(request.POST or None, names=names)
    if request.method == "POST" and form.is_valid():
        preview = _preview_new(request, form.cleaned_data, names)
        if request.POST.get("seen") == _seen(preview) and _set(request, form, names):
            messages.success(request, preview.partition(";")[0] + ", from now on")
            return redirect("limit_list", request.team.slug)
    context = {"form": form, "preview": preview, "seen": _seen(preview)}
    return render(request, "integrations/limit_create.html", context, status=422 if form.errors else 200)


def _set(request: HttpRequest, form: CapForm, names: Names) -> bool:
    data = {key: form.cleaned_data[key] for key in ("kind", "subject", "period", "limit_usd", "mode")}
    name = _name_of(data["kind"], data["subject"], names)
    try:
        limiting.set_cap(team=request.team, name=name, **data, by=request.user, at=app_now())
    except limiting.CapExists as refusal:
        form.add_error(None, str(refusal))
    return not form.errors


def _preview_new(request: HttpRequest, data: dict, names: Names) -> str:
    kind, subject, period = data["kind"], data["subject"], data["period"]
    name = _name_of(kind, subject, names)
    spent = spending.spent_so_far(team=request.team, kind=kind, subject=subject, period=period, at=app_now())
    sentence = limiting.cap_sentence(name=name, limit_usd=data["limit_usd"], period=period)
    mode = "strictly" if data["mode"] == Cap.Mode.STRICT else "by what calls are expected to cost"
    if spent is None:
        return f"{sentence}, counted {mode}."
    return f"{sentence}, counted {mode}; so far {PERIOD_NOW[period]} {in_dollars(spent)}."


def _seen(preview: str) -> str:
    """The part of a preview that its choices decide: what is set must be what was shown."""
    return preview.partition(";")[0].rstrip(".")


# --- change and end ---------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@team_view(Permission.LIMIT_EDIT)
def limit_edit(request: HttpRequest, cap_id: UUID) -> HttpResponse:
    """Choose another limit, see what it means, then change it."""
    cap, row, preview = *_cap_or_404(request, cap_id), ""
    limit = f"{cap.limit_usd.normalize():f}"
    form = LimitForm(request.POST or None, initial={"limit_usd": limit, "mode": cap.mode})
    if request.method == "POST" and form.is_valid():
        preview = _preview_change(row, form.cleaned_data)
        if request.POST.get("seen") == _seen(preview) and _change(request, cap, row.name, form):
            messages.success(request, preview.partition(";")[0] + ", from now on")
            return redirect("limit_list", request.team.slug)
    context = {"form": form, "row": row, "preview": preview, "seen": _seen(preview)}
    return render(request, "integrations/limit_edit.html", context, status=422 if form.errors else 200)


def _change(request: HttpRequest, cap: Cap, name: str, form: LimitForm) -> bool:
    try:
        limiting.change_cap(cap=cap, name=name, **form.cleaned_data, by=request.user, at=app_now())
    except limiting.CapEnded as refusal:
        form.add_error(None, str(refusal))
    return not form.errors


def _preview_change(row: CapRow, data: dict) -> str:
    sentence = limiting.cap_sentence(name=row.name, limit_usd=data["limit_usd"], period=row.cap.period)
    mode = "strictly" if data["mode"] == Cap.Mode.STRICT else "by what calls are expected to cost"
    used = f"{in_dollars(row.used)} {PERIOD_NOW[row.cap.period]}" + (f" by {row.fullest}" if row.fullest else "")
    stops = " The next calls are refused until it starts anew or is raised." if row.used >= data["limit_usd"] else ""
    return f"{sentence}, counted {mode}; used or held so far {used}.{stops}"


@require_http_methods(["GET", "HEAD", "POST"])
@team_view(Permission.LIMIT_EDIT)
def limit_end(request: HttpRequest, cap_id: UUID) -> HttpResponse:
    """Say what ending a cap means, then end it."""
    cap, row = _cap_or_404(request, cap_id)
    if request.method == "POST":
        try:
            limiting.end_cap(cap=cap, name=row.name, by=request.user, at=app_now())
            messages.success(request, "Cap ended")
        except limiting.CapEnded:
            messages.info(request, "This cap was ended already")
        return redirect("limit_list", request.team.slug)
    sentence = limiting.cap_sentence(name=row.name, limit_usd=cap.limit_usd, period=cap.period)
    return render(request, "integrations/limit_end.html", {"row": row, "sentence": sentence})


def _cap_or_404(request: HttpRequest, cap_id: UUID) -> tuple[Cap, CapRow]:
    cap, now = get_object_or_404(request.team.caps.live(), pk=cap_id), app_now()
    used = spending.used_by_cap(team=request.team, at=now).get(cap.pk)
    return cap, _row(cap, used, _names(request), now)
