"""What can be asked for: models, who hosts them at what price, and which hosts keep nothing."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from .endpoints import TIERS, Host, endpoint, read_hosts, some
from .errors import ApiError, unavailable

FACTS = Path(__file__).with_name("facts.toml")
ROUTERS = "openrouter/"
VIRTUAL_SUFFIXES = (":nitro", ":floor", ":exacto", ":online", ":extended", ":thinking")
CAPABILITIES = {
    "tools": ["tools", "tool_choice"],
    "json": ["response_format", "structured_outputs"],
    "think": ["reasoning", "include_reasoning"],
    "heat": ["temperature", "top_p", "top_k", "stop"],
    "tune": ["frequency_penalty", "presence_penalty", "repetition_penalty", "min_p", "logit_bias"],
    "seed": ["seed"],
}

Row = dict[str, Any]


@dataclass
class Catalog:
    """Everything the read-only endpoints show. Rows are shared: callers copy before they change one."""

    models: list[Row]
    providers: list[Row]
    endpoints: dict[str, list[Row]] = field(default_factory=dict)
    zdr: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.by_id = {model["id"]: model for model in self.models}
        self.by_slug = {model["canonical_slug"]: model for model in reversed(self.models)}
        self.zdr_ids = {row["model_id"] for row in self.zdr}

    def find(self, name: str) -> Row | None:
        """The model of this id, permanent slug, alias or virtual variant, as it stands in the catalog."""
        if found := self.by_id.get(name) or self.by_slug.get(name):
            return found
        base = next((name.removesuffix(suffix) for suffix in VIRTUAL_SUFFIXES if name.endswith(suffix)), "")
        return self.by_id.get(base)

    def endpoints_of(self, model: Row) -> list[Row]:
        """Who hosts a model, first choice first; none for routers."""
        target = self.alias_target(model)
        return self.endpoints.get((target or model)["id"], [])

    def alias_target(self, model: Row) -> Row | None:
        """The newest model a `~…-latest` row stands for."""
        if not model["id"].startswith("~"):
            return None
        if named := self.by_id.get(model.get("alias_target", {}).get("slug", "")):
            return named
        author, _, family = model["id"].removeprefix("~").removesuffix("-latest").partition("/")
        words = family.split("-")
        members = [row for row in self.chat_models if row["id"].startswith(f"{author}/")]
        fitting = [row for row in members if all(word in row["id"] for word in words)] or members
        return max(fitting, key=lambda row: row["created"], default=None)

    @property
    def chat_models(self) -> list[Row]:
        """Concrete models that write text: no routers, no aliases, no batch listings."""
        return [
            model
            for model in self.models
            if "text" in model["architecture"]["output_modalities"]
            and not model["id"].startswith(("~", ROUTERS))
            and not model["id"].endswith(":batch")
        ]

    def choose(self, name: str, *, prompt: str, fits: Callable[[Row], bool]) -> tuple[Row, str]:
        """
        The concrete model to ask for `name`, and how it was found. A router chooses among those that fit.

        Raises ApiError for a name nobody knows, for an embedding model, and
        where a router has nothing to choose from.
        """
        model = self.find(name)
        if model is None:
            raise unavailable("model_not_found", f"{name} is not a valid model ID", [name])
        if "text" not in model["architecture"]["output_modalities"]:
            detail = {"field": "endpoint", "detail": "Use POST /api/v1/embeddings for this model."}
            message = f"{name} does not write text. Use the embeddings endpoint instead."
            raise unavailable("wrong_endpoint", message, [name], constraint=detail)
        if model["id"].startswith(ROUTERS):
            return self._route(model["id"], prompt, fits)
        if model["id"].startswith("~"):
            return self.alias_target(model) or model, "latest"
        return model, "direct"

    def _route(self, router: str, prompt: str, fits: Callable[[Row], bool]) -> tuple[Row, str]:
        free = router == "openrouter/free"
        models = [model for model in self.chat_models if model["id"].endswith(":free") == free and fits(model)]
        usable = [model for model in models if "tools" in model["supported_parameters"]] or models
        if not usable:
            raise ApiError(404, "No models match your request and model restrictions")
        return usable[some(router, prompt, below=len(usable))], "free" if free else "auto"


def load_catalog(
    *,
    catalog: Path | None = None,
    endpoints: Path | None = None,
    zdr: Path | None = None,
    providers: Path | None = None,
) -> Catalog:
    """Our own facts, with recorded answers in place of those parts that were recorded."""
    facts = tomllib.loads(FACTS.read_text())
    own = [model_row(fact) for fact in facts["model"]]
    models = _recorded_models(catalog, own) if catalog else own
    provider_rows = _rows(_read(providers)) if providers else [provider_row(fact) for fact in facts["provider"]]
    careful = _careful(_rows(_read(providers), keep_private=True) if providers else facts["provider"])
    names = {fact["slug"]: fact.get("served_as", fact["name"]) for fact in facts["provider"]}
    recorded_endpoints = _recorded_endpoints(endpoints) if endpoints else {}
    recorded_zdr = _rows(_read(zdr), keep_private=True) if zdr else None

    written_down = (
        {} if catalog else {fact["id"]: read_hosts(fact["hosts"]) for fact in facts["model"] if "hosts" in fact}
    )
    built: dict[str, list[Row]] = {}
    for model in models:
        if model["id"].startswith(("~", ROUTERS)):
            continue
        hosts = _hosts(model, facts, written_down, recorded_zdr)
        built[model["id"]] = recorded_endpoints.get(model["id"]) or [
            endpoint(model, host, provider_name=names.get(host.slug, host.slug.title()), rank=rank)
            for rank, host in enumerate(hosts)
        ]
        for row in built[model["id"]]:
            # A host of unknown policy counts as one that trains on what it reads.
            row["_trains"] = not row["_zdr"] and row["tag"].partition("/")[0] not in careful
    zdr_rows = [row for rows in built.values() for row in rows if row["_zdr"]]
    if recorded_zdr is not None:
        zdr_rows = _padded(recorded_zdr, {model["id"]: model for model in models})
    return Catalog(models, provider_rows, built, zdr_rows)


def _careful(providers: list[Row]) -> set[str]:
    """The slugs of providers known not to train on what they read; a recording may note that as `_policy`."""
    facts = {
        row["slug"]: row.get("trains", (row.get("_policy") or {}).get("may_train_on_prompts")) for row in providers
    }
    return {slug for slug, trains in facts.items() if not trains}


def model_row(fact: Row) -> Row:
    """One written-down model in the service's own shape."""
    dated = fact.get("dated", fact["id"])
    reads, writes = fact.get("reads", "text").split(), fact.get("writes", "text").split()
    listed = datetime.fromisoformat(fact["listed"]).replace(tzinfo=UTC)
    output = fact.get("output")
    row = {
        "id": fact["id"],
        "canonical_slug": dated,
        "hugging_face_id": fact.get("open_weights"),
        "name": fact["name"],
        "created": int(listed.timestamp()),
        "description": f"{fact['name']} reads {', '.join(reads)} and writes {', '.join(writes)}.",
        "context_length": fact["context"],
        "architecture": {
            "modality": f"{'+'.join(reads)}->{'+'.join(writes)}",
            "input_modalities": reads,
            "output_modalities": writes,
            "tokenizer": fact.get("tokenizer", "Other"),
            "instruct_type": None,
        },
        "pricing": _pricing(fact),
        "top_provider": {
            "context_length": fact["context"],
            "max_completion_tokens": output,
            "is_moderated": fact.get("moderated", False),
        },
        "per_request_limits": None,
        "supported_parameters": _parameters(fact),
        "default_parameters": {},
        "supported_voices": None,
        "knowledge_cutoff": fact.get("cutoff"),
        "expiration_date": fact.get("expires"),
        "links": {"details": f"/api/v1/models/{dated}/endpoints"},
    }
    if "think" in fact.get("can", "").split():
        row["reasoning"] = _reasoning(fact)
    if "alias_of" in fact:
        row["alias_target"] = {"name": fact["name"], "slug": fact["alias_of"]}
    return row


def _pricing(fact: Row) -> Row:
    prompt, completion = fact["price"]
    pricing: Row = {"prompt": _per_token(prompt), "completion": _per_token(completion)}
    if "price_cached" in fact:
        pricing["input_cache_read"] = _per_token(fact["price_cached"])
    if "price_long" in fact:
        above, prompt, completion = fact["price_long"]
        longer = {"prompt": _per_token(prompt), "completion": _per_token(completion)}
        pricing["overrides"] = [{"min_prompt_tokens": above, **longer}]
    return pricing


def _per_token(per_million: str) -> str:
    return per_million if per_million == "-1" else format((Decimal(per_million) / 1_000_000).normalize(), "f")


def _parameters(fact: Row) -> list[str]:
    words = fact.get("can", "").split()
    extra = ["max_tokens", "max_completion_tokens"] if words else []
    return sorted([*extra, *(name for word in words for name in CAPABILITIES[word])])


def _reasoning(fact: Row) -> Row:
    efforts = fact.get("efforts", "").split()
    mandatory = fact.get("must_think", False)
    known = {"supported_efforts": efforts, "default_effort": "medium"} if efforts else {}
    return {"mandatory": mandatory, "default_enabled": mandatory, **known}


def provider_row(fact: Row) -> Row:
    """One written-down provider in the service's own shape."""
    return {
        "name": fact["name"],
        "slug": fact["slug"],
        "privacy_policy_url": None,
        "terms_of_service_url": fact.get("terms"),
        "status_page_url": None,
        "headquarters": fact.get("headquarters"),
        "datacenters": fact.get("datacenters"),
    }


def _hosts(model: Row, facts: Row, written_down: dict[str, list[Host]], recorded_zdr: list[Row] | None) -> list[Host]:
    """
    Who hosts a model: as written down, or else chosen by its name, always the same.

    A recorded ZDR list has the last word on who keeps nothing.
    """
    hosts = written_down.get(model["id"]) or _likely_hosts(model, facts)
    if recorded_zdr is None:
        return hosts
    keeping = [Host(host.tag, zdr=False) for host in hosts if not host.zdr] or [Host(hosts[0].tag, zdr=False)]
    recorded = [row for row in recorded_zdr if row.get("model_id") == model["id"]]
    return [*keeping[:2], *_zdr_hosts(recorded)] if recorded else keeping[:2]


def _likely_hosts(model: Row, facts: Row) -> list[Host]:
    author = model["id"].partition("/")[0]
    if model["id"].endswith(":free"):
        hosts = read_hosts(facts["free_hosts"])
        return [hosts[some(model["id"], "free", below=len(hosts))]]
    if author in facts["author_hosts"]:
        return read_hosts(facts["author_hosts"][author])
    hosts = read_hosts(facts["open_hosts"])
    first, number = some(model["id"], "first", below=len(hosts)), 2 + some(model["id"], "number", below=3)
    return [hosts[(first + step) % len(hosts)] for step in range(number)]


def _zdr_hosts(rows: list[Row]) -> list[Host]:
    """Recorded rows name no tag; a provider that comes up again gets a region to be told apart."""
    hosts, seen = [], {}
    for row in rows:
        slug = row["provider_slug"]
        seen[slug] = seen.get(slug, 0) + 1
        tag = slug if seen[slug] == 1 else f"{slug}/region-{seen[slug]}"
        caches = row.get("supports_implicit_caching", False)
        hosts.append(Host(tag, zdr=True, provider_name=row["provider_name"], caches=caches))
    return hosts


def _padded(recorded: list[Row], models: dict[str, Row]) -> list[Row]:
    """Recorded ZDR rows in the full shape of an endpoint, in their own order."""
    per_model: dict[str, list[Row]] = {}
    for row in recorded:
        per_model.setdefault(row.get("model_id") or _invented_id(row["model_name"]), []).append(row)
    rows = []
    for model_id, group in per_model.items():
        model = models.get(model_id) or _unknown_model(model_id, group[0]["model_name"])
        rows += [
            endpoint(model, host, provider_name=host.provider_name, rank=rank)
            for rank, host in enumerate(_zdr_hosts(group), start=1)
        ]
    return rows


def _invented_id(name: str) -> str:
    author, _, model = name.partition(": ")
    return "/".join("-".join(part.lower().split()) for part in (author, model or author))


def _unknown_model(model_id: str, name: str) -> Row:
    return model_row({"id": model_id, "name": name, "listed": "2026-01-01", "context": 32_768, "price": ["0", "0"]})


def _recorded_models(path: Path, own: list[Row]) -> list[Row]:
    """A recorded /models answer, brought up to today's shape; it never holds embedding models, ours stand in."""
    data = _read(path)
    rows = _rows(data) if "data" in data else _public([*data["models"], *data.get("embedding_models", [])])
    for row in rows:
        row.setdefault("supported_voices", None)
        row.setdefault("description", row["name"])
    if not any("embeddings" in row["architecture"]["output_modalities"] for row in rows):
        rows += [row for row in own if "embeddings" in row["architecture"]["output_modalities"]]
    return rows


def _recorded_endpoints(path: Path) -> dict[str, list[Row]]:
    """Endpoint rows by model id, from `{id: {endpoints}}` or a flat list; rows carry `_zdr`."""
    data = _read(path)
    data = data.get("endpoints", data.get("data", data)) if isinstance(data, dict) else data
    rows = data if isinstance(data, list) else [row for model in data.values() for row in model["endpoints"]]
    found: dict[str, list[Row]] = {}
    for row in rows:
        kept = {key: value for key, value in row.items() if not key.startswith("_")}
        _factor, tier = TIERS.get(row["tag"].partition("/")[2], (1, None))
        kept = {"service_tier": tier} | kept | {"_zdr": row.get("_zdr", False)}
        found.setdefault(row["model_id"], []).append(kept)
    return found


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def _rows(data: Any, *, keep_private: bool = False) -> list[Row]:
    rows = data["data"] if isinstance(data, dict) else data
    return rows if keep_private else _public(rows)


def _public(rows: list[Row]) -> list[Row]:
    """Rows without the recorder's own notes, which start with an underscore."""
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]
