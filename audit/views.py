"""The log's pages: find events, read one, take them away."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.permissions import Permission
from accounts.teams import team_view
from audit import display, export, queries
from audit.actions import Actor, record
from audit.clock import app_now
from audit.forms import FilterForm
from audit.models import Content, Event
from definable.fragments import render_fragment, wants_fragment
from vault.content import open_content
from vault.errors import Unreadable

FORMATS = {"jsonl": ("application/x-ndjson", export.json_lines), "csv": ("text/csv", export.csv_lines)}
PROBLEM_STATUS = {"filter": 422, "format": 422, "cursor": 400, "too much": 503}


# --- the list ---------------------------------------------------------------------------


@require_safe
@team_view(Permission.AUDIT_VIEW)
def event_list(request: HttpRequest) -> HttpResponse:
    form = FilterForm(request.GET, team=request.team)
    entry = _entry_id(request)
    if entry and wants_fragment(request):
        return render(request, "audit/_drawer.html", _entry(request, form, entry))
    context = _listing(request, form)
    if entry:
        context |= _entry(request, form, entry)
    status = PROBLEM_STATUS.get(context["problem"], 200)
    return render_fragment(request, "audit/event_list.html", "audit/_events.html", context, status=status)


def _listing(request: HttpRequest, form: FilterForm) -> dict[str, object]:
    if not form.is_valid():
        return _frame(request, form) | {"problem": "filter"}
    newer, older = request.GET.get("newer", ""), request.GET.get("older", "")
    given = form.as_filter(timezone.now())
    try:
        page = queries.event_page(given, cursor=newer or older, direction="newer" if newer else "older")
    except queries.BadCursor:
        return _frame(request, form) | {"problem": "cursor"}
    except queries.TooMuch:
        return _frame(request, form) | {"problem": "too much", "ranges": form.shorter_ranges()}
    unused = not page.events and not queries.has_events(team_id=request.team.pk)
    return _frame(request, form) | {"page": page, "unused": unused} | _pager(request, form, page)


def _frame(request: HttpRequest, form: FilterForm) -> dict[str, object]:
    """What the list shows whether or not there is anything to list."""
    form.offer()
    return {
        "form": form,
        "problem": "",
        "list_url": _list_url(request),
        "here": form.query(**_place(request)),
        "may_export": request.membership.allows(Permission.AUDIT_EXPORT),
    }


def _pager(request: HttpRequest, form: FilterForm, page: queries.Page) -> dict[str, str]:
    base = _list_url(request)
    return {
        "newer_url": f"{base}?{form.query(newer=page.newer)}" if page.newer else "",
        "older_url": f"{base}?{form.query(older=page.older)}" if page.older else "",
    }


def _list_url(request: HttpRequest) -> str:
    return reverse("event_list", args=[request.team.slug])


def _place(request: HttpRequest) -> dict[str, str]:
    """Which page of the list this is, as the address says it."""
    return {name: request.GET.get(name, "") for name in ("newer", "older")}


# --- one event --------------------------------------------------------------------------


@require_safe
@team_view(Permission.AUDIT_VIEW)
def event_detail(request: HttpRequest, event_id: UUID) -> HttpResponse:
    form = FilterForm(request.GET, team=request.team)
    context = _entry(request, form, event_id) | {"form": form}
    return render(request, "audit/event_detail.html", context, status=403 if context["refused"] else 200)


def _entry_id(request: HttpRequest) -> UUID | None:
    """Return which entry the drawer shows. Raises Http404 for what cannot be one."""
    text = request.GET.get("entry", "")
    try:
        return UUID(text) if text else None
    except ValueError:
        raise Http404 from None


def _entry(request: HttpRequest, form: FilterForm, event_id: UUID) -> dict[str, object]:
    event = queries.find_event(team_id=request.team.pk, event_id=event_id)
    if event is None:
        raise Http404
    related = queries.events_of_call(team_id=event.team_id, call_id=event.call_id) if event.call_id else [event]
    has_content = any(each.content_id for each in related)
    may_read = request.membership.allows(Permission.AUDIT_READ_CONTENT)
    wanted = has_content and request.GET.get("content") == "1"
    newer, older = _neighbours(form, event)
    return {
        "event": event,
        "at_utc": export.row_of(event, request.team.slug)["at"],
        "facts": display.facts_of(event.details),
        "why": display.why_of(event.details),
        "canonical": display.visible(bytes(event.canon).decode()),
        "related": related,
        "call": request.team.calls.filter(pk=event.call_id).first() if event.call_id else None,
        "has_content": has_content,
        "may_read": may_read,
        "refused": wanted and not may_read,
        "readings": _read(request, event, related) if wanted and may_read else None,
        "newer": newer,
        "older": older,
        "list_url": _list_url(request),
        "here": form.query(**_place(request)),
    }


def _neighbours(form: FilterForm, event: Event) -> tuple[Event | None, Event | None]:
    """Return the events beside this one under the same filters; none where finding them takes too long."""
    if not form.is_valid():
        return None, None
    try:
        return queries.neighbours(form.as_filter(timezone.now()), event)
    except queries.TooMuch:
        return None, None


def _read(request: HttpRequest, event: Event, related: Sequence[Event]) -> list[display.Reading]:
    """Open the content of an event and write down who read it; without that entry nothing is shown."""
    opened = [(content, _open(content)) for content in queries.contents_of(related)]
    readable = [(content, data) for content, data in opened if data is not None]
    if readable:
        _record_reading(request, event, [content for content, _ in readable])
    return [display.read(content.kind, content.sha256, data) for content, data in readable]


def _open(content: Content) -> bytes | None:
    try:
        return open_content(content=content)
    except Unreadable:
        return None


def _record_reading(request: HttpRequest, event: Event, contents: Iterable[Content]) -> None:
    record(
        "audit.content.read",
        actor=Actor.user(request.user),
        team_id=event.team_id,
        target=f"call:{event.call_id}" if event.call_id else f"event:{event.pk}",
        target_name=event.tool,
        persona_id=event.persona_id,
        persona_name=event.persona_name,
        run_id=event.run_id,
        details={"contents": [str(content.pk) for content in contents]},
    )


# --- the export -------------------------------------------------------------------------


@require_POST
@team_view(Permission.AUDIT_EXPORT)
def event_export(request: HttpRequest) -> HttpResponseBase:
    form, format = FilterForm(request.GET, team=request.team), request.POST.get("format", "jsonl")
    if not form.is_valid() or format not in FORMATS:
        problem = "filter" if form.errors else "format"
        context = _frame(request, form) | {"problem": problem}
        return render(request, "audit/event_list.html", context, status=PROBLEM_STATUS[problem])
    now = app_now()
    given = form.as_filter(now)
    record(
        "audit.events.exported",
        at=now,
        actor=Actor.user(request.user),
        team_id=request.team.pk,
        target=f"team:{request.team.pk}",
        target_name=request.team.name,
        details={"format": format, "filter": form.query()},
    )
    # Up to now, so that an export of a busy log ends, and does not hold itself.
    events = queries.exported_events(replace(given, until=min(given.until or now, now)))
    return _download(events, request.team.slug, format)


def _download(events: Iterable[Event], slug: str, format: str) -> StreamingHttpResponse:
    content_type, lines = FORMATS[format]
    headers = {"Content-Disposition": f'attachment; filename="{slug}-audit.{format}"'}
    return StreamingHttpResponse(lines(events, lambda _: slug), content_type=content_type, headers=headers)
