"""What to do about a call that failed, for the people who read its row."""

from integrations import errors
from integrations.errors import UpstreamError

NEXT = {
    errors.RateLimited: "Wait until then, or add a fallback model.",
    errors.Overloaded: "Try again, or add a fallback model.",
    errors.TimedOut: "Try again, or ask for a shorter answer.",
    errors.Unreachable: "Try again.",
    errors.EmptyAnswer: "Try again, or choose another model.",
    errors.KeyRefused: "Connect a new key on the integrations page.",
    errors.ManagementKeyNeeded: "Connect a management key for this.",
    errors.OutOfBalance: "Top up the account at the provider, or ask for a shorter answer.",
    errors.LimitReached: "Raise the limit of the key at the provider, or wait until it starts again.",
    errors.RefusedByPolicy: "Ask for something else, or choose another model.",
    errors.InvalidRequest: "Correct the arguments.",
    errors.ModelUnavailable: "Choose another model.",
    errors.NotFound: "Look it up again: somebody may have deleted it at the provider.",
    errors.NotReady: "Ask again in a few seconds.",
    errors.Gone: "Do not call it again.",
    errors.BadAnswer: "Try again, or choose another model.",
}
HELD = "It may have been billed, so its platform credits stay held until that is known."


NOT_QUOTED = "It failed. What the provider said of it is not kept."


def in_words(error: UpstreamError, *, quotes: bool = True) -> str:
    """
    What went wrong, what to do about it, and what became of the platform credits.

    A provider may repeat what it was asked: unless it `quotes`, nothing it said is in these words.
    """
    message = error.message if quotes or not error.sent else NOT_QUOTED
    said = [
        message if message.endswith((".", "!", "?")) else f"{message}.",
        error.advice or NEXT.get(type(error), "Try again."),
    ]
    if not error.sent:
        said.insert(1, "Nothing was sent.")
    if error.replacement_url and quotes:
        said.append(f"Go to {error.replacement_url} instead.")
    if error.maybe_billed:
        said.append(HELD)
    return " ".join(said)
