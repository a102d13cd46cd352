"""Pages to connect integrations, see what a key reaches, and take it away."""

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from definable.fragments import render_fragment
from integrations import actions, at_once, queries
from integrations.forms import CallsAtOnceForm, ConnectForm
from integrations.models import Connection
from integrations.registry import Integration, UnknownTool, get_integration, integrations
from vault.actions import AlreadyRevoked, LabelTaken
from vault.models import Credential


@require_GET
@team_view(Permission.CONNECTION_VIEW)
def integration_list(request: HttpRequest) -> HttpResponse:
    connections = list(request.team.connections.live())
    rows = [(each, [row for row in connections if row.integration == each.slug]) for each in integrations()]
    return render(request, "integrations/integration_list.html", {"rows": rows})


@require_GET
@team_view(Permission.CONNECTION_VIEW)
def integration_detail(request: HttpRequest, integration: str) -> HttpResponse:
    found = _integration_or_404(integration)
    return render(request, "integrations/integration_detail.html", _about(request, found))


@require_http_methods(["GET", "POST"])
@sensitive_post_parameters()  # which of them are secret, each integration says for itself
@team_view(Permission.CONNECTION_MANAGE)
def connection_create(request: HttpRequest, integration: str) -> HttpResponse:
    found = _integration_or_404(integration)
    form = ConnectForm(request.POST or None, integration=found, initial={"label": found.first_label})
    if form.is_valid() and (connection := _connect(request, found, form)):
        if form.made:
            return _show_made(request, connection, form.made)
        return redirect("connection_detail", request.team.slug, connection.pk)
    status = 422 if form.errors else 200
    return render(request, "integrations/connection_create.html", {"integration": found, "form": form}, status=status)


@require_GET
@team_view(Permission.CONNECTION_VIEW)
def connection_detail(request: HttpRequest, connection_id: UUID) -> HttpResponse:
    connection = _connection_or_404(request, connection_id)
    return render_fragment(
        request,
        "integrations/connection_detail.html",
        "integrations/_connection.html",
        _facts(request, connection),
    )


@require_POST
@team_view(Permission.CONNECTION_MANAGE)
def connection_test(request: HttpRequest, connection_id: UUID) -> HttpResponse:
    connection = _connection_or_404(request, connection_id)
    if connection.is_live:
        actions.ask_for_test(connection=connection, by=request.user)
    return redirect("connection_detail", request.team.slug, connection.pk)


@require_POST
@team_view(Permission.CONNECTION_MANAGE)
def connection_at_once(request: HttpRequest, connection_id: UUID) -> HttpResponse:
    connection = _connection_or_404(request, connection_id)
    form = CallsAtOnceForm(request.POST)
    if form.is_valid():
        at_once.set_calls_at_once(connection=connection, most=form.cleaned_data["most"], by=request.user)
        messages.success(request, "Limit saved")
    else:
        messages.error(request, form.errors["most"][0])
    return redirect("connection_detail", request.team.slug, connection.pk)


@require_http_methods(["GET", "POST"])
@team_view(Permission.CREDENTIAL_REVOKE)
def connection_revoke(request: HttpRequest, connection_id: UUID) -> HttpResponse:
    connection = _connection_or_404(request, connection_id)
    if request.method == "GET":
        return render(request, "integrations/connection_revoke.html", _facts(request, connection))
    try:
        actions.revoke(connection=connection, by=request.user)
        messages.success(request, f"{connection.label} revoked")
    except AlreadyRevoked:
        messages.info(request, f"{connection.label} was revoked already")
    return redirect("integration_detail", request.team.slug, connection.integration)


@require_POST
@team_view(Permission.CONNECTION_MANAGE)
def catalog_read(request: HttpRequest, integration: str) -> HttpResponse:
    found = _integration_or_404(integration)
    try:
        actions.ask_for_catalog(team=request.team, integration=found, by=request.user)
        messages.success(request, "A worker reads the catalog now")
    except actions.ReadJustNow as refused:
        again = f"{timezone.localtime(refused.again_at):%H:%M}"
        messages.info(request, f"The catalog was asked for less than 5 minutes ago. Read it again from {again} on")
    return redirect("integration_detail", request.team.slug, found.slug)


def _connect(request: HttpRequest, integration: Integration, form: ConnectForm) -> Connection | None:
    data = form.cleaned_data
    try:
        return actions.connect(
            team=request.team,
            integration=integration,
            label=data["label"],
            kind=data.get("kind", Credential.Kind.API_KEY),
            posted=form.posted,
            by=request.user,
        )
    except LabelTaken:
        form.add_error("label", "Another connection has this name. Choose a different one, or revoke that one first.")
        return None


@sensitive_variables("made")
def _show_made(request: HttpRequest, connection: Connection, made: dict[str, str]) -> HttpResponse:
    """The one page that shows what was made here."""
    context = {"connection": connection, "integration": connection.provider, "made": made.items()}
    return render(request, "integrations/connection_secret.html", context)


def _about(request: HttpRequest, integration: Integration) -> dict:
    holders = queries.personas_per_connection(team=request.team)
    connections = request.team.connections.filter(integration=integration.slug).order_by("-created_at")
    return {
        "integration": integration,
        "connections": [(row, holders[row.pk]) for row in connections.select_related("credential")],
        "tools": integration.tools,
        "catalog": queries.catalog_line(integration.slug),
        "may_connect": request.membership.allows(Permission.CONNECTION_MANAGE),
    }


def _facts(request: HttpRequest, connection: Connection) -> dict:
    granted = queries.grants_of(team=request.team, connection=connection)
    return {
        "connection": connection,
        "integration": connection.provider,
        "reach": queries.reach_of(connection),
        "account": connection.provider.account_rows(connection.account),
        "personas": [(row, sorted(granted.get(row.pk, ()))) for row in request.team.personas.live().order_by("name")],
        "holders": sum(bool(tools) for tools in granted.values()),
        "may_manage": request.membership.allows(Permission.CONNECTION_MANAGE),
        "may_revoke": request.membership.allows(Permission.CREDENTIAL_REVOKE),
        "may_edit_personas": request.membership.allows(Permission.PERSONA_EDIT),
    }


def _connection_or_404(request: HttpRequest, connection_id: UUID) -> Connection:
    rows = request.team.connections.select_related("credential", "created_by", "team__plan")
    return get_object_or_404(rows, pk=connection_id)


def _integration_or_404(slug: str) -> Integration:
    try:
        return get_integration(slug)
    except UnknownTool:
        raise Http404 from None
