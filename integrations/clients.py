"""This process's clients of the integrations."""

from collections.abc import Callable
from functools import cache
from typing import Any

from django.conf import settings

from integrations.registry import Integration


def client_for(provider: Integration) -> Any:
    """Return this process's client of an integration."""
    return _client(provider.client, settings.INTEGRATION_URLS.get(provider.slug, provider.base_url))


@cache
def _client(make: Callable[[str], Any], base_url: str) -> Any:
    return make(base_url)
