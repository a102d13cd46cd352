"""One model of the catalog: who offers it, what it would cost, and who uses it."""

from typing import Any

from django import forms
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from integrations import queries as integration_queries
from integrations.browsing import age
from integrations.models import CatalogModel
from integrations.offering import Usage, offers_of, price
from integrations.registry import get_integration
from personas import queries

INTEGRATION = "openrouter"
USUAL = Usage(tokens_in=2_000, tokens_out=500, calls=100)
MOST = 1_000_000_000


class UsageForm(forms.Form):
    """What somebody expects of a model."""

    tokens_in = forms.IntegerField(min_value=0, max_value=MOST, label="Tokens in, a call")
    tokens_out = forms.IntegerField(min_value=0, max_value=MOST, label="Tokens out, a call")
    calls = forms.IntegerField(min_value=0, max_value=MOST, label="Calls a day")

    @property
    def usage(self) -> Usage:
        """What was typed, and the usual in the place of what cannot be used."""
        self.full_clean()
        typed = {name: self.cleaned_data.get(name) for name in self.fields}
        return Usage(**{name: getattr(USUAL, name) if value is None else value for name, value in typed.items()})


@require_safe
@team_view(Permission.CONNECTION_VIEW)
def model_detail(request: HttpRequest, model_id: str) -> HttpResponse:
    catalog = integration_queries.catalog_line(INTEGRATION)
    model = integration_queries.model_of_catalog(INTEGRATION, model_id)
    if model is None and catalog and catalog.read_at:
        raise Http404
    context = {
        "model_id": model_id,
        "model": model,
        "catalog": catalog,
        "integration": get_integration(INTEGRATION),
        "may_connect": request.membership.allows(Permission.CONNECTION_MANAGE),
        "may_edit": request.membership.allows(Permission.PERSONA_EDIT),
        "users": queries.users_of_model(team=request.team, model_id=model_id),
    }
    context |= _offered(request, model) if model else {}
    return render(request, "personas/model_detail.html", context)


def _offered(request: HttpRequest, model: CatalogModel) -> dict[str, Any]:
    form = UsageForm(typed_use(request))
    usage = form.usage
    offers = offers_of(model, usage)
    now = app_now()
    return {
        "form": form,
        "usage": usage,
        "priced": price(model, usage),
        "offers": offers,
        "zdr": sum(offer.row.is_zdr for offer in offers),
        "age": age(model.listed_at, now.date()),
        "has_ended": model.expires_on is not None and model.expires_on <= now.date(),
    }


def typed_use(request: HttpRequest) -> dict[str, str]:
    """What the address says of the use, and the usual where it says nothing."""
    return {name: request.GET.get(name) or str(getattr(USUAL, name)) for name in UsageForm.base_fields}
