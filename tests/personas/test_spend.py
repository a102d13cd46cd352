"""The page of spend: each number is that of its calls, narrowed as the address says, and the files hold the same."""

import csv
import io
import json
import random
from datetime import date, timedelta
from decimal import Decimal

import pytest
from django.urls import reverse

from accounts.permissions import Role
from audit.clock import app_now
from audit.ids import uuid7
from integrations import rollups, spend_queries
from integrations.spend_queries import Asked, Figures
from personas.spend_report import forecast, make_report
from tests.factories import make_member, make_team, owner_of
from tests.integrations.test_rollups import make_call
from tests.personas.builders import make_flow

pytestmark = pytest.mark.django_db

ZONE = "Asia/Kathmandu"


@pytest.fixture
def team():
    return make_team(zone=ZONE)


@pytest.fixture
def page(client, team):
    client.force_login(owner_of(team))

    def get(name: str = "spend", **query: str):
        rollups.roll_up()
        return client.get(reverse(name, args=[team.slug]), query)

    return get


def some_calls(team, many: int = 80) -> None:
    chance = random.Random(7)
    personas = [(None, ""), (uuid7(), "Scout"), (uuid7(), "<b>Ebb</b>")]
    flow = make_flow(team)
    for _ in range(many):
        persona_id, name = chance.choice(personas)
        make_call(
            team,
            at=app_now() - timedelta(minutes=chance.randrange(40 * 1440)),
            state=chance.choice(["sent", "done", "failed", "unknown"]),
            cost_usd=Decimal(chance.randrange(10**7)).scaleb(-6),
            persona_id=persona_id,
            persona_name=name,
            flow_id=chance.choice([None, flow.pk]),
            model=chance.choice(["", "a/one", "b/two"]),
            model_served=chance.choice(["", "c/three"]),
            provider=chance.choice(["", "Deep"]),
        )


def all_calls(asked: Asked) -> list:
    page = spend_queries.call_page(asked)
    calls = list(page.calls)
    while page.older:
        page = spend_queries.call_page(asked, page.older)
        calls += page.calls
    return calls


@pytest.mark.parametrize("by", list(spend_queries.COLUMNS))
def test_each_number_is_the_sum_of_the_calls_that_its_link_leads_to(team, by):
    some_calls(team)
    rollups.roll_up()
    today = app_now().date()
    asked = Asked(team, today - timedelta(days=29), today, {})
    groups = spend_queries.by_group(asked, by, "usd")
    assert len(groups) > 1 or by in ("member", "tool")
    for group in groups:
        calls = all_calls(Asked(team, asked.first, asked.last, {by: group.key}))
        assert len(calls) == group.figures.calls
        assert sum(call.cost_usd or 0 for call in calls) == group.figures.cost_usd
        assert sum(call.credits or 0 for call in calls) == group.figures.credits
    assert sum((group.figures for group in groups), Figures()) == sum(spend_queries.by_day(asked).values(), Figures())


@pytest.mark.parametrize("unit", ["usd", "credits"])
@pytest.mark.parametrize("length", [7, 30, 90])
def test_the_bars_add_up_to_the_figures_and_fit_the_chart(team, unit, length):
    some_calls(team)
    rollups.roll_up()
    today = app_now().date()
    asked = Asked(team, today - timedelta(days=length - 1), today, {})
    report = make_report(asked, "model", unit, today)
    assert sum(bar.total for bar in report.chart.bars) == report.now.in_unit(unit)
    assert sum(series.amount for series in report.chart.series) == report.now.in_unit(unit)
    assert len(report.chart.bars) <= 31
    for part in report.chart.parts:
        assert part.x >= 0 and part.y >= 0 and part.height >= 1
        assert part.x + part.width <= 720 and part.y + part.height <= 180


def test_the_page_says_what_was_spent_and_nothing_of_others(page, team):
    some_calls(team)
    make_call(make_team(), persona_name="A stranger")
    for by in spend_queries.COLUMNS:
        for money in ("usd", "credits"):
            told = page(by=by, money=money)
            assert told.status_code == 200
            assert b"A stranger" not in told.content and b"<b>Ebb" not in told.content
    assert "Scout" in page().text and "against before" in page().text.lower()


def test_a_filter_narrows_every_number_and_can_be_removed(page, team):
    make_call(team, model="a/one", cost_usd=Decimal(2))
    make_call(team, model="b/two", cost_usd=Decimal(3))
    told = page(by="provider", model="a/one")
    assert told.context["report"].now.cost_usd == 2
    assert "Remove the filter Model" in told.text
    assert page(by="model", provider="-").context["report"].now.cost_usd == 5


def test_what_it_was_narrowed_to_is_said_by_its_name(page, team):
    flow, persona = make_flow(team), uuid7()
    make_call(team, flow_id=flow.pk, persona_id=persona, persona_name="Scout")
    told = page("spend_calls", flow=str(flow.pk), persona=str(persona))
    assert {filter["words"] for filter in told.context["filters"]} == {flow.name, "Scout"}
    assert page("spend_calls", flow=str(uuid7())).context["filters"][0]["words"] == "A flow that is no more"


def test_calls_are_told_page_by_page_and_none_twice(page, team):
    now = app_now()
    for _ in range(spend_queries.PAGE + 5):
        make_call(team, at=now)
    first = page("spend_calls", range="7d")
    second = page("spend_calls", range="7d", older=first.context["page"].older)
    assert len({call.pk for each in (first, second) for call in each.context["page"].calls}) == spend_queries.PAGE + 5
    assert second.context["older"] == ""
    assert first.context["total"].calls == spend_queries.PAGE + 5


@pytest.mark.parametrize("name", ["spend", "spend_calls", "spend_export"])
@pytest.mark.parametrize(
    "query",
    [{"range": "9d"}, {"by": "x"}, {"money": "eur"}, {"persona": "x"}, {"day": "2026-02-30"}, {"model": "a" * 255}],
)
def test_what_cannot_be_asked_is_said(page, name, query):
    assert page(name, format="csv", **query).status_code == 422


def test_the_log_is_for_those_who_may_read_it(page, client, team):
    make_call(team)
    rollups.roll_up()
    client.force_login(make_member(team, Role.MEMBER))
    assert "spend/calls/" not in client.get(reverse("spend", args=[team.slug])).text
    assert client.get(reverse("spend_calls", args=[team.slug])).status_code == 403


def test_the_files_hold_every_day_of_every_group_and_no_formula(page, team):
    some_calls(team)
    make_call(team, persona_id=uuid7(), persona_name="=1+1", cost_usd=Decimal(0))
    total = page().context["report"].now
    rows = list(csv.DictReader(io.StringIO(page("spend_export", format="csv").getvalue().decode())))
    lines = [json.loads(line) for line in page("spend_export", format="jsonl").getvalue().splitlines()]
    assert sum(Decimal(row["cost_usd"]) for row in rows) == total.cost_usd
    assert sum(line["calls"] for line in lines) == total.calls
    assert "'=1+1" in {row["name"] for row in rows}
    assert page("spend_export", format="xls").status_code == 422


def test_nothing_spent_is_said(page):
    told = page()
    assert "No call ended in these days" in told.text
    assert "Three whole days with calls are needed" in told.text


def test_a_forecast_goes_on_as_days_went():
    days = {date(2026, 11, day): Decimal(2) for day in range(1, 21)}
    ahead = forecast(days, date(2026, 11, 21))
    assert ahead is not None
    assert (ahead.likely, ahead.low, ahead.high, ahead.until) == (58, 58, 58, date(2026, 11, 30))
    days[date(2026, 11, 20)] = Decimal(40)
    wide = forecast(days, date(2026, 11, 21))
    assert wide is not None and wide.low < wide.likely < wide.high and wide.low >= 78
    assert forecast({date(2026, 11, 20): Decimal(2)}, date(2026, 11, 21)) is None
    assert forecast({}, date(2026, 11, 21)) is None
