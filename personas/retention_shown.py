"""What a rule about retention would do, as a page shows it: sentences, a figure, and a table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from audit.export import Row
from integrations.policy.endpoints import per_million
from personas.charts import Band, Ribbon, ribbons
from personas.replay import Keeps, Outcome, Route
from personas.retention_impact import Affected, Impact

KEEPS = {
    Keeps.NOTHING: ("Keeps nothing", "ok"),
    Keeps.SOMETHING: ("May keep data", "warn"),
    Keeps.UNKNOWN: ("Not known", "idle"),
}
OUTCOMES = {
    Outcome.SAME: ("Same route", "ok"),
    Outcome.OTHER: ("Another route", "info"),
    Outcome.NONE: ("No route", "bad"),
}


# --- the finding ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding in a sentence: `calm`, and what would stop, to be set apart. Either may be empty."""

    calm: str
    stops: str


def verdict(impact: Impact, kind: str) -> Verdict | None:
    """What becomes of the personas (or flows) of an impact; None where it has none."""
    same, other, none = (impact.rows_of(kind, outcome) for outcome in (Outcome.SAME, Outcome.OTHER, Outcome.NONE))
    of = same + other + none
    if not of:
        return None
    if of == 1:
        return _of_one(next(row for row in impact.rows if row.kind == kind))
    if other == of:
        return Verdict(f"All {of} {kind}s move to another route", "")
    kept = f"All {of} {kind}s keep" if same == of else f"{same} of {of} {kind}s {_verb(same, 'keep')}"
    calm = f"{kept} their route" if same != 1 else f"{kept} its route"
    if other:
        calm += f"{',' if none else ' and'} {other} {_verb(other, 'move')} to another"
    return Verdict(calm, f"{none} would stop working" if none else "")


def _of_one(row: Affected) -> Verdict:
    if row.outcome == Outcome.NONE:
        return Verdict("", f"{row.name} would stop working")
    return Verdict(f"{row.name} {'keeps its route' if row.outcome == Outcome.SAME else 'moves to another route'}", "")


def _verb(count: int, verb: str) -> str:
    return f"{verb}s" if count == 1 else verb


# --- the figure -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """One band of the figure, with its label. `share`: of all calls, from 0 to 1."""

    name: str
    tone: str
    calls: int
    share: float
    band: Band


@dataclass(frozen=True, slots=True)
class Shift:
    """Calls by what is kept of them today (left) and where they would go (right); `table` says the same in rows."""

    calls: int
    left: list[Side]
    right: list[Side]
    ribbons: list[tuple[Ribbon, str]]
    table: list[tuple[str, list[int]]]

    @property
    def finding(self) -> str:
        same, other, none = (side.calls for side in self.right)
        return (
            f"Of {self.calls:,} calls, {same:,} {_verb(same, 'stay')} on the same route, {other:,} "
            f"{_verb(other, 'move')} to another route and {none:,} {'has' if none == 1 else 'have'} no route."
        )


def shift(impact: Impact) -> Shift | None:
    """The figure of an impact; None where no calls were replayed."""
    amounts = [[impact.calls[keeps, outcome] for outcome in OUTCOMES] for keeps in KEEPS]
    of = sum(map(sum, amounts))
    if not of:
        return None
    left, right, flows = ribbons(amounts)
    tones = [tone for _, tone in OUTCOMES.values()]
    return Shift(
        calls=of,
        left=_side(KEEPS.values(), [sum(row) for row in amounts], left, of),
        right=_side(OUTCOMES.values(), [sum(column) for column in zip(*amounts, strict=True)], right, of),
        ribbons=[(ribbon, tones[ribbon.right]) for ribbon in flows],
        table=[(name, row) for (name, _), row in zip(KEEPS.values(), amounts, strict=True) if sum(row)],
    )


def _side(named, totals: Sequence[int], bands: Sequence[Band], of: int) -> list[Side]:
    return [
        Side(name, tone, calls, calls / of, band)
        for (name, tone), calls, band in zip(named, totals, bands, strict=True)
    ]


# --- a row ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leg:
    """A route as a row shows it: prices in US dollars per million tokens, None where not known."""

    model: str
    provider: str
    price_in: Decimal | None
    price_out: Decimal | None
    latency_ms: float | None
    uptime: float | None


NOT_KNOWN = "Not known which"
NOWHERE = Leg("", "", None, None, None, None)


def leg(route: Route | None, names: dict[str, str]) -> Leg:
    """A route in words. `names`: what providers are called, by their slug."""
    if route is None:
        return NOWHERE
    endpoint = route.endpoint
    if endpoint is None:
        return Leg(route.model, NOT_KNOWN, None, None, None, None)
    prices = endpoint.prices
    name = names.get(endpoint.provider, endpoint.provider)
    return Leg(
        route.model,
        name,
        per_million(prices.tokens_in),
        per_million(prices.tokens_out),
        endpoint.latency_ms,
        endpoint.uptime,
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """A row of the table: what would become of a persona or flow, with both of its legs."""

    of: Affected
    now: Leg
    after: Leg

    @property
    def keeps_prices(self) -> bool:
        return (self.now.price_in, self.now.price_out) == (self.after.price_in, self.after.price_out)


def shown(impact: Impact, names: dict[str, str]) -> list[Shown]:
    """All rows, those that would stop first."""
    return [Shown(row, leg(row.now, names), leg(row.after, names)) for row in impact.rows]


# --- a file -----------------------------------------------------------------------------

COLUMNS = (
    "kind", "name", "outcome", "calls", "calls_same_route", "calls_other_route", "calls_no_route",
    "model_now", "provider_now", "usd_per_million_in_now", "usd_per_million_out_now", "first_token_ms_now",
    "model_after", "provider_after", "usd_per_million_in_after", "usd_per_million_out_after", "first_token_ms_after",
    "cost_usd_now", "cost_usd_after", "models_lost", "repair",
)  # fmt: skip


def exported(rows: Sequence[Shown]) -> Iterator[Row]:
    """The table as rows of a file; what is not known is empty."""
    for row in rows:
        of = row.of
        yield {
            "kind": of.kind,
            "name": of.name,
            "outcome": of.outcome.value,
            "calls": of.all_calls,
            **{f"calls_{name}_route": of.calls.get(outcome, 0) for name, outcome in _NAMES.items()},
            **_leg_columns(row.now, "now"),
            **_leg_columns(row.after, "after"),
            "cost_usd_now": _plain(of.usd_now),
            "cost_usd_after": _plain(of.usd_after),
            "models_lost": " ".join(of.lost),
            "repair": of.repair,
        }


_NAMES = {"same": Outcome.SAME, "other": Outcome.OTHER, "no": Outcome.NONE}


def _leg_columns(of: Leg, when: str) -> Row:
    return {
        f"model_{when}": of.model,
        f"provider_{when}": of.provider,
        f"usd_per_million_in_{when}": _plain(of.price_in),
        f"usd_per_million_out_{when}": _plain(of.price_out),
        f"first_token_ms_{when}": "" if of.latency_ms is None else round(of.latency_ms),
    }


def _plain(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount.normalize():f}"
