"""The page to look through the models of the catalog before one is chosen."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date
from decimal import Decimal
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.views.decorators.http import require_safe

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from definable.fragments import render_fragment, wants_fragment
from integrations import browsing, catalog, queries
from integrations.browsing import FACETS, SORTS, YES, Choice, Option
from integrations.facts import Catalog, ModelFacts
from integrations.registry import get_integration

INTEGRATION = "openrouter"
MOST_WORDS = 200  # characters that are searched for
MOST_PICKED = 20  # models that an address may hold for comparing
SELECTS = ("author", "context", "most_in", "most_out")
MORE_SELECTS = ("takes", "gives", "provider", "listed")
CHECKS = ("zdr", "tools", "structured", "reasoning", "free", "ending")
VIEWS = (("All", ""), ("Text", "text"), ("Images", "image"), ("Audio", "audio"), ("Embeddings", "embeddings"))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list. Prices in US dollars per million tokens; `unpriced` says why one of them is None."""

    model: ModelFacts
    takes: str
    gives: str
    price_in: Decimal | None
    price_out: Decimal | None
    unpriced: str
    is_free: bool
    age: str
    has_ended: bool
    url: str
    is_picked: bool
    offered_by: str  # whose offer it is, when models stand for their cheapest one


@dataclass(frozen=True, slots=True)
class Control:
    """A facet as the form shows it: options are values, words and counts."""

    name: str
    label: str
    chosen: str
    options: list[tuple[str, str, int]]


@require_safe
@team_view(Permission.CONNECTION_VIEW)
def model_list(request: HttpRequest) -> HttpResponse:
    known = catalog.current(INTEGRATION)
    context = _listing(request, known) if known.is_known else {}
    context |= {
        "known": known.is_known,
        "fragment": wants_fragment(request),
        "integration": get_integration(INTEGRATION),
        "catalog": queries.catalog_line(INTEGRATION),
        "may_connect": request.membership.allows(Permission.CONNECTION_MANAGE),
        "list_url": _list_url(request),
    }
    return render_fragment(request, "integrations/model_list.html", "integrations/_models.html", context)


def _listing(request: HttpRequest, known: Catalog) -> dict[str, object]:
    models, today = browsing.listed(known.models.values()), app_now().astimezone(UTC).date()
    choice = choice_of(request.GET)
    found, unknown = browsing.in_order(browsing.matching(models, choice, today), choice.sort)
    page = browsing.stretch(found, request.GET.get("after", ""))
    picked, shown = picked_of(request.GET), {model.id for model in page.models}
    options = browsing.options(models, choice, today)
    return {
        "rows": list(_rows(request, known, page.models, choice, today)),
        "page": page,
        "picked_before": [known.models[name] for name in picked if name in known.models and name not in shown],
        "compare_url": reverse("model_compare", args=[request.team.slug]),
        "last": page.first + len(page.models) - 1,
        "found": len(found),
        "listed": len(models),
        "unknown": unknown,
        "choice": choice,
        "sort": SORTS[choice.sort],
        "sorts": SORTS.items(),
        "selects": _controls(SELECTS, options, choice),
        "more_selects": _controls(MORE_SELECTS, options, choice),
        "more_open": any(name in choice.picked for name in MORE_SELECTS),
        "checks": _controls(CHECKS, options, choice),
        "views": list(_views(request, choice)),
        "applied": list(_applied(request, choice)),
        "previous_url": _page_url(request, choice, page.before),
        "next_url": _page_url(request, choice, page.after),
    }


def choice_of(query: QueryDict) -> Choice:
    """Read what is looked for out of an address. What it cannot mean is left out."""
    picked = {name: query[name][:MOST_WORDS] for name in FACETS if query.get(name)}
    sort = query.get("sort", "")
    return Choice(
        words=" ".join(query.get("q", "")[:MOST_WORDS].split()),
        picked={name: value for name, value in picked.items() if value in (FACETS[name].options or (value,))},
        sort=sort if sort in SORTS else Choice().sort,
    )


def picked_of(query: QueryDict) -> list[str]:
    """Read which models are picked for comparing out of an address, each once, in their order."""
    return list(dict.fromkeys(name[:MOST_WORDS] for name in query.getlist("m") if name))[:MOST_PICKED]


# --- what the page shows ----------------------------------------------------------------


def _rows(
    request: HttpRequest, known: Catalog, models: Iterable[ModelFacts], choice: Choice, today: date
) -> Iterator[Row]:
    models = list(models)
    picked = set(picked_of(request.GET))
    vary = queries.models_of_varying_price(INTEGRATION, [each.id for each in models if None in _asked(each)])
    for model in models:
        yield Row(
            model,
            _listing_of(model.input_modalities),
            _listing_of(model.output_modalities),
            *(browsing.per_million(price) for price in _asked(model)),
            unpriced="varies" if model.id in vary else "not told",
            is_free=browsing.is_free(model.prices),
            age=browsing.age(model.listed_at, today),
            has_ended=model.expires_on is not None and model.expires_on <= today,
            url=_model_url(request, model.id),
            is_picked=model.id in picked,
            offered_by=_offered_by(known, model) if "zdr" in choice.picked else "",
        )


def _model_url(request: HttpRequest, model_id: str) -> str:
    """The address of a model's page; none for an id that no address can hold."""
    return reverse("model_detail", args=[request.team.slug, model_id]) if model_id.isprintable() else ""


def _listing_of(words: Iterable[str]) -> str:
    return ", ".join(sorted(words)) or "not told"


def _asked(model: ModelFacts) -> tuple[Decimal | None, Decimal | None]:
    return model.prices.tokens_in, model.prices.tokens_out


def _offered_by(known: Catalog, model: ModelFacts) -> str:
    provider = known.providers.get(model.zdr_endpoints[0].provider)
    return provider.name if provider else model.zdr_endpoints[0].provider


def _controls(names: Iterable[str], options: dict[str, list[Option]], choice: Choice) -> list[Control]:
    return [
        Control(
            name,
            FACETS[name].label,
            choice.picked.get(name, ""),
            [(option.value, in_words(name, option.value), option.count) for option in options[name]],
        )
        for name in names
    ]


def in_words(facet: str, value: str) -> str:
    """Say a facet's value as people read it."""
    if facet in {"most_in", "most_out"}:
        return f"up to ${value}"
    if facet == "context":
        return f"{int(value):,}+"
    return f"{value} days" if facet == "listed" else value


def _views(request: HttpRequest, choice: Choice) -> Iterator[tuple[str, str, bool]]:
    """The kinds of models, each with its address and whether it is shown now."""
    for label, gives in VIEWS:
        other = choice.including("gives", gives) if gives else choice.without("gives")
        yield label, _url(request, other), choice.picked.get("gives", "") == gives


def _applied(request: HttpRequest, choice: Choice) -> Iterator[tuple[str, str, str]]:
    """What narrows the list: a label, a value, and the address without it."""
    if choice.words:
        yield "Words", choice.words, _url(request, Choice(picked=choice.picked, sort=choice.sort))
    for name, value in choice.picked.items():
        yield FACETS[name].label, "" if value == YES else in_words(name, value), _url(request, choice.without(name))


def _page_url(request: HttpRequest, choice: Choice, after: str | None) -> str:
    return "" if after is None else _url(request, choice, after=after)


def _url(request: HttpRequest, choice: Choice, **more: str) -> str:
    sort = "" if choice.sort == Choice().sort else choice.sort
    said = {"q": choice.words, **choice.picked, "sort": sort, **more}
    kept = [("m", name) for name in picked_of(request.GET)]
    query = urlencode([*((name, value) for name, value in said.items() if value), *kept])
    return f"{_list_url(request)}?{query}" if query else _list_url(request)


def _list_url(request: HttpRequest) -> str:
    return reverse("model_list", args=[request.team.slug])
