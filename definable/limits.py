"""
What a request may bring, and how often a person may ask.

What it brings is checked before anything reads its body: an oversized or odd one is not worth parsing.
"""

from collections.abc import Callable
from typing import TypeVar

from allauth.core import ratelimit
from django.conf import settings
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from definable import errors

SAFE = {"GET", "HEAD", "OPTIONS", "TRACE"}
# What a browser's form sends. Pages take nothing else: no JSON, no XML, no text that only looks like a form.
FORM_TYPES = {"application/x-www-form-urlencoded", "multipart/form-data"}
USUAL_BODY = 1024 * 1024  # bytes

View = TypeVar("View", bound=Callable)


def takes_long_texts(view: View) -> View:
    """Let a page take prompts: bodies up to DATA_UPLOAD_MAX_MEMORY_SIZE instead of 1 MiB."""
    view.body_limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    return view


def takes_files(view: View) -> View:
    """Let a page take prompts and files: forms up to FILE_UPLOAD_MAX_MEMORY_SIZE. Other pages drop files unread."""
    view.body_limit = settings.FILE_UPLOAD_MAX_MEMORY_SIZE
    view.takes_files = True
    return view


def asked_too_often(request: HttpRequest, action: str) -> HttpResponse | None:
    """Count something that the person signed in asks for; return the answer when it was too often."""
    if ratelimit.consume(request, action=action):
        return None
    _, seconds = settings.PERSON_LIMITS[action]
    return errors.too_many_requests(request, wait=seconds)


def takes_json(*, most: int) -> Callable[[View], View]:
    """Let an address take JSON of `most` bytes, and no forms: what machines send."""

    def decorate(view: View) -> View:
        view.body_limit = most
        view.body_types = {"application/json"}
        return view

    return decorate


class RequestLimitsMiddleware:
    """
    Refuses a body larger than its page takes (413) or of another type than it takes (415): a form's.

    Stands before whatever reads request.POST. A NUL character in an address, which no page writes
    and no database column takes, is a bad request.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "%00" in request.META.get("QUERY_STRING", "") or "\0" in request.path:
            return errors.bad_request(request, ValueError("NUL"))
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Callable, args: tuple, kwargs: dict) -> HttpResponse | None:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
        if request.method in SAFE or not length:
            return None
        if length > getattr(view, "body_limit", USUAL_BODY):
            return errors.too_large(request)
        if request.content_type not in getattr(view, "body_types", FORM_TYPES):
            return errors.no_form(request)
        if getattr(view, "takes_files", False):
            request.upload_handlers = [MemoryFileUploadHandler(request)]
        return None
