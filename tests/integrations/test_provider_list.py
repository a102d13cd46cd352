"""The list of providers: where they are, what they offer, and what is not told."""

import re
from html import unescape

import pytest
from django.urls import reverse
from django.utils.html import strip_tags

from integrations import browsing, catalog
from integrations.models import Catalog, CatalogProvider
from tests.factories import make_team, owner_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def ask(client, team):
    client.force_login(owner_of(team))
    return lambda **query: client.get(reverse("provider_list", args=[team.slug]), query)


def grow() -> None:
    for row in Catalog.objects.all():
        Catalog.objects.filter(pk=row.pk).update(version=row.version + 1)
    catalog.forget()


def read(response) -> str:
    return re.sub(r"\s+", " ", unescape(strip_tags(response.content.decode())))


def test_before_the_first_reading_no_provider_is_known(ask):
    catalog.forget()
    assert "No provider is known yet" in read(ask())


def test_each_provider_is_listed_with_what_it_does_not_tell(ask, known_catalog):
    CatalogProvider.objects.filter(slug="openai").update(headquarters="", datacenters=[])
    grow()
    response = ask()
    names = [row.provider.name for row in response.context["rows"]]
    assert names == sorted(names, key=str.casefold)
    assert len(names) == CatalogProvider.objects.count()
    assert "not told" in read(response)


def test_a_number_of_models_opens_just_these(ask, client, known_catalog):
    offering = [row for row in ask().context["rows"] if row.models]
    assert offering
    for row in offering:
        assert client.get(row.url).context["found"] == row.models


def test_offers_without_retention_are_counted_by_provider(ask, known_catalog):
    known = catalog.current("openrouter")
    for row in ask().context["rows"]:
        models = browsing.listed(known.models.values())
        offering = [each for each in models if row.provider.slug in {offer.provider for offer in each.zdr_endpoints}]
        assert row.zdr == len(offering)


def test_providers_are_narrowed_to_where_they_compute(ask, known_catalog):
    CatalogProvider.objects.update(datacenters=[])
    CatalogProvider.objects.filter(slug="openai").update(datacenters=["NL", "US"])
    grow()
    assert [row.provider.slug for row in ask(**{"in": "NL"}).context["rows"]] == ["openai"]
    others = [row.provider.slug for row in ask(**{"in": "-"}).context["rows"]]
    assert "openai" not in others
    assert len(others) == CatalogProvider.objects.count() - 1


def test_a_place_where_nobody_computes_says_so(ask, known_catalog):
    assert "No provider says that it computes there" in read(ask(**{"in": "<b>"}))


def test_a_hostile_name_is_shown_as_text(ask, known_catalog):
    CatalogProvider.objects.filter(slug="openai").update(name="<script>x</script>", datacenters=["<b>"])
    grow()
    page = ask().content.decode()
    assert "<script>x" not in page
    assert "<b>" not in page[page.index("providers-h") :]
