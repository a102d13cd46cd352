"""Which hosts of a model may answer a question, and in what order they are asked."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .ask import Ask
from .catalog import Row
from .errors import ApiError, unavailable
from .money import MILLION, price_of
from .preferences import Preferences

PRIVACY = (
    "No endpoints available matching your guardrail restrictions and data policy. "
    "Configure: https://openrouter.ai/settings/privacy"
)
ALL_IGNORED = (
    "All providers have been ignored. To change your default ignored providers, "
    "visit: https://openrouter.ai/settings/preferences"
)
LEARN_MORE = "To learn more about provider routing, visit: https://openrouter.ai/docs/provider-routing"
# What a limit of `max_price` counts in, where that is not the single unit of the endpoint's price.
PER_MILLION = {"prompt", "completion", "audio"}


@dataclass(frozen=True)
class Sieve:
    """One reason to pass a host over: the word for it, and what is said when it leaves none."""

    word: str
    keeps: Callable[[Row], bool]
    message: str
    code: str = "constraint_filtered"
    constraint: dict[str, str] | None = None


def choose_hosts(rows: list[Row], ask: Ask, *, model: Row, prompt_tokens: int) -> list[Row]:
    """
    The hosts to ask, first choice first; without preferences, as the catalog lists them.

    Raises ApiError(404) where nobody is left, with the word of every preference
    that passed somebody over.
    """
    wish, left = ask.preferences, [row for row in rows if _is_offered(row, ask.preferences)]
    if not left:
        raise unavailable("no_endpoints", f"No endpoints found for {model['id']}.", [model["id"]])
    words: list[str] = []
    for sieve in _sieves(left, ask, model["id"], prompt_tokens):
        kept = [row for row in left if sieve.keeps(row)]
        if len(kept) < len(left) and sieve.word not in words:
            words.append(sieve.word)
        if not kept:
            raise _nobody(sieve, model["id"], words)
        left = kept
    ordered = _ordered(left, wish, prompt_tokens)
    return ordered if wish.allow_fallbacks else ordered[:1]


def is_named(row: Row, names: tuple[str, ...]) -> bool:
    """
    Whether one of these names, in lower case, means this host.

    A slug or a provider's name means all its hosts but those of a service tier;
    a full tag means that one alone.
    """
    tag = row["tag"].lower()
    whole = set() if row["service_tier"] else {tag.partition("/")[0], row["provider_name"].lower()}
    return bool({tag, *whole} & set(names))


def _is_offered(row: Row, wish: Preferences) -> bool:
    """Hosts of a service tier answer only those who name them."""
    return not row["service_tier"] or row["tag"].lower() in (*wish.only, *wish.order)


def _nobody(sieve: Sieve, model: str, words: list[str]) -> ApiError:
    more = {"constraint": sieve.constraint} if sieve.constraint else {}
    return unavailable(sieve.code, sieve.message, [model], excluded_by=words, **more)


def _sieves(rows: list[Row], ask: Ask, model: str, prompt_tokens: int) -> Iterator[Sieve]:
    wish = ask.preferences
    yield from _by_name(rows, wish, model)
    yield from _by_policy(wish)
    yield from _by_ability(ask)
    if wish.quantizations:
        names = ", ".join(sorted(wish.quantizations))
        message = f"No endpoints found for {model} with one of these quantizations: {names}. {LEARN_MORE}"
        yield Sieve("quantization", lambda row: (row["quantization"] or "unknown") in wish.quantizations, message)
    for name, most in wish.max_price.items():
        yield _by_price(name, most, model, prompt_tokens)


def _by_name(rows: list[Row], wish: Preferences, model: str) -> Iterator[Sieve]:
    serving = ", ".join(dict.fromkeys(row["tag"].partition("/")[0] for row in rows))
    refusal = (
        f"No allowed providers are available for the selected model. Providers serving {model}: {serving}, "
        "but your request's provider.{0} preference permits only: {1}."
    )
    if wish.only:
        message = refusal.format("only", ", ".join(wish.only))
        yield Sieve("allowed_providers", lambda row: is_named(row, wish.only), message)
    if wish.ignore:
        yield Sieve("allowed_providers", lambda row: not is_named(row, wish.ignore), ALL_IGNORED)
    if wish.order and not wish.allow_fallbacks:
        message = refusal.format("order", ", ".join(wish.order))
        yield Sieve("allowed_providers", lambda row: is_named(row, wish.order), message)


def _by_policy(wish: Preferences) -> Iterator[Sieve]:
    if wish.zdr:
        yield Sieve("data_policy:zdr", lambda row: row["_zdr"], PRIVACY, "privacy_restricted")
    if wish.deny_training:
        yield Sieve("data_policy:training", lambda row: not row["_trains"], PRIVACY, "privacy_restricted")


def _by_ability(ask: Ask) -> Iterator[Sieve]:
    if ask.tools:
        message = f'No endpoints found that support tool use. Try disabling "{ask.tools[0].name}". {LEARN_MORE}'
        yield Sieve("require_parameters", lambda row: "tools" in row["supported_parameters"], message, "no_endpoints")
    if needed := ask.preferences.parameters:
        message = f"No endpoints found that can handle the requested parameters. {LEARN_MORE}"
        yield Sieve("require_parameters", lambda row: needed <= set(row["supported_parameters"]), message)


def _by_price(name: str, most: Decimal, model: str, prompt_tokens: int) -> Sieve:
    def keeps(row: Row) -> bool:
        asked = _price(row, name, prompt_tokens)
        return asked is not None and asked <= most

    unit = "per million tokens" if name in PER_MILLION else f"per {name}"
    detail = {"field": "max_price", "detail": f"Every endpoint asks more than ${most:f} {unit} ({name})."}
    message = f"No endpoints found for {model} within your max_price: ${most:f} {unit} ({name}). {LEARN_MORE}"
    return Sieve("max_price", keeps, message, constraint=detail)


def _price(row: Row, name: str, prompt_tokens: int) -> Decimal | None:
    """What this host asks, in the unit of `max_price`; None where its price varies."""
    pricing = price_of(row["pricing"], prompt_tokens=prompt_tokens)
    value = Decimal(pricing.get(name) or 0) * (MILLION if name in PER_MILLION else 1)
    return None if value < 0 else value * (1 - Decimal(str(row["pricing"].get("discount") or 0)))


def _ordered(rows: list[Row], wish: Preferences, prompt_tokens: int) -> list[Row]:
    """Those named in `order` first, each name in its turn; the rest by `sort`, or as they stand."""
    rest = sorted(rows, key=lambda row: _rank(row, wish.sort, prompt_tokens))
    named = [row for name in wish.order for row in rest if is_named(row, (name,))]
    return list({id(row): row for row in [*named, *rest]}.values())


def _rank(row: Row, sort: str | None, prompt_tokens: int) -> tuple[bool, Decimal]:
    """Lowest first; hosts without the figure go last, equals stay as they stand."""
    figure: Any = 0
    if sort == "price":
        figures = [_price(row, name, prompt_tokens) for name in ("prompt", "completion")]
        figure = None if None in figures else sum(figures)
    elif sort == "throughput":
        figure = row["throughput_last_30m"] and -row["throughput_last_30m"]["p50"]
    elif sort == "latency":
        figure = row["latency_last_30m"] and row["latency_last_30m"]["p50"]
    return figure is None, Decimal(figure or 0)
