"""A response that goes on: server-sent events, and the frames they consist of."""

import re
from collections.abc import AsyncGenerator, Callable

from django.http import StreamingHttpResponse

LINE_END = re.compile(r"\r\n|\r|\n")  # what ends a line of a stream; U+2028 and its like do not
# Elements that htmx takes for orders, and those that make it read an answer as a whole page. It looks for
# them in the text, so an attribute's value counts, too. Written "&lt;" they are the same words, and nothing else.
ORDERS = re.compile(r"<(?=/?(?:hx-|(?:template|html|head|body|title)\b))", re.IGNORECASE)


class EventStream(StreamingHttpResponse):
    """
    Events that `follow` yields as frames until they end or the browser leaves.

    definable.hybrid sends them without holding a thread. For everybody else the response is empty.
    """

    def __init__(self, follow: Callable[[], AsyncGenerator[bytes, None]]) -> None:
        super().__init__(iter(()), content_type="text/event-stream; charset=utf-8")
        self.headers["X-Accel-Buffering"] = "no"
        self.follow = follow


PING = b": ping\n\n"


def frame(data: str, *, id: str, event: str = "") -> bytes:
    """Return one event. Each line of its data goes out as such, so no text in it can begin a field."""
    head = f"id: {id}\n" + (f"event: {event}\n" if event else "")
    lines = "".join(f"data: {line}\n" for line in LINE_END.split(data))
    return f"{head}{lines}\n".encode("utf-8", "replace")


def partial(target: str, swap: str, html: str) -> str:
    """Return an order to htmx to put cleaned HTML in one place. Nothing in it can be an order of its own."""
    return f'<hx-partial hx-target="{target}" hx-swap="{swap}">{ORDERS.sub("&lt;", html)}</hx-partial>'
