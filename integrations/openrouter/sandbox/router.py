"""Which handler a method and a path belong to."""

import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote

from .errors import ApiError
from .exchange import Reply, Request

# Method, path and handler. Each `{}` of the path is one segment, handed to the handler decoded.
Route = tuple[str, str, Callable[..., Reply]]


class Router:
    """All routes under one prefix."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._plain: dict[str, dict[str, Callable[..., Reply]]] = {}
        self._patterns: dict[re.Pattern[str], dict[str, Callable[..., Reply]]] = {}
        for method, path, handler in routes:
            if "{}" in path:
                by_method = self._patterns.setdefault(re.compile(path.replace("{}", "([^/]+)")), {})
            else:
                by_method = self._plain.setdefault(path, {})
            by_method[method] = handler

    def answer(self, request: Request) -> Reply:
        """Hand the request over; raises ApiError(404) for an unknown path and 405 for an unknown method of it."""
        if by_method := self._plain.get(request.path):
            return _one(by_method, request.method)(request)
        for pattern, by_method in self._patterns.items():
            if found := pattern.fullmatch(request.path):
                return _one(by_method, request.method)(request, *map(unquote, found.groups()))
        raise ApiError(404)


def _one(by_method: dict[str, Callable[..., Reply]], method: str) -> Callable[..., Reply]:
    if method not in by_method:
        raise ApiError(405)
    return by_method[method]
