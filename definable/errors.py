"""Pages for what went wrong. An htmx request gets a toast instead: its page stays as it is."""

from uuid import uuid4

import structlog
from django.http import HttpRequest, HttpResponse, HttpResponseServerError
from django.shortcuts import render
from django.template import loader

from definable.fragments import toast

log = structlog.get_logger(__name__)


def _is_htmx(request: HttpRequest) -> bool:
    return "HX-Request" in request.headers


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Refuse a request that no page of ours sends. Nothing of it is repeated in the answer."""
    return HttpResponse(loader.get_template("400.html").render(), status=400)


def too_large(request: HttpRequest) -> HttpResponse:
    """Refuse a body that is larger than its page takes."""
    return _refusal(request, "This is more than the page takes. Shorten the text, then send it again.", status=413)


def no_form(request: HttpRequest) -> HttpResponse:
    """Refuse a body that no form of ours sends."""
    return _refusal(request, "This page takes forms only.", status=415)


def _refusal(request: HttpRequest, text: str, *, status: int) -> HttpResponse:
    if _is_htmx(request):
        return toast(request, text, tone="bad", status=status)
    return HttpResponse(loader.get_template("400.html").render({"text": text}), status=status)


def too_many_requests(request: HttpRequest, *, wait: int = 60) -> HttpResponse:
    """
    Turn away whoever asks too often; `wait` is in seconds, after which it works again.

    Also what allauth answers with: those of its limits that end here all count by the minute.
    """
    minutes = -(-wait // 60)
    text = f"That was too often. Wait {'a minute' if minutes == 1 else f'{minutes} minutes'}, then try again."
    if _is_htmx(request):
        response = toast(request, text, tone="bad", status=429)
    else:
        response = render(request, "429.html", {"text": text}, status=429)
    response.headers["Retry-After"] = str(wait)
    return response


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Say what the person's role cannot do, when the view said so."""
    text = str(exception) or "Your role does not allow this."
    if _is_htmx(request):
        return toast(request, text, tone="bad", status=403)
    return render(request, "403.html", {"text": text}, status=403)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer the same whether a thing never was, is gone, or belongs to somebody else."""
    if _is_htmx(request):
        return toast(request, "This no longer exists. Reload the page.", tone="bad", status=404)
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Apologise with a reference that the log has too. Needs no database, session or user."""
    reference = uuid4().hex[:12]
    log.error("page.failed", reference=reference, path=request.path)
    return HttpResponseServerError(loader.get_template("500.html").render({"reference": reference}))
