"""Which failure becomes which error: by availability, error type and status, never by the text."""

import time

import pytest

from integrations import errors
from integrations.openrouter.client import OpenRouter
from integrations.openrouter.explain import A_WEEK, BUY_URL, explain
from integrations.redaction import Redactor
from integrations.wire import Request
from tests.integrations.upstream import CHAT, MESSAGE, MESSAGE_STREAM, error_body

UPSTREAM = {"provider_name": "Azure", "is_byok": False}


def said(status: int, payload: object, request: Request = CHAT, **headers: str) -> errors.UpstreamError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return explain(status, named, payload, request=request, redactor=Redactor(None))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest),
        (401, errors.KeyRefused),
        (402, errors.OutOfBalance),
        (403, errors.LimitReached),
        (404, errors.ModelUnavailable),
        (405, errors.InvalidRequest),
        (408, errors.TimedOut),
        (409, errors.InvalidRequest),
        (410, errors.Gone),
        (412, errors.InvalidRequest),
        (413, errors.InvalidRequest),
        (418, errors.InvalidRequest),
        (422, errors.InvalidRequest),
        (429, errors.RateLimited),
        (500, errors.Overloaded),
        (502, errors.Overloaded),
        (503, errors.Overloaded),
        (504, errors.TimedOut),
        (520, errors.Overloaded),
        (524, errors.TimedOut),
        (529, errors.Overloaded),
    ],
)
def test_a_status_alone_decides_where_nothing_else_is_said(status, kind):
    error = said(status, error_body(status))

    assert type(error) is kind
    assert (error.code, error.maybe_billed, error.sent) == (status, False, True)


@pytest.mark.parametrize(
    ("error_type", "kind", "try_next_model"),
    [
        ("context_length_exceeded", errors.InvalidRequest, True),
        ("max_tokens_exceeded", errors.InvalidRequest, False),
        ("authentication", errors.KeyRefused, False),
        ("payment_required", errors.OutOfBalance, False),
        ("permission_denied", errors.LimitReached, False),
        ("not_found", errors.ModelUnavailable, True),
        ("image_not_found", errors.InvalidRequest, False),
        ("rate_limit_exceeded", errors.RateLimited, True),
        ("provider_overloaded", errors.Overloaded, True),
        ("provider_unavailable", errors.Overloaded, True),
        ("server", errors.Overloaded, True),
        ("timeout", errors.TimedOut, True),
        ("content_policy_violation", errors.RefusedByPolicy, True),
        ("refusal", errors.RefusedByPolicy, True),
        ("a_word_of_tomorrow", errors.InvalidRequest, False),
    ],
)
@pytest.mark.parametrize("place", ["metadata", "error", "body"])
def test_an_error_type_outranks_the_status_wherever_it_stands(error_type, kind, try_next_model, place):
    body = error_body(400, metadata={})
    {"metadata": body["error"]["metadata"], "error": body["error"], "body": body}[place]["error_type"] = error_type

    error = said(400, body)

    assert (type(error), error.try_next_model) == (kind, try_next_model)
    assert error.error_type == error_type


@pytest.mark.parametrize(
    ("code", "retryable", "kind"),
    [
        ("model_not_found", False, errors.ModelUnavailable),
        ("wrong_endpoint", False, errors.InvalidRequest),
        ("no_endpoints", False, errors.ModelUnavailable),
        ("no_endpoints", True, errors.Overloaded),
        ("model_deprecated", False, errors.ModelUnavailable),
        ("capacity_exhausted", True, errors.RateLimited),
        ("temporarily_unavailable", True, errors.Overloaded),
        ("region_restricted", False, errors.ModelUnavailable),
        ("a_word_of_tomorrow", True, errors.Overloaded),
        ("a_word_of_tomorrow", False, errors.ModelUnavailable),
    ],
)
def test_availability_outranks_everything(code, retryable, kind):
    availability = {"code": code, "retryable": retryable, "retry_after": 40}
    layout_of_the_guide = {"error": {"http_status": 404, "error_type": "not_found", "availability": availability}}

    error = said(404, layout_of_the_guide)

    assert (type(error), error.retryable, error.retry_after) == (kind, retryable, 40.0)


@pytest.mark.parametrize("text", ["Key limit exceeded", "Only management keys can perform this operation", "", "Hola"])
def test_the_text_decides_nothing(text):
    assert type(said(403, error_body(403, text))) is errors.LimitReached
    assert type(said(403, error_body(403, text), OpenRouter.credits())) is errors.ManagementKeyNeeded
    assert type(said(403, error_body(403, text), OpenRouter.models())) is errors.RefusedByPolicy


@pytest.mark.parametrize("metadata", [{"reasons": ["violence"], "flagged_input": "my prompt"}, {"patterns": ["x"]}])
def test_moderation_and_guardrails_are_policy(metadata):
    error = said(403, error_body(403, metadata=metadata | UPSTREAM))

    assert type(error) is errors.RefusedByPolicy
    assert "flagged_input" not in error.metadata


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_what_the_provider_says_is_not_about_our_account(status):
    assert type(said(status, error_body(status, metadata=UPSTREAM))) is errors.ModelUnavailable


def test_a_balance_that_names_openrouter_is_ours():
    body = error_body(402, metadata=UPSTREAM | {"limit_source": "openrouter_credits"})

    assert type(said(402, body)) is errors.OutOfBalance


@pytest.mark.parametrize(
    ("kind_said", "kind"),
    [
        ("authentication_error", errors.ModelUnavailable),
        ("billing_error", errors.OutOfBalance),
        ("not_found_error", errors.ModelUnavailable),
        ("invalid_request_error", errors.InvalidRequest),
        ("rate_limit_error", errors.RateLimited),
        ("overloaded_error", errors.Overloaded),
        ("timeout_error", errors.TimedOut),
        ("api_error", errors.Overloaded),
    ],
)
def test_anthropics_words_are_understood_in_the_middle_of_a_stream(kind_said, kind):
    body = {"type": "error", "error": {"type": kind_said, "message": "no"}, "request_id": None, "metadata": {}}

    assert type(said(200, body, MESSAGE_STREAM)) is kind


def test_anthropics_shape_carries_its_error_type():
    body = {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Slow down", "error_type": "rate_limit_exceeded"},
        "metadata": {"provider_name": "Anthropic"},
    }

    error = said(429, body, MESSAGE)

    assert (type(error), error.error_type, error.provider_name) == (
        errors.RateLimited,
        "rate_limit_exceeded",
        "Anthropic",
    )


@pytest.mark.parametrize("payload", [{}, {"error": None}, {"error": "words"}, {"error": ["a"]}, {"error": 5}, {"a": 1}])
def test_an_error_of_any_shape_is_explained(payload):
    error = said(502, payload)

    assert type(error) is errors.Overloaded
    assert error.message


@pytest.mark.parametrize("code", ["429", 429])
def test_the_code_inside_a_success_decides(code):
    assert type(said(200, {"error": {"code": code, "message": "no"}})) is errors.RateLimited


@pytest.mark.parametrize("code", [None, "abc", 200, -1, 10**30, True, {"a": 1}])
def test_a_code_that_is_none_means_a_failing_service(code):
    assert type(said(200, {"error": {"code": code, "message": "no"}})) is errors.Overloaded


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410])
def test_a_page_of_something_in_between_says_nothing_about_key_or_model(status):
    assert type(said(status, None)) is errors.BadAnswer


@pytest.mark.parametrize(
    ("status", "kind"), [(429, errors.RateLimited), (502, errors.Overloaded), (504, errors.TimedOut)]
)
def test_a_page_of_a_busy_proxy_is_as_good_as_its_status(status, kind):
    assert type(said(status, None)) is kind


def test_what_is_gone_says_where_to_go():
    error = said(410, error_body(410), OpenRouter.coinbase_charge({"amount": 5}))

    assert (type(error), error.replacement_url, error.retryable) == (errors.Gone, BUY_URL, False)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("1e300", A_WEEK),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date_and_stays_in_bounds(value, seconds):
    assert said(429, error_body(429), retry_after=value).retry_after == seconds


@pytest.mark.parametrize("headers", [{"X-RateLimit-Reset": "soon"}, {"X-RateLimit-Reset": None}, "text", [1], None])
def test_repeated_headers_of_any_type_are_survived(headers):
    assert said(429, error_body(429, metadata={"headers": headers})).retry_after is None


def test_the_latest_of_several_waits_counts():
    reset = str((time.time() + 50) * 1000)
    availability = {"code": "capacity_exhausted", "retryable": True, "retry_after": 20}

    error = said(429, error_body(429, availability=availability), retry_after="5", x_ratelimit_reset=reset)

    assert 48 < error.retry_after < 51


def test_every_error_has_its_own_word_for_the_log():
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.UpstreamError)
    ]

    assert len({kind.outcome for kind in kinds}) == len(kinds) == 17
