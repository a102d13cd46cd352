"""
What a persona or a flow may do with the team's connections: the matrix, one grant, one tool in it.

Every change is previewed in sentences, and what is applied is what was previewed: the preview
carries it, signed, with a mark of the scopes that it was made from.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.defaultfilters import pluralize
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from integrations import actions as integrations
from integrations import lending
from integrations.actions import Change, ScopesChanged
from integrations.models import Connection
from integrations.queries import reach_of
from integrations.registry import Tool, UnknownTool
from integrations.scope_words import describe
from integrations.scopes import BadScopes, Rule, Scopes, ToolScope
from personas.forms import ScopesForm
from personas.matrix import Column, Holder, Matrix, column, matrix, with_rules
from personas.models import Flow
from personas.scope_forms import GrantForm, NotThisPreview, ToolScopeForm, open_preview, seal_preview
from personas.views.people import persona_or_404
from vault.actions import AlreadyRevoked

CONFLICT = 409
GRANT_PAGE, TOOL_PAGE = "personas/scopes_grant.html", "personas/scopes_tool.html"


# --- the addresses ----------------------------------------------------------------------


@require_GET
@team_view(Permission.PERSONA_VIEW)
def persona_matrix(request: HttpRequest, slug: str) -> HttpResponse:
    return _matrix_page(request, _persona(request, slug))


@require_POST
@team_view(Permission.PERSONA_EDIT)
def persona_matrix_preview(request: HttpRequest, slug: str) -> HttpResponse:
    return _preview_matrix(request, _persona(request, slug))


@require_POST
@team_view(Permission.PERSONA_EDIT)
def persona_scopes_apply(request: HttpRequest, slug: str) -> HttpResponse:
    return _apply(request, _persona(request, slug))


@require_http_methods(["GET", "POST"])
@team_view(Permission.PERSONA_EDIT)
def persona_scopes(request: HttpRequest, slug: str, connection_id: UUID) -> HttpResponse:
    return _grant_page(request, _persona(request, slug), connection_id)


@require_http_methods(["GET", "POST"])
@team_view(Permission.PERSONA_EDIT)
def persona_scope_tool(request: HttpRequest, slug: str, connection_id: UUID, tool: str) -> HttpResponse:
    return _tool_page(request, _persona(request, slug), connection_id, tool)


@require_GET
@team_view(Permission.FLOW_VIEW)
def flow_matrix(request: HttpRequest, slug: str) -> HttpResponse:
    return _matrix_page(request, _flow(request, slug))


@require_POST
@team_view(Permission.FLOW_EDIT)
def flow_matrix_preview(request: HttpRequest, slug: str) -> HttpResponse:
    return _preview_matrix(request, _flow(request, slug))


@require_POST
@team_view(Permission.FLOW_EDIT)
def flow_scopes_apply(request: HttpRequest, slug: str) -> HttpResponse:
    return _apply(request, _flow(request, slug))


@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def flow_scopes(request: HttpRequest, slug: str, connection_id: UUID) -> HttpResponse:
    return _grant_page(request, _flow(request, slug), connection_id)


@require_http_methods(["GET", "POST"])
@team_view(Permission.FLOW_EDIT)
def flow_scope_tool(request: HttpRequest, slug: str, connection_id: UUID, tool: str) -> HttpResponse:
    return _tool_page(request, _flow(request, slug), connection_id, tool)


def _persona(request: HttpRequest, slug: str) -> Holder:
    return Holder.of(persona_or_404(request, slug))


def _flow(request: HttpRequest, slug: str) -> Holder:
    flows: Any = request.team.flows
    flow: Flow = get_object_or_404(flows.filter(archived_at=None), slug=slug)
    return Holder.of(flow)


# --- the matrix -------------------------------------------------------------------------


def _matrix_page(
    request: HttpRequest,
    holder: Holder,
    *,
    preview: "Preview | None" = None,
    notice: str = "",
    status: int = 200,
    shown: Matrix | None = None,
) -> HttpResponse:
    may_edit = request.membership.allows(_right(holder, "EDIT"))
    context = _base(holder) | {
        "matrix": shown or matrix(team=request.team, holder=holder),
        "rules": list(Rule),
        "preview": preview,
        "notice": notice,
        "may_edit": may_edit,
        "may_connect": request.membership.allows(Permission.CONNECTION_MANAGE),
    }
    return render(request, "personas/scopes.html", context, status=status)


def _right(holder: Holder, verb: str) -> Permission:
    return Permission[f"{holder.kind.upper()}_{verb}"]


def _preview_matrix(request: HttpRequest, holder: Holder) -> HttpResponse:
    found = matrix(team=request.team, holder=holder)
    if any(_is_stale(request, each) for each in found.columns):
        return _matrix_page(request, holder, notice=CHANGED, status=CONFLICT, shown=found)
    asked = found.asked_for(request.POST)
    preview = _preview(request, holder, {each: with_rules(each, asked.rules(each)) for each in asked.columns})
    return _matrix_page(request, holder, preview=preview, notice="" if preview else NOTHING, shown=asked)


def _is_stale(request: HttpRequest, each: Column) -> bool:
    """Whether the page was made from other scopes. A connection that the page did not show is not."""
    seen = request.POST.get(f"seen-{each.connection.pk}")
    return seen is not None and seen != each.seen


# --- one grant --------------------------------------------------------------------------


def _grant_page(request: HttpRequest, holder: Holder, connection_id: UUID) -> HttpResponse:
    connection = _connection(request, connection_id)
    if request.method == "POST" and request.POST.get("do") == "tick":
        return _tick(request, holder, connection)
    lent = column(team=request.team, holder=holder, connection=connection)
    form = GrantForm(request.POST or None, team=request.team, scopes=lent.scopes, now=app_now())
    return _edit_page(request, holder, lent, form, form.scopes, GRANT_PAGE, _grant_context(lent, form))


def _grant_context(lent: Column, form: GrantForm) -> dict[str, Any]:
    on = {name for name, said in lent.scopes.tools.items() if said.rule is not Rule.OFF}
    return {"form": form, "reach": reach_of(lent.connection), "granted": on}


def _tick(request: HttpRequest, holder: Holder, connection: Connection) -> HttpResponse:
    """Switch on the ticked tools, without a preview: what a newcomer needs."""
    form = ScopesForm(request.POST, tools=connection.provider.tools)
    if not form.is_valid():
        return _matrix_page(request, holder, notice="There is no such tool. Nothing was changed.", status=422)
    tools = form.cleaned_data["tools"]
    if tools:
        integrations.enable_for(connection=connection, persona_id=holder.id, tools=tools, by=request.user)
        messages.success(request, f"{len(tools)} tool{pluralize(len(tools))} allowed")
    else:
        _take_away(request, holder, connection)
    return redirect(f"{holder.kind}_detail", request.team.slug, holder.slug)


def _take_away(request: HttpRequest, holder: Holder, connection: Connection) -> None:
    try:
        integrations.disable_for(connection=connection, persona_id=holder.id, by=request.user)
    except AlreadyRevoked:
        pass  # it had none: what was asked for is so
    messages.success(request, f"{connection.label} taken away")


# --- one tool ---------------------------------------------------------------------------


def _tool_page(request: HttpRequest, holder: Holder, connection_id: UUID, name: str) -> HttpResponse:
    connection = _connection(request, connection_id)
    tool = _tool(connection, name)
    lent = column(team=request.team, holder=holder, connection=connection)
    said = lent.scopes.tools.get(name, ToolScope(rule=Rule.OFF))
    text = json.dumps(said.pinned, indent=2, ensure_ascii=False) if said.pinned else ""
    form = ToolScopeForm(request.POST or None, tool=tool, said=said, pinned_text=text)

    def wanted() -> Scopes:
        return lent.scopes.model_copy(update={"tools": lent.scopes.tools | {name: form.said()}})

    return _edit_page(request, holder, lent, form, wanted, TOOL_PAGE, {"form": form, "tool": tool})


def _connection(request: HttpRequest, connection_id: UUID) -> Connection:
    return get_object_or_404(request.team.connections.live(), pk=connection_id)


def _tool(connection: Connection, name: str) -> Tool:
    try:
        return connection.provider.tool(name)
    except UnknownTool:
        raise Http404 from None


def _edit_page(
    request: HttpRequest,
    holder: Holder,
    lent: Column,
    form: Form,
    wanted: Callable[[], Scopes],
    template: str,
    context: dict[str, Any],
) -> HttpResponse:
    """Show a form about one grant; when it was posted, with what it would change."""
    context |= _base(holder) | {"column": lent, "connection": lent.connection}
    if request.method != "POST":
        return render(request, template, context)
    if _is_stale(request, lent):
        return _matrix_page(request, holder, notice=CHANGED, status=CONFLICT)
    if not form.is_valid():
        return render(request, template, context, status=422)
    preview = _preview(request, holder, {lent: wanted()})
    return render(request, template, context | {"preview": preview, "notice": "" if preview else NOTHING})


# --- preview and apply ------------------------------------------------------------------

CHANGED = "Somebody changed these scopes meanwhile. Nothing was applied; what you see is how they are now."
EXPIRED = "This preview is too old, or was made elsewhere. Nothing was applied: preview the change again."
NOTHING = "Nothing would change."


@dataclass(frozen=True, slots=True)
class Preview:
    """What would change, by connection, and the change itself, signed."""

    changes: list[tuple[Connection, list[str]]]
    sealed: str


def _preview(request: HttpRequest, holder: Holder, wanted: Mapping[Column, Scopes]) -> Preview | None:
    changed = {each: after for each, after in wanted.items() if after != each.scopes}
    said = [(each.connection, _sentences(holder, each, after)) for each, after in changed.items()]
    carried = {
        str(each.connection.pk): {"seen": each.seen, "scopes": after.as_json()} for each, after in changed.items()
    }
    return Preview(said, seal_preview(_place(request, holder), carried)) if changed else None


def _sentences(holder: Holder, each: Column, after: Scopes) -> list[str]:
    return describe(each.granted, after, name=holder.name, titles=lending.titles(each.connection.provider))


def _place(request: HttpRequest, holder: Holder) -> list[str]:
    return [str(request.team.pk), str(holder.id), str(request.user.pk)]


def _apply(request: HttpRequest, holder: Holder) -> HttpResponse:
    try:
        carried = open_preview(_place(request, holder), request.POST.get("preview", ""))
        changes = _changes(request, carried)
        integrations.set_all_scopes(changes=changes, holder=holder.id, name=holder.name, by=request.user)
    except NotThisPreview:
        return _matrix_page(request, holder, notice=EXPIRED, status=CONFLICT)
    except ScopesChanged:
        return _matrix_page(request, holder, notice=CHANGED, status=CONFLICT)
    except BadScopes as refusal:
        return _matrix_page(request, holder, notice=f"Nothing was applied. {refusal}", status=CONFLICT)
    messages.success(request, "Scopes changed")
    return redirect(f"{holder.kind}_matrix", request.team.slug, holder.slug)


def _changes(request: HttpRequest, carried: Mapping[str, Mapping[str, Any]]) -> list[Change]:
    live = {str(row.pk): row for row in request.team.connections.live().filter(pk__in=carried)}
    if live.keys() != carried.keys():
        raise ScopesChanged
    return [
        Change(live[pk], lending.read_or_none(each["scopes"]) or Scopes(), each["seen"]) for pk, each in carried.items()
    ]


def _base(holder: Holder) -> dict[str, Any]:
    """What every page of scopes needs: whose they are, and the names of its pages."""
    kinds = {"list": "list", "detail": "detail", "matrix": "matrix", "preview": "matrix_preview"}
    kinds |= {"apply": "scopes_apply", "grant": "scopes", "tool": "scope_tool"}
    return {"holder": holder, "pages": {name: f"{holder.kind}_{page}" for name, page in kinds.items()}}
