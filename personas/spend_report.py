"""What a team spent in some days, for reading: sums, the days before, a chart, groups and what is to be expected."""

from calendar import monthrange
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby
from statistics import mean, pstdev

from integrations import spend_queries
from integrations.spend_queries import Asked, Figures, Group, Key
from personas.charts import SERIES, Part, stacked_bars
from personas.models import Flow

MOST_GROUPS = 100
MOST_BARS = 31  # more days than that are drawn as weeks
USUAL_DAYS = 30  # what a forecast goes by
FEWEST_DAYS = 3  # with fewer it says nothing
SURE = Decimal("1.28")  # standard deviations to each side: four of five months end inside, if days are alike
OF_NONE = {"persona": "No persona", "flow": "No flow", "model": "No model", "provider": "Not told"}


@dataclass(frozen=True, slots=True)
class Series:
    """One of the parts of each bar: `index` from 1, the last of them `is_rest`."""

    index: int
    name: str
    amount: Decimal
    is_rest: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """A day, or a week by its first day: the amount of each series."""

    day: date
    amounts: list[Decimal]

    @property
    def total(self) -> Decimal:
        return sum(self.amounts, Decimal(0))


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars of days or weeks. `finding` says in a sentence what is to be seen."""

    bars: list[Bar]
    series: list[Series]
    parts: list[Part]
    of_weeks: bool
    highest: Decimal
    finding: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a month will have taken at its end, in the report's unit: likely, and what it will hardly be outside of."""

    until: date
    a_day: Decimal
    low: Decimal
    likely: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class Report:
    """All that a page of spend shows. `more` says that there are more groups than are listed."""

    now: Figures
    before: Figures
    groups: list[Group]
    more: bool
    chart: Chart
    forecast: Forecast | None

    def change(self, unit: str) -> Decimal | None:
        """How much more than in the days before, as a ratio; None where there was nothing to compare with."""
        was = self.before.in_unit(unit)
        return (self.now.in_unit(unit) - was) / was if was else None


def make_report(asked: Asked, by: str, unit: str, today: date) -> Report:
    """Read and reckon. Three queries, and one for the names of flows."""
    length = (asked.last - asked.first).days + 1
    since = min(asked.first - timedelta(days=length), today - timedelta(days=USUAL_DAYS), today.replace(day=1))
    days = spend_queries.by_day(replace(asked, first=since, last=max(asked.last, today)))
    now = _sum(days, asked.first, asked.last)
    groups = spend_queries.by_group(asked, by, unit, MOST_GROUPS + 1)
    groups, more = named(asked, by, groups[:MOST_GROUPS]), len(groups) > MOST_GROUPS
    return Report(
        now=now,
        before=_sum(days, asked.first - timedelta(days=length), asked.first - timedelta(days=1)),
        groups=groups,
        more=more,
        chart=_chart(asked, by, unit, days, groups),
        forecast=forecast({day: figures.in_unit(unit) for day, figures in days.items()}, today),
    )


def named(asked: Asked, by: str, groups: Sequence[Group]) -> list[Group]:
    """The same groups with a name each; flows are looked up, by one query."""
    names: dict[Key, str] = {}
    if by == "flow":
        names = dict(
            Flow.objects.filter(team=asked.team, pk__in=[each.key for each in groups]).values_list("pk", "name")
        )
    return [replace(each, name=_name(by, each, names)) for each in groups]


def words_of(asked: Asked, by: str) -> str:
    """Name what the calls were narrowed to: two queries at most."""
    key = asked.only[by]
    if by not in ("persona", "flow", "member") or not key:
        return _name(by, Group(key, "", Figures()), {})
    found = spend_queries.by_group(asked, by, "usd", 1) or [Group(key, "", Figures())]
    return named(asked, by, found)[0].name


def _name(by: str, group: Group, names: dict[Key, str]) -> str:
    if group.key in (None, ""):
        return OF_NONE.get(by, "Not told")
    if by == "flow":
        return names.get(group.key, "A flow that is no more")
    return group.name or str(group.key)


def _sum(days: dict[date, Figures], first: date, last: date) -> Figures:
    return sum((figures for day, figures in days.items() if first <= day <= last), Figures())


# --- the chart --------------------------------------------------------------------------


def _chart(asked: Asked, by: str, unit: str, days: dict[date, Figures], groups: Sequence[Group]) -> Chart:
    named_series = [] if by == "day" else [group for group in groups[:SERIES] if group.figures.in_unit(unit)]
    keys = [group.key for group in named_series]
    found = spend_queries.by_day_and_group(asked, by, keys) if keys else []
    amounts = Counter({(day, group.key): group.figures.in_unit(unit) for day, group in found})
    bars = []
    for day in _days(asked):
        of_day = [Decimal(amounts[day, key]) for key in keys]
        bars.append(Bar(day, [*of_day, days.get(day, Figures()).in_unit(unit) - sum(of_day, Decimal(0))]))
    of_weeks = len(bars) > MOST_BARS
    bars = _weeks(bars) if of_weeks else bars
    series = _series(bars, [group.name for group in named_series], by)
    return Chart(
        bars=bars,
        series=series,
        parts=stacked_bars([bar.amounts for bar in bars]),
        of_weeks=of_weeks,
        highest=max(bar.total for bar in bars),
        finding=_finding(series, "week" if of_weeks else "day", bars),
    )


def _days(asked: Asked) -> list[date]:
    return [asked.first + timedelta(days=each) for each in range((asked.last - asked.first).days + 1)]


def _weeks(bars: Sequence[Bar]) -> list[Bar]:
    """Add up days from Monday on."""
    weeks = groupby(bars, key=lambda bar: bar.day.isocalendar()[:2])
    return [_together(list(week)) for _, week in weeks]


def _together(bars: Sequence[Bar]) -> Bar:
    return Bar(bars[0].day, [sum(amounts, Decimal(0)) for amounts in zip(*(bar.amounts for bar in bars), strict=True)])


def _series(bars: Sequence[Bar], names: Sequence[str], by: str) -> list[Series]:
    totals = [sum(amounts, Decimal(0)) for amounts in zip(*(bar.amounts for bar in bars), strict=True)]
    rest = "All calls" if by == "day" or not names else "Other"
    return [
        Series(index, name, total, is_rest=name == rest and rest == "Other" and index == len(totals))
        for index, (name, total) in enumerate(zip([*names, rest], totals, strict=True), start=1)
        if total > 0
    ]


def _finding(series: Sequence[Series], what: str, bars: Sequence[Bar]) -> str:
    total = sum((each.amount for each in series), Decimal(0))
    if not total:
        return "Nothing was taken."
    top, most = max(bars, key=lambda bar: bar.total), max(series, key=lambda each: each.amount)
    share = f"{most.name}: {most.amount / total:.0%} of all. " if len(series) > 1 else ""
    when = "in the week from" if what == "week" else "on"
    return f"{share}The most was taken {when} {top.day:%-d %B}: {top.total / total:.0%}."


# --- what is to be expected -------------------------------------------------------------


def forecast(amounts: dict[date, Decimal], today: date) -> Forecast | None:
    """Go on as in the last 30 whole days, or as long as there were calls; None while these are too few to say."""
    first = max(min(amounts, default=today), today - timedelta(days=USUAL_DAYS))
    usual = [amounts.get(first + timedelta(days=each), Decimal(0)) for each in range((today - first).days)]
    if len(usual) < FEWEST_DAYS:
        return None
    until = today.replace(day=monthrange(today.year, today.month)[1])
    spent = sum((amount for day, amount in amounts.items() if today.replace(day=1) <= day <= today), Decimal(0))
    left = Decimal((until - today).days)
    likely, spread = spent + mean(usual) * left, SURE * pstdev(usual) * left.sqrt()
    return Forecast(until, mean(usual), max(spent, likely - spread), likely, likely + spread)
