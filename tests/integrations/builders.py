"""Facts of models for tests that ask no catalog."""

from decimal import Decimal
from typing import Any

from integrations.facts import Catalog, ModelFacts, Prices


def prices(tokens_in: str | None, tokens_out: str | None, request: str | None = "0") -> Prices:
    """Prices in US dollars per token."""
    return Prices(*(None if price is None else Decimal(price) for price in (tokens_in, tokens_out, request)))


def make_facts(**given: Any) -> ModelFacts:
    """A text model at $1 in and $2 out a million, unless told otherwise."""
    plain = {
        "id": "maker/model",
        "name": "Maker: Model",
        "prices": prices("0.000001", "0.000002"),
        "context_length": 128_000,
        "max_output": 16_000,
        "input_modalities": frozenset({"text"}),
        "output_modalities": frozenset({"text"}),
        "parameters": frozenset(),
    }
    return ModelFacts(**(plain | given))


def make_catalog(*models: ModelFacts, **given: Any) -> Catalog:
    """A known catalog of these models."""
    from django.utils import timezone

    plain = {"version": 1, "read_at": timezone.now(), "aliases": {}, "providers": {}}
    return Catalog(models={model.id: model for model in models}, **(plain | given))
