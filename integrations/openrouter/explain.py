"""
From what OpenRouter says went wrong to the family in `integrations.errors`.

Three sources, the clearest first: why a model cannot be served (`availability`), the
`error_type` that is the same in every API style, then the status. Never the text, which
changes from day to day.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from integrations import errors
from integrations.errors import UpstreamError
from integrations.openrouter.payload import as_dict, as_text, decode
from integrations.redaction import Redactor
from integrations.wire import Request

BUY_URL = "https://openrouter.ai/settings/credits"
MANAGEMENT_PATHS = ("/credits", "/keys", "/activity", "/guardrails", "/workspaces", "/organization", "/byok")
CODE_PATH = "/auth/keys"
INSIDE_A_SUCCESS = 200
A_DAY = 86400.0
A_WEEK = 7 * A_DAY

BY_AVAILABILITY = {
    "capacity_exhausted": errors.RateLimited,
    "temporarily_unavailable": errors.Overloaded,
    "wrong_endpoint": errors.InvalidRequest,
}
BY_ERROR_TYPE = {
    "rate_limit_exceeded": errors.RateLimited,
    "provider_overloaded": errors.Overloaded,
    "provider_unavailable": errors.Overloaded,
    "server": errors.Overloaded,
    "timeout": errors.TimedOut,
    "content_policy_violation": errors.RefusedByPolicy,
    "refusal": errors.RefusedByPolicy,
    "image_not_found": errors.InvalidRequest,
}
# Types that say no more than the status they stand for.
STATUS_OF_TYPE = {
    "authentication": 401,
    "payment_required": 402,
    "permission_denied": 403,
    "not_found": 404,
}
BY_STATUS = {
    408: errors.TimedOut,
    410: errors.Gone,
    429: errors.RateLimited,
    504: errors.TimedOut,
    524: errors.TimedOut,
}
# What /messages calls the same things, where its `error_type` is missing.
ANTHROPIC_STATUS = {
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "invalid_request_error": 400,
    "rate_limit_error": 429,
    "overloaded_error": 529,
    "timeout_error": 504,
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error as it was said, whichever of the shapes it came in."""

    status: int
    error_type: str
    message: str
    metadata: dict[str, Any]
    availability: dict[str, Any]
    generation_began: bool

    @property
    def provider(self) -> str:
        return as_text(self.metadata.get("provider_name"))

    @property
    def retryable(self) -> bool | None:
        said = self.availability.get("retryable")
        return said if isinstance(said, bool) else None

    @property
    def by_provider(self) -> bool:
        """Whether the provider behind OpenRouter said it, so that it is not about our key or our balance."""
        return bool(self.provider) and not as_text(self.metadata.get("limit_source")).startswith("openrouter")


def explain(
    status: int, headers: Mapping[str, str], payload: Any, *, request: Request, redactor: Redactor
) -> UpstreamError:
    """
    Return (not raise) the error that an answer stands for.

    `status` is that of HTTP; below 400 the error was found inside an answer,
    and its own code decides. `payload` is the body, or None when it is not JSON.
    """
    complaint = _read(status, payload)
    metadata = {name: value for name, value in complaint.metadata.items() if name != "flagged_input"}  # a prompt
    return _kind(complaint, request, readable=payload is not None)(
        _message(complaint, redactor),
        code=complaint.status,
        error_type=redactor.text(complaint.error_type, 80),
        retry_after=_retry_after(headers, complaint),
        provider_name=redactor.text(complaint.provider, 80),
        metadata=redactor.everything(metadata),
        availability=redactor.everything(complaint.availability),
        # Reading a PDF is charged even when every model failed afterwards.
        maybe_billed=request.billable and "file_annotations" in metadata,
        replacement_url=BUY_URL if complaint.status == 410 else "",
        retryable=complaint.retryable,
        # Another model may have room for what is too long here.
        try_next_model=True if complaint.error_type == "context_length_exceeded" else None,
    )


def _read(http_status: int, payload: Any) -> Complaint:
    body = as_dict(payload)
    error = body.get("error")
    said = error if isinstance(error, dict) else {"message": error}
    metadata = said.get("metadata") or body.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {"raw": metadata} if metadata else {}
    error_type = metadata.get("error_type") or said.get("error_type") or body.get("error_type")
    return Complaint(
        status=http_status if http_status >= 400 else _status_said(said),
        error_type=as_text(error_type),
        message=as_text(said.get("message")),
        metadata=metadata,
        availability=as_dict(said.get("availability")),
        generation_began=http_status < 400,
    )


def _status_said(said: dict[str, Any]) -> int:
    for name in ("code", "http_status", "status"):
        code = str(said.get(name))
        if code.isdecimal() and len(code) == 3 and 400 <= int(code) < 600:
            return int(code)
    return ANTHROPIC_STATUS.get(as_text(said.get("type")), 500)


def _kind(complaint: Complaint, request: Request, *, readable: bool) -> type[UpstreamError]:
    code = as_text(complaint.availability.get("code"))
    if code:
        return BY_AVAILABILITY.get(code, errors.Overloaded if complaint.retryable else errors.ModelUnavailable)
    if complaint.error_type in BY_ERROR_TYPE:
        return BY_ERROR_TYPE[complaint.error_type]
    status = STATUS_OF_TYPE.get(complaint.error_type, complaint.status)
    # A page in HTML is from something in between, which knows nothing of our key or the model.
    if not readable and status < 500 and status not in (408, 429):
        return errors.BadAnswer
    return _kind_by_status(status, complaint, request)


def _kind_by_status(status: int, complaint: Complaint, request: Request) -> type[UpstreamError]:
    if status == 401:
        # Once a generation began our key was good: then it was the provider's that failed.
        theirs = complaint.by_provider or complaint.generation_began
        return errors.ModelUnavailable if theirs else errors.KeyRefused
    if status == 402:
        return errors.ModelUnavailable if complaint.by_provider else errors.OutOfBalance
    if status == 403:
        return _kind_of_403(complaint, request)
    if status == 404:
        return _kind_of_404(request)
    return BY_STATUS.get(status, errors.Overloaded if status >= 500 else errors.InvalidRequest)


def _kind_of_404(request: Request) -> type[UpstreamError]:
    if request.path == "/generation":
        return errors.NotReady
    return errors.NotFound if request.path.startswith(MANAGEMENT_PATHS) else errors.ModelUnavailable


def _kind_of_403(complaint: Complaint, request: Request) -> type[UpstreamError]:
    if complaint.metadata.keys() & {"reasons", "patterns", "flagged_input"}:
        return errors.RefusedByPolicy
    if request.path.startswith(MANAGEMENT_PATHS):
        return errors.ManagementKeyNeeded
    if request.path == CODE_PATH:
        return errors.InvalidRequest  # the code was used, has ended, or is somebody else's
    if complaint.by_provider:
        return errors.ModelUnavailable
    # What is left before a generation: the cap of the key, or a budget above it.
    return errors.LimitReached if request.billable else errors.RefusedByPolicy


def _message(complaint: Complaint, redactor: Redactor) -> str:
    said = redactor.text(complaint.message, 500) or f"OpenRouter answered with status {complaint.status}."
    reason = redactor.text(_reason(complaint.metadata.get("raw")), 500)
    detail = ": ".join(part for part in (redactor.text(complaint.provider, 80), reason) if part)
    return f"{said} ({detail})" if detail else said


def _reason(raw: Any) -> str:
    """What the provider itself said: plain text, or JSON in a string in one of two usual shapes."""
    if not isinstance(raw, str):
        return ""
    try:
        said = as_dict(decode(raw.encode(errors="replace")))
    except ValueError:
        return raw
    return as_text(as_dict(said.get("error")).get("message")) or as_text(said.get("message")) or raw


def _retry_after(headers: Mapping[str, str], complaint: Complaint) -> float | None:
    """Seconds to wait, by the latest of all hints: the daily cap looks like a short wait otherwise."""
    repeated = {name.lower(): value for name, value in as_dict(complaint.metadata.get("headers")).items()}
    now = time.time()
    reset = headers.get("x-ratelimit-reset") or repeated.get("x-ratelimit-reset")
    hints = [
        _wait(headers.get("retry-after") or repeated.get("retry-after"), now),
        _seconds(complaint.availability.get("retry_after")),
        _seconds(reset, scale=1000, since=now),
    ]
    if complaint.metadata.get("limit_source") == "openrouter_free_tier_daily":
        hints.append(A_DAY - now % A_DAY)
    return max((hint for hint in hints if hint is not None), default=None)


def _wait(value: Any, now: float) -> float | None:
    """Read Retry-After: seconds, or an HTTP date."""
    seconds = _seconds(value)
    if seconds is not None or not isinstance(value, str):
        return seconds
    try:
        return _seconds(parsedate_to_datetime(value).timestamp(), since=now)
    except (ValueError, OverflowError):
        return None


def _seconds(value: Any, *, scale: float = 1, since: float = 0.0) -> float | None:
    try:
        seconds = float(value) / scale - since
    except (TypeError, ValueError, OverflowError):
        return None
    # A wait is never negative, and never so long that arithmetic on it could fail.
    return min(max(seconds, 0.0), A_WEEK) if math.isfinite(seconds) else None
