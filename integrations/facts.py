"""What is known of models when a call is decided: plain values out of the catalog. No rows, no network."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

# What a request may append to a model's id without naming another row of the catalog.
VIRTUAL_SUFFIXES = {"nitro", "floor", "exacto", "online"}


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per token, and per request; None where a price varies or is not known."""

    tokens_in: Decimal | None
    tokens_out: Decimal | None
    request: Decimal | None = Decimal(0)


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """One provider's offer of a model. Latency in ms, throughput in tokens a second, uptime in percent."""

    tag: str
    provider: str  # its slug
    prices: Prices
    is_zdr: bool
    tiers: tuple[Prices, ...] = ()  # what it asks instead of `prices` for long prompts, or at some hours
    context_length: int | None = None
    max_output: int | None = None
    parameters: frozenset[str] = frozenset()
    latency_ms: float | None = None
    throughput: float | None = None
    uptime: float | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """
    One model. `endpoints` is None while only a part of them is known.

    `zdr_endpoints` is known for every model of a known catalog: the provider publishes that list whole.
    """

    id: str
    name: str
    prices: Prices
    context_length: int | None
    max_output: int | None
    input_modalities: frozenset[str]
    output_modalities: frozenset[str]
    parameters: frozenset[str]
    tiers: tuple[Prices, ...] = ()
    endpoints: tuple[EndpointFacts, ...] | None = None
    zdr_endpoints: tuple[EndpointFacts, ...] = ()
    expires_on: date | None = None
    listed_at: datetime | None = None
    is_gone: bool = False

    @property
    def author(self) -> str:
        return self.id.lstrip("~").partition("/")[0]


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """A provider: where it sits and computes, in ISO country codes, empty where it does not say."""

    slug: str
    name: str
    headquarters: str = ""
    datacenters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalog:
    """
    One integration's catalog at one moment; `read_at` None means that it is unknown.

    `models` holds every row by its id, `aliases` what an alias means today.
    """

    version: int
    read_at: datetime | None
    models: Mapping[str, ModelFacts]
    aliases: Mapping[str, str]
    providers: Mapping[str, ProviderFacts]

    @property
    def is_known(self) -> bool:
        return self.read_at is not None

    def find(self, model_id: str) -> ModelFacts | None:
        """
        The model that a request with this id would reach, or None.

        Aliases and suffixes that name no row of their own mean their base. Presets and routers that
        are not in the catalog are never found: what they reach is decided elsewhere.
        """
        if model_id.startswith("@preset/") or "@preset/" in model_id:
            return None
        found = self.models.get(self.aliases.get(model_id, model_id))
        base, _, suffix = model_id.rpartition(":")
        if found is None and suffix in VIRTUAL_SUFFIXES:
            return self.models.get(self.aliases.get(base, base))
        return found
