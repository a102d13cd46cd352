"""Pages to connect by agreeing at the provider, instead of pasting a key."""

from urllib.parse import urlencode, urlsplit
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.signing import BadSignature, Signer
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect

from accounts.permissions import Permission
from accounts.teams import team_view
from definable.fragments import render_fragment
from integrations import consenting
from integrations.consenting import ConsentOver, NotACode
from integrations.forms import ConsentForm
from integrations.models import Consent
from integrations.registry import Integration, UnknownTool, get_integration
from vault.actions import LabelTaken

HERE = ("localhost", "127.0.0.1")  # where OpenRouter calls back without TLS
OVER = "A code came back before, or ten minutes have passed. Begin anew."
STRANGER = "This is no way back from a provider that you set out for. Begin at the integration's page."
state_of = Signer(salt="integrations.consent")


@require_http_methods(["GET", "POST"])
@team_view(Permission.CONNECTION_MANAGE)
def consent_create(request: HttpRequest, integration: str) -> HttpResponse:
    found = _asking_or_404(integration)
    form = ConsentForm(request.POST or None, initial={"label": found.first_label})
    if form.is_valid():
        try:
            consent = consenting.begin(
                team=request.team, integration=found, label=form.cleaned_data["label"], by=request.user
            )
            return redirect("consent_detail", request.team.slug, consent.pk)
        except LabelTaken:
            form.add_error("label", "Another connection has this name. Choose a different one.")
    status = 422 if form.errors else 200
    return render(request, "integrations/consent_create.html", {"integration": found, "form": form}, status=status)


@require_GET
@team_view(Permission.CONNECTION_MANAGE)
def consent_detail(request: HttpRequest, consent_id: UUID) -> HttpResponse:
    consent = _consent_or_404(request, consent_id)
    if consent.connection_id:
        return _on(request, reverse("connection_detail", args=[request.team.slug, consent.connection_id]))
    context = {
        "consent": consent,
        "integration": get_integration(consent.integration),
        "url": consenting.consent_url(consent, callback_url=_callback(request, consent)),
        "comes_back": bool(_callback(request, consent)),
    }
    return render_fragment(request, "integrations/consent_detail.html", "integrations/_consent.html", context)


@require_GET
@team_view(Permission.CONNECTION_MANAGE)
def consent_callback(request: HttpRequest, integration: str) -> HttpResponse:
    """Where the provider sends the member's browser. Only the member who set out arrives."""
    mine = request.team.consents.filter(integration=integration, by=request.user)
    consent = mine.select_related("by").filter(pk=_said(request)).first()
    if consent is None:
        messages.error(request, STRANGER)
        return redirect("integration_list", request.team.slug)
    if request.GET.get("error"):
        return _ended(request, consent)
    return _answered(request, consent, request.GET.get("code", ""))


@require_POST
@sensitive_post_parameters("code")
@team_view(Permission.CONNECTION_MANAGE)
def consent_code(request: HttpRequest, consent_id: UUID) -> HttpResponse:
    return _answered(request, _consent_or_404(request, consent_id), request.POST.get("code", ""))


def _answered(request: HttpRequest, consent: Consent, code: str) -> HttpResponse:
    try:
        consenting.answer(consent=consent, code=code)
    except (NotACode, ConsentOver) as refusal:
        messages.error(request, str(refusal) or OVER)
    return redirect("consent_detail", request.team.slug, consent.pk)


def _ended(request: HttpRequest, consent: Consent) -> HttpResponse:
    try:
        consenting.deny(consent=consent)
    except ConsentOver:
        messages.error(request, OVER)
    return redirect("consent_detail", request.team.slug, consent.pk)


def _said(request: HttpRequest) -> UUID | None:
    """The consent that a browser comes back for, by a state that only we can have made."""
    try:
        return UUID(state_of.unsign(request.GET.get("state", "")))
    except (BadSignature, ValueError):
        return None


def _callback(request: HttpRequest, consent: Consent) -> str:
    """Our address for the way back; empty where the provider would not call it."""
    parts = urlsplit(settings.BASE_URL)
    if parts.scheme != "https" and parts.hostname not in HERE:
        return ""
    path = reverse("consent_callback", args=[request.team.slug, consent.integration])
    return f"{settings.BASE_URL}{path}?{urlencode({'state': state_of.sign(str(consent.pk))})}"


def _on(request: HttpRequest, url: str) -> HttpResponse:
    return HttpResponseClientRedirect(url) if request.htmx else redirect(url)


def _consent_or_404(request: HttpRequest, consent_id: UUID) -> Consent:
    return get_object_or_404(request.team.consents.select_related("by"), pk=consent_id)


def _asking_or_404(slug: str) -> Integration:
    try:
        found = get_integration(slug)
    except UnknownTool:
        raise Http404 from None
    if not found.asks_consent:
        raise Http404
    return found
