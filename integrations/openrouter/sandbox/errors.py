"""What the service says when it refuses, in the shape of either API."""

from typing import Any

MESSAGES = {
    400: "Invalid request parameters",
    401: "Missing Authentication header",
    402: "Insufficient credits. Add more using https://openrouter.ai/credits",
    403: "Only management keys can perform this operation",
    404: "Resource not found",
    405: "Method not allowed",
    408: "Operation timed out. Please try again later.",
    413: "Request payload too large",
    422: "Invalid argument",
    429: "Rate limit exceeded",
    500: "Internal Server Error",
    502: "Provider returned error",
    503: "Service temporarily unavailable",
    504: "Request timed out. Please try again later.",
    524: "Request timed out. Please try again later.",
    529: "Provider returned error",
}

ERROR_TYPES = {
    400: "invalid_request",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    412: "precondition_failed",
    413: "payload_too_large",
    422: "unprocessable",
    429: "rate_limit_exceeded",
    500: "server",
    502: "provider_unavailable",
    503: "provider_overloaded",
    504: "timeout",
    524: "timeout",
    529: "provider_overloaded",
}

# The Anthropic format has fewer words; what is not listed is an `api_error`.
ANTHROPIC_TYPES = {
    "authentication": "authentication_error",
    "permission_denied": "permission_error",
    "payment_required": "billing_error",
    "not_found": "not_found_error",
    "image_not_found": "not_found_error",
    "rate_limit_exceeded": "rate_limit_error",
    "provider_overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "invalid_request": "invalid_request_error",
    "invalid_prompt": "invalid_request_error",
    "context_length_exceeded": "invalid_request_error",
    "max_tokens_exceeded": "invalid_request_error",
    "content_policy_violation": "invalid_request_error",
}

# Availability code: HTTP status and whether the same request may work later.
AVAILABILITY = {
    "model_not_found": (400, False),
    "wrong_endpoint": (400, False),
    "no_endpoints": (404, False),
    "capacity_exhausted": (429, True),
    "temporarily_unavailable": (503, True),
    "privacy_restricted": (404, False),
    "constraint_filtered": (404, False),
}


class ApiError(Exception):
    """A refusal: an HTTP status, a message to show, what a program may decide on, and `wait` seconds before it."""

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        error_type: str = "",
        metadata: dict[str, Any] | None = None,
        availability: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        wait: float = 0,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message or MESSAGES.get(status, "Unknown error")
        self.error_type = error_type or ERROR_TYPES.get(status, "unmapped")
        self.metadata = metadata or {}
        self.availability = availability
        self.headers = headers or {}
        self.wait = wait

    def chat_error(self) -> dict[str, Any]:
        """The `error` object of every endpoint but /messages."""
        error: dict[str, Any] = {"code": self.status, "message": self.message}
        if self.status != 410:  # the one answer that carries nothing else
            error["metadata"] = {"error_type": self.error_type, **self.metadata}
        if self.availability:
            # The documentation shows both layouts; a client has to live with either.
            error |= {"error_type": self.error_type, "http_status": self.status, "availability": self.availability}
        return error

    def messages_error(self) -> dict[str, Any]:
        """The `error` object of /messages."""
        kind = ANTHROPIC_TYPES.get(self.error_type, "api_error")
        error: dict[str, Any] = {"type": kind, "message": self.message, "error_type": self.error_type}
        return error | ({"availability": self.availability} if self.availability else {})


def unavailable(code: str, message: str, requested: list[str], **extra: Any) -> ApiError:
    """A model that cannot be served, with the reason as a code."""
    status, retryable = AVAILABILITY[code]
    availability = {
        "code": code,
        "retryable": retryable,
        "requested_models": requested,
        **extra,
        "docs_url": f"https://openrouter.ai/docs/errors#{code}",
    }
    return ApiError(status, message, availability=availability)


def invalid(message: str) -> ApiError:
    """A request whose fields do not fit."""
    return ApiError(400, f"Invalid request parameters: {message}")
