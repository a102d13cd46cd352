"""One view, two ways to answer: the whole page, or the part of it that htmx asked for."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers


def wants_fragment(request: HttpRequest) -> bool:
    """Say whether htmx will swap a part; going back in history asks for the whole page."""
    return bool(request.htmx) and request.headers.get("HX-Request-Type") == "partial"


def render_fragment(
    request: HttpRequest, page_template: str, fragment_template: str, context: dict, status: int = 200
) -> HttpResponse:
    """Render the fragment for htmx and the page (which includes the fragment) for everybody else."""
    template = fragment_template if wants_fragment(request) else page_template
    response = render(request, template, context, status=status)
    patch_vary_headers(response, ["HX-Request"])
    return response


def toast(request: HttpRequest, text: str, *, tone: str = "ok", status: int = 200) -> HttpResponse:
    """Answer htmx with a toast alone; nothing else on the page changes."""
    return render(request, "components/_toast_partial.html", {"text": text, "tone": tone}, status=status)
