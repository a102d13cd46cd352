"""Up to four models of the catalog beside each other. Which ones is said by the address."""

from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts.permissions import Permission
from accounts.teams import team_view
from integrations import queries
from integrations.comparing import MOST, Compared, parameters, rows
from integrations.model_views import picked_of
from integrations.models import CatalogModel
from integrations.offering import Usage, offers_of, price
from integrations.registry import get_integration
from personas.views.models import INTEGRATION, UsageForm, typed_use


@require_safe
@team_view(Permission.CONNECTION_VIEW)
def model_compare(request: HttpRequest) -> HttpResponse:
    asked = picked_of(request.GET)
    if request.GET.keys() - {"m", *UsageForm.base_fields}:  # the filters of the list that they were picked from
        return redirect(_url(request, asked))
    found = queries.models_of_catalog(INTEGRATION, asked)
    shown = [model_id for model_id in asked if model_id in found][:MOST]
    form = UsageForm(typed_use(request))
    usage = form.usage
    compared = [_compared(found[model_id], usage) for model_id in shown]
    shared, some = parameters(compared)
    context = {
        "form": form,
        "usage": usage,
        "compared": compared,
        "columns": [(one.model, _without(request, shown, one.model.model_id)) for one in compared],
        "rows": rows(compared),
        "shared": shared,
        "some": some,
        "unknown": [model_id for model_id in asked if model_id not in found],
        "left_out": [found[model_id] for model_id in asked if model_id in found and model_id not in shown],
        "most": MOST,
        "pick_url": f"{reverse('model_list', args=[request.team.slug])}?{_query(shown)}",
        "integration": get_integration(INTEGRATION),
        "catalog": queries.catalog_line(INTEGRATION),
        "may_connect": request.membership.allows(Permission.CONNECTION_MANAGE),
    }
    return render(request, "personas/model_compare.html", context)


def _compared(model: CatalogModel, usage: Usage) -> Compared:
    return Compared(model, price(model, usage), offers_of(model, usage))


def _without(request: HttpRequest, shown: list[str], model_id: str) -> str:
    return _url(request, [each for each in shown if each != model_id])


def _url(request: HttpRequest, model_ids: list[str]) -> str:
    base = reverse("model_compare", args=[request.team.slug])
    return f"{base}?{_query(model_ids)}" if model_ids else base


def _query(model_ids: list[str]) -> str:
    return urlencode([("m", model_id) for model_id in model_ids])
