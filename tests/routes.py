"""Every address, as the resolver knows it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from accounts.models import Team
from accounts.permissions import Permission
from tests.route_samples import sample


@dataclass(frozen=True)
class Route:
    """One page."""

    name: str
    path: str
    view: Callable
    arguments: tuple[str, ...]

    @property
    def permission(self) -> Permission:
        return self.view.permission

    @property
    def ids(self) -> tuple[str, ...]:
        """What the address names beside the team."""
        return tuple(argument for argument in self.arguments if argument != "team_slug")

    def values(self, team: Team) -> dict[str, Any]:
        """Arguments that lead to real things of the team."""
        return {argument: sample(self.name, argument, team) for argument in self.ids}

    def url(self, team: Team, values: dict[str, Any]) -> str:
        return reverse(self.name, kwargs={"team_slug": team.slug, **values})

    def __str__(self) -> str:
        return self.name or self.path


def all_routes() -> list[Route]:
    return list(_routes(get_resolver().url_patterns, "", ()))


def team_routes() -> list[Route]:
    return [route for route in all_routes() if "team_slug" in route.arguments]


def _routes(patterns, above: str, arguments: tuple[str, ...]) -> Iterator[Route]:
    for pattern in patterns:
        path = above + str(pattern.pattern)
        names = arguments + tuple(pattern.pattern.regex.groupindex)
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, path, names)
        elif isinstance(pattern, URLPattern):
            yield Route(pattern.name or "", path, pattern.callback, names)


def ask(client: Client, method: str, url: str) -> HttpResponse:
    """GET, POST, or POST as htmx does."""
    headers = {"HX-Request": "true", "HX-Request-Type": "partial"} if method == "HX" else {}
    return client.get(url, headers=headers) if method == "GET" else client.post(url, headers=headers)


METHODS = ("GET", "POST", "HX")
