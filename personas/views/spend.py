"""What a team spends: by day and by what it can be told apart by, the calls behind each number, and as a file."""

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts.permissions import Permission
from accounts.queries import account_of_month
from accounts.teams import team_view
from audit.clock import app_now
from audit.export import Row, csv_table
from audit.schema import next_month
from integrations import spend_queries
from integrations.spend_queries import NAMES, Asked, Group, Key
from personas import runway, spend_report

RANGES = {"7d": "Last 7 days", "30d": "Last 30 days", "90d": "Last 90 days", "month": "This month"}
DIMENSIONS = {
    "persona": "Persona",
    "flow": "Flow",
    "member": "Member",
    "model": "Model",
    "provider": "Provider",
    "tool": "Tool",
    "day": "Day",
}
UNITS = {"usd": "US dollars", "credits": "Platform credits"}
MOST = 254  # characters of what something is called
NONE = "-"  # in an address: those of no persona, flow and so on
COLUMNS = ("day", "by", "id", "name", *NAMES)


class SpendForm(forms.Form):
    """What is asked for by the address. What is left out is the usual: 30 days, by persona, in US dollars."""

    range = forms.ChoiceField(choices=list(RANGES.items()), initial="30d")
    by = forms.ChoiceField(choices=list(DIMENSIONS.items()), initial="persona", label="Told apart by")
    money = forms.ChoiceField(choices=list(UNITS.items()), initial="usd", label="In")

    def __init__(self, data: Any):
        given = {name: field.initial for name, field in self.base_fields.items()}
        super().__init__(given | {name: data[name] for name in (*given, *DIMENSIONS) if data.get(name)})

    def clean(self) -> dict[str, Any]:
        self.only: dict[str, Key] = {}
        for name in DIMENSIONS:
            if name in self.data:
                self.only[name] = self._key(name, self.data[name])
        return self.cleaned_data

    def _key(self, name: str, text: str) -> Key:
        if text == NONE:
            return None if name in ("persona", "flow") else ""
        try:
            return {"persona": UUID, "flow": UUID, "day": date.fromisoformat}.get(name, _as_text)(text)
        except ValueError:
            self.add_error(None, f"“{text[:80]}” names no {name}. Remove it from the address, or begin anew.")
            return None

    def asked(self, team: Any, today: date) -> Asked:
        length = self.cleaned_data["range"]
        first = today.replace(day=1) if length == "month" else today - timedelta(days=int(length[:-1]) - 1)
        return Asked(team, first, today, self.only)

    @property
    def kept(self) -> list[tuple[str, str]]:
        """The filters, for a form that is sent again."""
        return [(name, self.data[name]) for name in self.only]

    def query(self, **more: str) -> str:
        """The address's query of the same thing, with something else in it. Nothing is left out."""
        return urlencode({name: value for name, value in (self.data | more).items() if value})


def _as_text(text: str) -> str:
    if len(text) > MOST:
        raise ValueError
    return text


@require_safe
@team_view(Permission.SPEND_VIEW)
def spend(request: HttpRequest) -> HttpResponse:
    form, today = SpendForm(request.GET), _today(request)
    context = {"form": form, "base": _url(request, "spend"), "dimensions": DIMENSIONS}
    if not form.is_valid():
        return render(request, "personas/spend.html", context, status=422)
    by, unit = form.cleaned_data["by"], form.cleaned_data["money"]
    asked = form.asked(request.team, today)
    report = spend_report.make_report(asked, by, unit, today)
    context |= {
        "asked": asked,
        "by": DIMENSIONS[by],
        "unit": unit,
        "range": RANGES[form.cleaned_data["range"]],
        "report": report,
        "change": report.change(unit),
        "rows": [_row(request, form, by, group) for group in report.groups],
        "filters": _filters(form, asked),
        "calls_url": _calls_url(request, form),
        "exports": [(kind, f"{_url(request, 'spend_export')}?{form.query(format=kind)}") for kind in FORMATS],
    }
    return render(request, "personas/spend.html", context | _left(request, unit))


def _row(request: HttpRequest, form: SpendForm, by: str, group: Group) -> dict[str, Any]:
    key = {by: NONE if group.key in (None, "") else str(group.key)}
    narrower = "model" if by != "model" else "persona"
    return {
        "group": group,
        "url": f"{_url(request, 'spend')}?{form.query(by=narrower, **key)}",
        "calls_url": _calls_url(request, form, **key),
    }


def _filters(form: SpendForm, asked: Asked) -> list[dict[str, str]]:
    """Those that are set: in words, and the address without each."""
    return [
        {"label": DIMENSIONS[name], "words": spend_report.words_of(asked, name), "without": form.query(**{name: ""})}
        for name in form.only
    ]


def _left(request: HttpRequest, unit: str) -> dict[str, Any]:
    """What there is to spend: of the plan in platform credits, at the provider in US dollars."""
    if unit == "usd":
        return {"connections": request.team.connections.live().order_by("created_at")[:20]}
    now = app_now()
    account = account_of_month(team=request.team, month=now.date().replace(day=1))
    until = next_month(now)
    end = runway.end_of(account.left, runway.firings_of(request.team, now, until))
    return {"account": account, "end": end, "until": until}


def _calls_url(request: HttpRequest, form: SpendForm, **key: str) -> str:
    """The calls behind a number, for those who may read the log; empty for others."""
    if not request.membership.allows(Permission.AUDIT_VIEW):
        return ""
    return f"{_url(request, 'spend_calls')}?{form.query(**key)}"


def _url(request: HttpRequest, name: str) -> str:
    return reverse(name, args=[request.team.slug])


def _today(request: HttpRequest) -> date:
    return app_now().astimezone(ZoneInfo(request.team.zone)).date()


# --- the calls behind a number ----------------------------------------------------------


@require_safe
@team_view(Permission.AUDIT_VIEW)
def spend_calls(request: HttpRequest) -> HttpResponse:
    form, today = SpendForm(request.GET), _today(request)
    back = f"{_url(request, 'spend')}?{form.query()}"
    if not form.is_valid():
        return render(request, "personas/spend_calls.html", {"form": form, "back": back}, status=422)
    asked = form.asked(request.team, today)
    page = spend_queries.call_page(asked, request.GET.get("older", ""))
    total = sum(spend_queries.by_day(asked).values(), spend_queries.Figures())
    older = f"{_url(request, 'spend_calls')}?{form.query(older=page.older)}" if page.older else ""
    context = {"form": form, "back": back, "asked": asked, "page": page, "total": total, "older": older}
    context |= {"filters": _filters(form, asked), "base": _url(request, "spend_calls"), "may_audit": True}
    return render(request, "personas/spend_calls.html", context)


# --- as a file --------------------------------------------------------------------------


@require_safe
@team_view(Permission.SPEND_VIEW)
def spend_export(request: HttpRequest) -> HttpResponseBase:
    form, kind = SpendForm(request.GET), request.GET.get("format", "csv")
    if kind not in FORMATS:
        return HttpResponse("Say format=csv or format=jsonl.", status=422, content_type="text/plain")
    if not form.is_valid():
        return HttpResponse(form.errors.as_text(), status=422, content_type="text/plain")
    asked, by = form.asked(request.team, _today(request)), form.cleaned_data["by"]
    content_type, write = FORMATS[kind]
    found = spend_queries.by_day_and_group(asked, by)
    names = {group.key: group.name for group in spend_report.named(asked, by, [group for _, group in found])}
    rows = (_exported(day, by, group, names[group.key]) for day, group in found)
    response = StreamingHttpResponse(write(rows), content_type=content_type)
    response["Content-Disposition"] = (
        f'attachment; filename="spend-{request.team.slug}-{asked.first}-{asked.last}.{kind}"'
    )
    return response


def _exported(day: date, by: str, group: Group, name: str) -> Row:
    figures = {each: getattr(group.figures, each) for each in NAMES}
    figures["cost_usd"] = f"{figures['cost_usd'].normalize():f}"
    return {"day": str(day), "by": by, "id": "" if group.key is None else str(group.key), "name": name, **figures}


def _csv(rows: Iterable[Row]) -> Iterator[str]:
    return csv_table(COLUMNS, rows)


def _json_lines(rows: Iterable[Row]) -> Iterator[str]:
    return (json.dumps(row) + "\n" for row in rows)


FORMATS: dict[str, tuple[str, Callable[[Iterable[Row]], Iterator[str]]]] = {
    "csv": ("text/csv", _csv),
    "jsonl": ("application/x-ndjson", _json_lines),
}
