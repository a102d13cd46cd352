"""Models beside each other: what the address may say, which value is the best, and what is said of those unknown."""

import re
from decimal import Decimal
from html import unescape

import pytest
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from integrations.comparing import FIGURES, Compared, rows
from integrations.models import CatalogModel
from integrations.offering import Usage, price
from tests.factories import make_team, owner_of

A, B, C = "openai/gpt-4o-mini", "openai/gpt-5.4", "anthropic/claude-sonnet-4.6"
lengths = st.none() | st.integers(0, 10**9)
prices = st.none() | st.decimals(0, 1, places=12)


@pytest.fixture
def team(db):
    return make_team()


@pytest.fixture
def get(client, team):
    client.force_login(owner_of(team))
    return lambda *models, **more: client.get(reverse("model_compare", args=[team.slug]), {"m": models, **more})


def words(response) -> str:
    main = response.content.decode().partition("<main")[2]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", main)).split())


def figures(response) -> dict[str, list[str]]:
    """Each row of the first table: its values as they are read."""
    table = response.content.decode().partition("<tbody")[2].partition("</tbody>")[0]
    found = {}
    for row in re.findall(r"<tr.*?</tr>", table, re.S):
        label, *cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)
        found[label] = [" ".join(unescape(re.sub(r"<[^>]*>", " ", cell)).split()) for cell in cells]
    return found


@given(st.lists(st.tuples(lengths, prices), min_size=1, max_size=4))
def test_the_best_is_never_worse_than_another_and_nothing_unknown_is_best(drawn):
    models = [CatalogModel(model_id=str(n), context_length=it[0], price_in=it[1]) for n, it in enumerate(drawn)]
    found = {row.label: row for row in rows([Compared(model, price(model, Usage(1, 1, 1)), []) for model in models])}
    for label, known, best in (
        ("Context, tokens", [it[0] for it in drawn], max),
        ("In, per 1M tokens", [it[1] for it in drawn], min),
    ):
        told = {each for each in known if each is not None}
        marked = [each for each, cell in zip(known, found[label].cells, strict=True) if cell.is_best]
        assert set(marked) == ({best(told)} if len(told) > 1 else set())
    assert len(found) == len(FIGURES)


def test_before_anything_is_picked_the_page_leads_to_the_list(get, team):
    page = get()
    assert "No models are picked" in words(page)
    assert f'href="/t/{team.slug}/models/?"' in page.content.decode()


def test_models_that_never_were_and_those_too_many_are_named(get, known_catalog):
    page = words(get("no/such", "<script>alert(1)</script>", A))
    assert "never listed a model called no/such" in page and "<script>alert(1)</script>" in page
    assert "One model is picked." in page
    five = list(CatalogModel.objects.order_by("model_id")[:5])
    page = words(get(*(model.model_id for model in five)))
    assert f"More than 4 were picked. Left out: {five[4].name}." in page


def test_one_named_twice_is_compared_once(get, known_catalog):
    assert len(figures(get(A, A, B))["Context, tokens"]) == 2


def test_the_filters_of_the_list_are_left_behind(get, team, known_catalog):
    answer = get(A, B, q="", author="", sort="newest")
    clean = f"/t/{team.slug}/models/compare/?m=openai%2Fgpt-4o-mini&m=openai%2Fgpt-5.4"
    assert (answer.status_code, answer.url) == (302, clean)


def test_the_best_of_each_figure_is_said_in_words(get, known_catalog):
    CatalogModel.objects.filter(model_id=A).update(price_in=Decimal("0.000001"), context_length=1000, max_output=None)
    CatalogModel.objects.filter(model_id=B).update(price_in=Decimal("0.000002"), context_length=9000, max_output=500)
    found = figures(get(A, B))
    assert found["In, per 1M tokens"] == ["$1.00 lowest", "$2.00"]
    assert found["Context, tokens"] == ["1,000", "9,000 largest"]
    assert found["Longest answer, tokens"] == ["not told", "500"]
    CatalogModel.objects.filter(model_id=B).update(price_in=None, data={"pricing": {"prompt": "-1"}})
    assert figures(get(A, B))["In, per 1M tokens"] == ["$1.00", "varies"]


def test_what_is_known_of_no_endpoint_is_not_known(get, known_catalog):
    CatalogModel.objects.get(model_id=B).endpoints.all().delete()
    CatalogModel.objects.filter(model_id=B).update(endpoints_at=None)
    found = figures(get(A, B))
    assert found["Providers"][1] == found["Uptime"][1] == "not known"
    assert found["Cheapest in, without retention"][1] == "none without retention"


def test_each_may_be_taken_out_by_a_link_and_another_use_worked_out(get, team, known_catalog):
    page = get(A, B, tokens_in="1000", tokens_out="0", calls="10").content.decode()
    assert f'href="/t/{team.slug}/models/compare/?m=openai%2Fgpt-5.4"' in page
    assert "greater than or equal to 0" in words(get(A, B, calls="-5"))


def test_a_model_that_is_gone_says_since_when(get, known_catalog):
    CatalogModel.objects.filter(model_id=A).update(gone_at=known_catalog.read_at)
    assert figures(get(A, B))["Withdrawn"][0].startswith("Gone since")


def test_ticks_of_other_pages_of_the_list_are_kept(client, get, team, known_catalog):
    page = client.get(reverse("model_list", args=[team.slug]), {"q": "claude", "m": [A, "no/such"]}).content.decode()
    assert "Picked before" in page and f'value="{A}" form="find" checked' in page
    assert "no/such" not in page.partition("Picked before")[2].partition("</fieldset>")[0]
    page = client.get(reverse("model_list", args=[team.slug]), {"q": "gpt-4o-mini", "m": A}).content.decode()
    assert "Picked before" not in page and f'value="{A}" form="find" checked' in page
