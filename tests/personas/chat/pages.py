"""A page that follows a chat, as a browser does: a real web process, a cookie, and the events it is sent."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from html import unescape

import httpx
import uvicorn
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.test import Client

from accounts.models import User
from definable.hybrid import Hybrid
from personas.models import Chat

# As the vendored hx-sse divides a stream, and htmx finds its orders: before anything is parsed as HTML.
LINE_END = re.compile(r"\r\n|\r|\n")
ORDER = re.compile(r"<hx-([a-z]+)(?:\s+|>)", re.IGNORECASE)
PARTIAL = re.compile(r'^<hx-partial hx-target="(#[\w-]+)" hx-swap="(\w+)">(.*)</hx-partial>$', re.DOTALL)


@dataclass
class Event:
    """One event, as a browser reads it."""

    data: str = ""
    name: str = ""
    id: str = ""

    @property
    def order(self) -> tuple[str, str, str]:
        """The one order in it: its target, how to put it there, and the HTML."""
        assert len(ORDER.findall(self.data)) == 1
        return PARTIAL.match(self.data).groups()


def parse(stream: str) -> list[Event]:
    """Read a whole stream as the vendored hx-sse does."""
    events, fields, last_id = [], {}, ""
    for line in LINE_END.split(stream):
        if not line:
            if "data" in fields or "event" in fields:
                events.append(Event(fields.get("data", ""), fields.get("event", ""), last_id))
            fields = {}
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            continue
        if name == "data":
            fields["data"] = f"{fields['data']}\n{value}" if "data" in fields else value
        elif name == "id":
            last_id = value
        elif name in ("event", "retry"):
            fields[name] = value
    return events


@dataclass
class Page:
    """An open page. `text_of` is what stands in an element, as the orders left it."""

    address: str
    headers: dict[str, str]
    received: str = ""
    status: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    _leaves: bool = False
    _response: httpx.Response | None = None

    def run(self) -> None:
        try:
            with httpx.stream("GET", self.address, headers=self.headers, timeout=30) as response:
                self.status, self._response = response.status_code, response
                self.received += response.read().decode() if response.status_code != 200 else ""
                for piece in response.iter_text():
                    self.received += piece
                    if self._leaves:
                        break
        except httpx.HTTPError:
            pass
        finally:
            self.ended.set()

    @property
    def events(self) -> list[Event]:
        whole, _, _ = self.received.rpartition("\n\n")
        return parse(whole + "\n\n")

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events if event.name]

    def element(self, id: str) -> str:
        """The HTML of one element, as htmx would have put it together."""
        html = ""
        for event in self.events:
            if event.name:
                continue
            target, _, more = event.order
            if target == f"#{id}":
                html = more
            elif target == f"#{id}-tail":
                html = html[: html.rindex('<div class="tail"')] + more
        return html

    def text_of(self, id: str) -> str:
        """The words in one element."""
        return unescape(re.sub(r"<[^>]*>", "", self.element(id))).strip()

    def wait_for(self, truth: Callable[["Page"], object], seconds: float = 10) -> None:
        """Wait until something is true of this page."""
        until = time.monotonic() + seconds
        while not truth(self):
            assert time.monotonic() < until, f"Not seen in {seconds} s. Received: {self.received[-2000:]!r}"
            time.sleep(0.005)

    def leave(self) -> None:
        """Close the page."""
        self._leaves = True
        if self._response and not self.ended.is_set():
            with suppress(OSError):
                self._response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class Web:
    """A web process in a thread."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.pages: list[Page] = []

    def open(self, chat: Chat, user: User, *, client: Client | None = None, **more: str) -> Page:
        """Open the stream of a chat as a member who signed in; `more` are further headers."""
        client = client or signed_in(user)
        cookie = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
        return self.get(f"/stream/t/{chat.team.slug}/chats/{chat.pk}/?after=0", Cookie=cookie, **more)

    def get(self, path: str, **headers: str) -> Page:
        page = Page(f"{self.address}{path}", headers)
        self.pages.append(page)
        threading.Thread(target=page.run, daemon=True).start()
        return page


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@contextmanager
def web() -> Iterator[Web]:
    """Serve the pages of this process until the block ends."""
    app = Hybrid(pages=get_wsgi_application(), threads=4, body_limit=10_000, on_shutdown=lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, log_level="critical", lifespan="on", proxy_headers=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        running = Web(f"http://127.0.0.1:{listener.getsockname()[1]}")
        try:
            yield running
        finally:
            for page in running.pages:
                page.leave()
            server.should_exit = True
            thread.join()
