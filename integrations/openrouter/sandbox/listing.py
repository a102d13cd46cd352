"""Filters, orders and pages of the model lists."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from .catalog import Catalog, Row
from .endpoints import some
from .errors import invalid
from .money import per_million

CATEGORIES = [
    "programming",
    "roleplay",
    "marketing",
    "marketing/seo",
    "technology",
    "science",
    "translation",
    "legal",
    "finance",
    "health",
    "trivia",
    "academia",
]
MODALITIES = {
    "text",
    "image",
    "audio",
    "embeddings",
    "video",
    "rerank",
    "decisions",
    "speech",
    "transcription",
    "file",
    "all",
}
EUROPEAN_HOSTS = {"amazon-bedrock", "azure", "google-vertex", "mistral", "nebius"}
SCORES = ("intelligence_index", "coding_index", "agentic_index")
PAGE = 500

Query = Mapping[str, str]
Test = Callable[[Row], bool]


def page_of(rows: list[Row], query: Query, *, path: str) -> dict[str, Any]:
    """The envelope around a list: everything when neither offset nor limit is given."""
    offset, limit = _whole(query, "offset", 0, None), _whole(query, "limit", 1, 1000)
    if offset is None and limit is None:
        return {"data": rows, "total_count": len(rows), "links": {"next": None}}
    offset, limit = offset or 0, limit or PAGE
    end = offset + limit
    others = {name: value for name, value in query.items() if name not in ("offset", "limit")}
    following = f"{path}?{urlencode(others | {'offset': end, 'limit': limit})}" if end < len(rows) else None
    return {"data": rows[offset:end], "total_count": len(rows), "links": {"next": following}}


def list_models(catalog: Catalog, query: Query, *, now: datetime) -> list[Row]:
    """The models that pass every filter of the query, in its order. Raises ApiError(400) for a bad value."""
    tests = [test for make in FILTERS for test in make(catalog, query, now)]
    rows = [row for row in catalog.models if all(test(row) for test in tests)]
    return _sorted(catalog, rows, query.get("sort"))


def of_modality(catalog: Catalog, query: Query, _now: datetime) -> list[Test]:
    wanted = _words(query.get("output_modalities") or "text")
    if unknown := wanted - MODALITIES:
        raise invalid(f"output_modalities: unknown value {', '.join(sorted(unknown))}")
    return [] if "all" in wanted else [lambda row: bool(wanted & set(row["architecture"]["output_modalities"]))]


def _of_words(catalog: Catalog, query: Query, _now: datetime) -> list[Test]:
    tests: list[Test] = []
    if inputs := _words(query.get("input_modalities")):
        tests.append(lambda row: inputs <= set(row["architecture"]["input_modalities"]))
    if parameters := _words(query.get("supported_parameters")):
        tests.append(lambda row: parameters <= set(row["supported_parameters"]))
    if authors := _words(query.get("model_authors")):
        tests.append(lambda row: row["id"].removeprefix("~").partition("/")[0] in authors)
    if text := query.get("q", "").lower():
        tests.append(lambda row: text in row["id"].lower() or text in row["name"].lower())
    if family := query.get("arch", "").lower():
        tests.append(lambda row: (row["architecture"].get("tokenizer") or "").lower().startswith(family))
    if category := query.get("category"):
        if category not in CATEGORIES:
            raise invalid(f"category: expected one of {', '.join(CATEGORIES)}")
        # No recording says what people use a model for; each category holds a fixed third.
        tests.append(lambda row: some(row["id"], category, below=3) == 0)
    return tests


def _of_hosts(catalog: Catalog, query: Query, _now: datetime) -> list[Test]:
    tests: list[Test] = []
    if wanted := {word.lower() for word in _words(query.get("providers"))}:
        tests.append(lambda row: any(_host_names(end) & wanted for end in catalog.endpoints_of(row)))
    if query.get("zdr") == "true":
        tests.append(lambda row: row["id"] in catalog.zdr_ids)
    if (region := query.get("region")) not in (None, "eu", "us"):
        raise invalid("region: expected eu or us")
    if region == "eu":
        tests.append(lambda row: any(_slug(end) in EUROPEAN_HOSTS for end in catalog.endpoints_of(row)))
    if (distillable := query.get("distillable")) in ("true", "false"):
        tests.append(lambda row: bool(row.get("hugging_face_id")) == (distillable == "true"))
    return tests


def _of_numbers(catalog: Catalog, query: Query, now: datetime) -> list[Test]:
    tests: list[Test] = []
    if context := _whole(query, "context", 1, None):
        tests.append(lambda row: (row["context_length"] or 0) >= context)
    tests += _between(query, "price", lambda row: per_million(row["pricing"], "prompt"))
    tests += _between(query, "output_price", lambda row: per_million(row["pricing"], "completion"))
    tests += _between(query, "age_days", lambda row: (now - datetime.fromtimestamp(row["created"], UTC)).days)
    for name in SCORES:
        tests += _between(query, name, lambda row, name=name: _score(row, name))
    return tests + _between(query, "tool_success_rate", lambda row: _tool_success(row))


FILTERS = (of_modality, _of_words, _of_hosts, _of_numbers)


def _between(query: Query, name: str, value_of: Callable[[Row], Any]) -> list[Test]:
    """Tests for min_<name> and max_<name>; a model without the figure passes neither."""
    tests: list[Test] = []
    if (least := _number(query, f"min_{name}")) is not None:
        tests.append(lambda row: (value := value_of(row)) is not None and value >= least)
    if (most := _number(query, f"max_{name}")) is not None:
        tests.append(lambda row: (value := value_of(row)) is not None and value <= most)
    return tests


def _sorted(catalog: Catalog, rows: list[Row], order: str | None) -> list[Row]:
    if order is None:
        return rows
    if order not in ORDERS:
        raise invalid(f"sort: expected one of {', '.join(ORDERS)}")
    figure, falling = ORDERS[order]
    known = [row for row in rows if figure(catalog, row) is not None]
    unknown = [row for row in rows if figure(catalog, row) is None]
    return sorted(known, key=lambda row: figure(catalog, row), reverse=falling) + unknown


def _popularity(_catalog: Catalog, row: Row) -> int:
    return some(row["id"], "popularity", below=10_000)


def _speed(name: str, better: Callable[..., float]) -> Callable[[Catalog, Row], float | None]:
    def best(catalog: Catalog, row: Row) -> float | None:
        figures = [end[name]["p50"] for end in catalog.endpoints_of(row) if end[name]]
        return better(figures) if figures else None

    return best


# Order: the figure, and whether the highest comes first. What has no figure goes last.
ORDERS: dict[str, tuple[Callable[[Catalog, Row], Any], bool]] = {
    "most-popular": (_popularity, True),
    "top-weekly": (_popularity, True),
    "newest": (lambda _catalog, row: row["created"], True),
    "pricing-low-to-high": (lambda _catalog, row: per_million(row["pricing"], "prompt"), False),
    "pricing-high-to-low": (lambda _catalog, row: per_million(row["pricing"], "prompt"), True),
    "context-high-to-low": (lambda _catalog, row: row["context_length"], True),
    "throughput-high-to-low": (_speed("throughput_last_30m", max), True),
    "latency-low-to-high": (_speed("latency_last_30m", min), False),
    "intelligence-high-to-low": (lambda _catalog, row: _score(row, "intelligence_index"), True),
    "coding-high-to-low": (lambda _catalog, row: _score(row, "coding_index"), True),
    "agentic-high-to-low": (lambda _catalog, row: _score(row, "agentic_index"), True),
    "design-arena-elo-high-to-low": (lambda _catalog, row: _arena(row), True),
}


def rss(rows: list[Row]) -> bytes:
    """The list as an RSS feed, as `use_rss` asks for."""
    items = "".join(
        f"<item><title>{escape(row['name'])}</title><guid>{escape(row['id'])}</guid>"
        f"<link>https://openrouter.ai/{escape(row['id'])}</link></item>"
        for row in rows
    )
    feed = f"<rss version='2.0'><channel><title>OpenRouter models</title>{items}</channel></rss>"
    return feed.encode()


def _score(row: Row, name: str) -> float | None:
    return ((row.get("benchmarks") or {}).get("artificial_analysis") or {}).get(name)


def _arena(row: Row) -> float | None:
    ranks = (row.get("benchmarks") or {}).get("design_arena") or []
    return max((rank["elo"] for rank in ranks), default=None)


def _tool_success(row: Row) -> float | None:
    tools = "tools" in row["supported_parameters"]
    return 0.9 + some(row["id"], "tool success", below=100) / 1000 if tools else None


def _host_names(end: Row) -> set[str]:
    return {end["provider_name"].lower(), _slug(end)}


def _slug(end: Row) -> str:
    return end["tag"].partition("/")[0]


def _words(text: str | None) -> set[str]:
    return {word.strip() for word in (text or "").split(",") if word.strip()}


def _whole(query: Query, name: str, least: int, most: int | None) -> int | None:
    if name not in query:
        return None
    text = query[name]
    if not text.isascii() or not text.isdigit() or int(text) < least or (most is not None and int(text) > most):
        raise invalid(f"{name}: expected a whole number from {least}" + (f" to {most}" if most else ""))
    return int(text)


def _number(query: Query, name: str) -> Decimal | None:
    if name not in query:
        return None
    try:
        value = Decimal(query[name])
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise invalid(f"{name}: expected a number from 0")
    return value
