"""
What every response carries, and how htmx is sent elsewhere.

Both are plain synchronous middleware that touch headers only, so a stream passes through unread.
"""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.utils.cache import patch_vary_headers

GetResponse = Callable[[HttpRequest], HttpResponseBase]

CSP = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
# For a file that somebody gave us: whatever it is, it runs nothing and belongs to no site.
FOREIGN_CSP = "default-src 'none'; sandbox"
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()",
}


class SecurityHeadersMiddleware:
    """
    Puts the same rules on every answer: pages, errors, static files, streams.

    First in MIDDLEWARE, so that an answer made by any other one passes through here. Nothing a
    view sets can loosen them; `is_foreign` on a response makes them stricter.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        for name, value in HEADERS.items():
            response.headers[name] = value
        if getattr(response, "is_foreign", False):
            response.headers["Content-Security-Policy"] = FOREIGN_CSP
        if not request.path.startswith(settings.STATIC_URL):
            # Pages are a person's own: no cache may keep them, a fragment is not its page.
            response.headers["Cache-Control"] = "no-store"
            patch_vary_headers(response, ["Cookie", "HX-Request"])
        if _signs_out(request):
            # Not "cookies": the browser keeps its colour theme.
            response.headers["Clear-Site-Data"] = '"cache", "storage"'
        return response


def _signs_out(request: HttpRequest) -> bool:
    match = request.resolver_match
    return request.method == "POST" and match is not None and match.view_name == "account_logout"


class HtmxRedirectMiddleware:
    """
    Turns a redirect into one that htmx follows as a page.

    fetch() follows a 302 unseen and would put a whole page into a fragment's place. Views just
    redirect; to sign-in it becomes a 401, since the change that was asked for did not happen.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if "HX-Request" not in request.headers or response.status_code not in {301, 302, 303, 307, 308}:
            return response
        target = response.headers["Location"]
        # Cookies set on the way (messages, session) belong to the redirect too.
        answer = HttpResponse(status=401 if target.startswith(resolve_url(settings.LOGIN_URL)) else 200)
        answer.cookies = response.cookies
        answer.headers["HX-Redirect"] = target
        return answer
