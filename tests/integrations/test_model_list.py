"""The list of models: what it shows, finds and says when something is not known."""

import gzip
import re
from datetime import timedelta
from html import unescape
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import strip_tags

from definable.templatetags.ui import usd
from integrations import catalog
from integrations.model_views import choice_of
from integrations.models import Catalog, CatalogModel
from tests.factories import make_team, owner_of

pytestmark = pytest.mark.django_db
MOST_BYTES = 30_000
FRAGMENT = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture
def team():
    return make_team()


@pytest.fixture
def ask(client, team):
    """Ask for the list as the owner does."""
    client.force_login(owner_of(team))
    return lambda headers=None, **query: client.get(f"{url(team)}?{urlencode(query)}", headers=headers)


def url(team) -> str:
    return reverse("model_list", args=[team.slug])


def read(response) -> str:
    """What a person reads of the list itself."""
    page = response.content.decode()
    return re.sub(r"\s+", " ", unescape(strip_tags(page[page.index('id="list"') :])))


def ids(response) -> list[str]:
    return [
        unescape(found) for found in re.findall(r'<span class="sub mono">([^<]+)</span>', response.content.decode())
    ]


def change(model_id: str, **columns) -> None:
    """Change a model as a reading of the catalog would."""
    CatalogModel.objects.filter(model_id=model_id).update(**columns)
    grow()


def grow() -> None:
    row = Catalog.objects.get()
    Catalog.objects.update(version=row.version + 1)
    catalog.forget()


def four_hundred() -> None:
    """As many models as a real catalog lists, by copying those of the stand-in."""
    rows = list(CatalogModel.objects.order_by("pk").values())
    copies = [row | {"id": None, "model_id": f"{row['model_id']}-copy-{number}"} for number in range(7) for row in rows]
    CatalogModel.objects.bulk_create(CatalogModel(**copy) for copy in copies[: 400 - len(rows)])
    grow()


def test_before_the_first_reading_the_list_says_that_nothing_is_known(ask):
    page = ask().content.decode()
    assert "No model is known yet" in page
    assert "Catalog:</b> not read yet" in page
    assert "No model is known yet" in ask(headers=FRAGMENT).content.decode()


def test_the_age_of_the_catalog_and_a_failure_are_said(ask, known_catalog):
    assert re.search(r"Catalog: \d+ models, read \d\d:\d\d", read(ask()))
    Catalog.objects.update(failure="Nobody answered.", read_at=known_catalog.read_at - timedelta(hours=3))
    catalog.forget()
    assert "could not be read: Nobody answered. This copy of" in read(ask())


def test_every_listed_model_is_on_one_of_the_pages_once(ask, known_catalog):
    four_hundred()
    seen: list[str] = []
    response = ask(sort="name")
    while True:
        seen += ids(response)
        following = re.search(r'href="\?*[^"]*?\?([^"]*after=[^"]*)">Next', response.content.decode())
        if not following:
            break
        response = ask(**dict(part.split("=") for part in unescape(following[1]).replace("%2F", "/").split("&")))
    assert len(seen) == len(set(seen)) == 400


def test_a_model_that_is_gone_is_not_listed(ask, known_catalog):
    assert "openai/gpt-4o-mini" in ids(ask(q="gpt-4o-mini"))
    change("openai/gpt-4o-mini", gone_at=known_catalog.read_at)
    assert "openai/gpt-4o-mini" not in ids(ask(q="gpt-4o-mini"))


def test_prices_that_are_not_known_come_last_and_the_list_says_so(ask, known_catalog):
    change("openai/gpt-4o-mini", price_in=None)
    response = ask(sort="price_in", author="openai", tools="1")
    assert ids(response)[-1] == "openai/gpt-4o-mini"
    assert "cheapest in first. 1 with no fixed price in comes last." in read(response)


def test_the_count_beside_a_facet_is_what_choosing_it_lists(ask, known_catalog):
    page = ask().content.decode()
    for name, value in [("author", "openai"), ("takes", "image"), ("zdr", "1"), ("most_in", "0.50"), ("tools", "1")]:
        shown = re.search(rf'name="{name}".*?value="{re.escape(value)}".*?\((\d+)\)', page, re.S)[1]
        assert f"{shown} of {len(known_catalog.models)} models" in read(ask(**{name: value}))


def test_a_price_that_is_not_one_is_said_in_words(ask, known_catalog):
    change("openai/gpt-4o-mini", price_in=None, price_out=None, data={"pricing": {"prompt": "-1"}})
    assert "variesvaries" in read(ask(q="gpt-4o-mini"))
    change("openai/gpt-4o-mini", price_in=None, price_out=None, data={"pricing": {"prompt": None}})
    assert "not toldnot told" in read(ask(q="gpt-4o-mini"))


def test_under_zero_retention_the_price_is_that_of_one_offer_that_has_everything(ask, known_catalog):
    response = ask(zdr="1", tools="1", context="200000", sort="price_in")
    offers = [
        (offer.prices.tokens_in, model.id)
        for model in known_catalog.models.values()
        for offer in model.zdr_endpoints
        if "tools" in offer.parameters and (offer.context_length or 0) >= 200_000 and offer.prices.tokens_in is not None
    ]
    price, cheapest = min(offers)
    assert ids(response)[0] == cheapest
    assert usd(price * 1_000_000) in read(response).partition(cheapest)[2].partition("Zero retention")[0]


def test_each_choice_can_be_taken_back_by_a_link(ask, team, known_catalog):
    page = ask(q="gpt", author="openai", tools="1", sort="name").content.decode()
    links = [unescape(link) for link in re.findall(r'class="chip">.*?href="([^"]+)"', page)]
    assert f"{url(team)}?q=gpt&author=openai&sort=name" in links
    assert f"{url(team)}?author=openai&tools=1&sort=name" in links


def test_htmx_gets_the_list_and_the_facets_alone(ask, known_catalog):
    response = ask(headers=FRAGMENT, author="openai")
    page = response.content.decode()
    assert "HX-Request" in response.headers["Vary"]
    assert page.count('id="list"') == page.count('id="facets"') == 1
    assert "<html" not in page and "<hx-partial" in page
    assert ids(response) == ids(ask(author="openai"))


ODD = [
    {"q": "' OR 1=1 --"},
    {"q": "x" * 5000},
    {"author": "<script>alert(1)</script>"},
    {"provider": "\u202e"},
    {"takes": "smell"},
    {"sort": "__class__"},
    {"after": "no/such/model"},
    {"most_in": "NaN"},
    {"context": "-1"},
    {"zdr": "yes"},
]


def test_an_odd_address_is_answered_with_a_page(ask, known_catalog):
    for query in ODD:
        response = ask(**query)
        assert response.status_code == 200
        assert "<script>alert" not in response.content.decode()


def test_what_an_address_cannot_mean_narrows_nothing(rf):
    choice = choice_of(rf.get("/?most_in=NaN&zdr=yes&sort=up&takes=smell&colour=red").GET)
    assert (dict(choice.picked), choice.sort) == ({"takes": "smell"}, "newest")


def test_a_search_that_finds_nothing_offers_to_clear_it(ask, known_catalog):
    assert "No model matches these filters" in read(ask(q="no such thing"))


def test_the_list_of_four_hundred_is_small_and_asks_little(ask, known_catalog):
    four_hundred()
    ask()
    with CaptureQueriesContext(connection) as asked:
        response = ask()
    assert len(asked) <= 12
    assert len(ids(response)) == 50
    assert len(gzip.compress(response.content)) < MOST_BYTES
