"""
Why a call to a service brought no answer: a small family, told apart by what to do next.

Which one it is was decided from status, error type and availability, never
from the text. `message` may be shown to people: it holds no key.
"""

from decimal import Decimal
from typing import Any


class Withdrawn(Exception):
    """Whoever asked wants no answer any more; `words` say why, for the record of the call."""

    words = "It was stopped before the answer was whole. What was billed is asked for."


class UpstreamError(Exception):
    """
    The service did not answer as hoped.

    retryable       the same request may succeed later, after `retry_after` seconds if that is known
    try_next_model  another model may succeed now
    sent            False when the request certainly never left this machine
    maybe_billed    the service may have charged although we have no whole answer
    may_have_acted  it may have done what was asked, or some of it: nobody repeats that by itself
    advice          what to do about it, where the words for its kind do not fit
    cost_usd        what it said it charged, when it said
    partial_text    what had arrived before it failed
    availability    the service's own account of why a model cannot be served
    """

    outcome = "failed"
    retryable = False
    try_next_model = False

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        error_type: str = "",
        retryable: bool | None = None,
        try_next_model: bool | None = None,
        retry_after: float | None = None,
        provider_name: str = "",
        metadata: dict[str, Any] | None = None,
        availability: dict[str, Any] | None = None,
        generation_id: str = "",
        partial_text: str = "",
        sent: bool = True,
        maybe_billed: bool = False,
        may_have_acted: bool = False,
        cost_usd: Decimal | None = None,
        replacement_url: str = "",
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.error_type = error_type
        self.retry_after = retry_after
        self.provider_name = provider_name
        self.metadata = metadata or {}
        self.availability = availability or {}
        self.generation_id = generation_id
        self.partial_text = partial_text
        self.sent = sent
        self.maybe_billed = maybe_billed
        self.may_have_acted = may_have_acted
        self.cost_usd = cost_usd
        self.replacement_url = replacement_url
        self.advice = advice
        if retryable is not None:
            self.retryable = retryable
        if try_next_model is not None:
            self.try_next_model = try_next_model


class RateLimited(UpstreamError):
    """Too many requests; `retry_after` says when to come back, where the service told."""

    outcome = "rate_limited"
    retryable = True
    try_next_model = True


class Overloaded(UpstreamError):
    """The service or the provider behind it is failing for now."""

    outcome = "overloaded"
    retryable = True
    try_next_model = True


class TimedOut(UpstreamError):
    """No answer, or not all of it, in time."""

    outcome = "timed_out"
    retryable = True
    try_next_model = True


class Unreachable(UpstreamError):
    """No connection (`sent` is False), or it was lost on the way (`sent` is True)."""

    outcome = "unreachable"
    retryable = True


class EmptyAnswer(UpstreamError):
    """A success without output: a model that was still starting, or stopped before its first word."""

    outcome = "empty_answer"
    retryable = True
    try_next_model = True


class KeyRefused(UpstreamError):
    """Our key is wrong, expired, disabled or missing: a person must replace it."""

    outcome = "key_refused"


class ManagementKeyNeeded(UpstreamError):
    """Only a management key may do this."""

    outcome = "management_key_needed"


class OutOfBalance(UpstreamError):
    """The account at the service cannot pay: top it up, or ask for fewer tokens."""

    outcome = "out_of_balance"


class LimitReached(UpstreamError):
    """A cap set on the key, member or account at the service is used up."""

    outcome = "limit_reached"


class RefusedByPolicy(UpstreamError):
    """Moderation, a guardrail or the model itself declined the content."""

    outcome = "refused_by_policy"
    try_next_model = True


class InvalidRequest(UpstreamError):
    """The arguments are not acceptable; sending them again cannot help."""

    outcome = "invalid_request"


class ModelUnavailable(UpstreamError):
    """This model cannot be served to us: unknown, retired, or excluded by settings (see `availability`)."""

    outcome = "model_unavailable"
    try_next_model = True


class NotFound(UpstreamError):
    """What should be looked at or changed at the service is not there: it never was, or somebody deleted it."""

    outcome = "not_found"


class NotReady(UpstreamError):
    """The record of a generation is not there yet, or never was: ask again in a few seconds."""

    outcome = "not_ready"
    retryable = True


class Gone(UpstreamError):
    """The service withdrew this for good; `replacement_url` is where people go instead."""

    outcome = "gone"


class BadAnswer(UpstreamError):
    """What came back cannot be understood: not JSON, cut off, too large, or a redirect."""

    outcome = "bad_answer"
    try_next_model = True
