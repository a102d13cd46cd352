"""The providers that serve the catalog's models: where they are, and what they offer without retention."""

from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts.permissions import Permission
from accounts.teams import team_view
from integrations import browsing, catalog
from integrations.facts import Catalog, ProviderFacts
from integrations.registry import get_integration

INTEGRATION = "openrouter"
NOT_TOLD = "-"  # in an address: those that do not say where they compute


@dataclass(frozen=True, slots=True)
class Row:
    """A provider with how many models it is known to offer, and how many of these without retention."""

    provider: ProviderFacts
    models: int
    zdr: int
    url: str


@require_safe
@team_view(Permission.CONNECTION_VIEW)
def provider_list(request: HttpRequest) -> HttpResponse:
    known, place = catalog.current(INTEGRATION), request.GET.get("in", "")
    providers = sorted(known.providers.values(), key=lambda each: (each.name.casefold(), each.slug))
    shown = [each for each in providers if not place or place in places_of(each)]
    context = {
        "known": known.is_known,
        "integration": get_integration(INTEGRATION),
        "rows": _rows(request, known, shown),
        "all": len(providers),
        "place": place,
        "places": sorted(Counter(place for each in providers for place in places_of(each)).items()),
    }
    return render(request, "integrations/provider_list.html", context)


def places_of(provider: ProviderFacts) -> set[str]:
    """The country codes of where a provider computes; `NOT_TOLD` alone where it does not say."""
    return set(provider.datacenters) or {NOT_TOLD}


def _rows(request: HttpRequest, known: Catalog, providers: list[ProviderFacts]) -> list[Row]:
    models = browsing.listed(known.models.values())
    offered = Counter(slug for model in models for slug in {offer.provider for offer in browsing.offers(model)})
    zdr = Counter(slug for model in models for slug in {offer.provider for offer in model.zdr_endpoints})
    base = reverse("model_list", args=[request.team.slug])
    return [
        Row(
            each,
            offered[each.slug],
            zdr[each.slug],
            f"{base}?{urlencode({'provider': each.slug})}",
        )
        for each in providers
    ]
