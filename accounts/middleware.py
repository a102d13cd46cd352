"""Times on a page are the reader's."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts.zones import zone_or_utc


class TimeZoneMiddleware:
    """Show times in the signed-in person's zone. Public pages, such as health, ask nobody."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            return self.get_response(request)
        finally:
            timezone.deactivate()

    def process_view(self, request: HttpRequest, view: Callable, args: tuple, kwargs: dict) -> None:
        if getattr(view, "login_required", True) and request.user.is_authenticated:
            timezone.activate(zone_or_utc(request.user.zone))
