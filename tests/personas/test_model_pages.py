"""The page of one model: its offers, what use would cost, who uses it, and how it gets into a persona."""

import re
from decimal import Decimal
from html import unescape

import pytest
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from accounts.permissions import Role
from integrations.facts import Prices
from integrations.models import Catalog, CatalogEndpoint, CatalogModel
from integrations.offering import Usage, cost, is_varying
from tests.factories import make_member, make_team, owner_of
from tests.personas.builders import make_persona

MODEL = "openai/gpt-4o-mini"
price = st.none() | st.decimals(0, 1, places=12)
number = st.integers(0, 10**9)


@pytest.fixture
def team(db):
    return make_team()


@pytest.fixture
def ask(client, team):
    """Ask for a model's page as the owner does, and read what a person reads."""
    client.force_login(owner_of(team))

    def read(model: str = MODEL, **query: str) -> str:
        page = client.get(reverse("model_detail", args=[team.slug, model]), query)
        assert page.status_code == 200
        main = page.content.decode().partition("<main")[2]
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", main)).split())

    return read


@given(price, price, price, number, number)
def test_a_call_costs_what_its_parts_add_up_to_or_is_not_known(tokens_in, tokens_out, request, many_in, many_out):
    found = cost(Prices(tokens_in, tokens_out, request), Usage(many_in, many_out, 1))
    if None in (tokens_in, tokens_out, request):
        assert found is None
    else:
        assert found - request == tokens_in * many_in + tokens_out * many_out


def test_a_price_below_nothing_varies_and_any_other_record_does_not():
    assert is_varying({"prompt": "-1"}) and is_varying({"completion": -1})
    assert not any(is_varying(odd) for odd in ({"prompt": "1"}, {"prompt": None}, {}, None, "-1", ["-1"]))


def test_a_model_shows_its_offers_and_what_use_would_cost(ask, known_catalog):
    CatalogModel.objects.filter(model_id=MODEL).update(price_in=Decimal("0.000001"), price_out=Decimal("0.000004"))
    page = ask(tokens_in="1000", tokens_out="500", calls="10")
    assert "$1.00" in page and "$4.00" in page
    assert "A call $0.003 A day $0.03 10 calls 30 days $0.90" in page
    row = CatalogEndpoint.objects.filter(model__model_id=MODEL).first()
    assert row.provider_name in page and row.tag in page
    assert f"{Decimal(row.data['uptime_last_30m']).normalize():f}%" in page
    assert "No persona and no flow of this team." in page
    CatalogModel.objects.filter(model_id=MODEL).update(price_in=None, data={"pricing": {"prompt": "-1"}})
    page = ask()
    assert "In, per 1M tokens varies" in page
    assert "A call not reported" in page


def test_figures_that_are_none_are_not_told(ask, known_catalog):
    odd = {"uptime_last_30m": "NaN", "latency_last_30m": {"p50": "1E+99"}, "throughput_last_30m": ["7"]}
    CatalogEndpoint.objects.filter(model__model_id=MODEL).update(data=odd | {"quantization": {"a": 1}})
    offers = ask().partition("Tokens a second")[2].partition("Used here by")[0]
    assert offers.count("not told") == 3 * CatalogEndpoint.objects.filter(model__model_id=MODEL).count()


def test_odd_use_is_said_and_the_usual_taken(ask, known_catalog):
    page = ask(tokens_in="-1", tokens_out="many", calls="9" * 40)
    assert "greater than or equal to 0" in page and "whole number" in page and "100 calls" in page
    assert "A call $" in page


def test_a_model_that_is_gone_says_so_and_one_that_never_was_is_not_found(ask, client, team, known_catalog):
    CatalogModel.objects.filter(model_id=MODEL).update(gone_at=known_catalog.read_at)
    page = ask()
    assert "does not list this model any more" in page and "Use in a persona" not in page
    for odd in ("no/such", "<script>", "a/b/c/d", "openai"):
        assert client.get(reverse("model_detail", args=[team.slug, odd])).status_code == 404


def test_before_the_first_reading_a_model_is_not_known_yet(ask):
    assert not Catalog.objects.exists()
    assert "No model is known yet" in ask("<b>x</b>")


def test_who_names_a_model_is_listed_and_others_may_take_it_as_a_fallback(ask, client, team, known_catalog):
    make_persona(team, name="Reader", chain=[MODEL])
    other = make_persona(team, name="Writer", chain=["openai/gpt-5.4", "openai/*"])
    page = ask()
    using, _, offered = page.partition("Used here by")[2].partition("Add it as a fallback")
    assert "Reader" in using and "Writer" not in using
    assert "Writer" in offered and "Reader" not in offered

    form = client.get(reverse("persona_edit", args=[team.slug, other.slug]), {"fallback": MODEL}).context["form"]
    assert (form["model"].value(), form["fallback_model"].value()) == ("openai/gpt-5.4", "openai/*")
    assert form["more_models"].value() == MODEL
    form = client.get(reverse("persona_create", args=[team.slug]), {"model": MODEL}).context["form"]
    assert form["model"].value() == MODEL


def test_whoever_may_not_edit_personas_is_offered_no_use(client, team, known_catalog):
    client.force_login(make_member(team, Role.AUDITOR))
    page = client.get(reverse("model_detail", args=[team.slug, MODEL])).content.decode()
    assert "Use in a persona" not in page and "Add it as a fallback" not in page
