"""The web process under a real uvicorn: what reaches the pages, what is refused, what is streamed."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
import uvicorn

from definable.hybrid import PIECE, Hybrid

LIMIT = 1000


class Pages:
    """A WSGI application that remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[dict] = []
        self.closed = threading.Event()
        self.produced = 0

    def __call__(self, environ: dict, start_response: Callable) -> "Iterator[bytes]":
        body = environ["wsgi.input"].read()
        self.seen.append(environ | {"body": body})
        if environ["PATH_INFO"] == "/fails":
            raise ValueError("a page that breaks")
        headers = [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
        start_response("200 OK", headers)
        return self._chunks(environ)

    def _chunks(self, environ: dict) -> Iterator[bytes]:
        try:
            for _ in range(int(environ["QUERY_STRING"] or 1)):
                self.produced += 1
                yield environ["REQUEST_METHOD"].encode() * 1000
        finally:
            self.closed.set()


class Stream:
    """What a page answers that goes on until `go_on` ends or the browser leaves."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.left = False

    def __call__(self, environ: dict, start_response: Callable) -> "Stream":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        self.query = environ["QUERY_STRING"]
        return self

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    async def follow(self) -> AsyncIterator[bytes]:
        try:
            yield b"begun "
            for _ in range(int(self.query)):
                await asyncio.sleep(0.01)
                yield b"more "
        except asyncio.CancelledError:
            self.left = True
            raise
        finally:
            self.ended.set()


@contextmanager
def served(pages: Callable, **config: object) -> Iterator[str]:
    ended = []
    app = Hybrid(pages=pages, threads=2, body_limit=LIMIT, on_shutdown=lambda: ended.append(True))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", proxy_headers=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()
    assert ended == [True]


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def address(pages: Pages) -> Iterator[str]:
    with served(pages) as base:
        yield base


def test_a_page_gets_method_path_query_body_and_client(address, pages):
    httpx.post(f"{address}/caf%C3%A9/?2", content=b"x=1", headers={"Content-Type": "application/x-www-form-urlencoded"})

    seen = pages.seen[0]
    assert seen["REQUEST_METHOD"] == "POST"
    assert seen["PATH_INFO"].encode("latin-1").decode() == "/café/"
    assert seen["QUERY_STRING"] == "2"
    assert seen["body"] == b"x=1"
    assert seen["CONTENT_LENGTH"] == "3"
    assert seen["CONTENT_TYPE"] == "application/x-www-form-urlencoded"
    assert seen["REMOTE_ADDR"] == "127.0.0.1"
    assert seen["HTTP_HOST"] == address.removeprefix("http://")


def test_a_header_with_an_underscore_cannot_pass_for_one_with_a_dash(address, pages):
    httpx.get(f"{address}/", headers={"X_Forwarded_Proto": "https"})

    assert "HTTP_X_FORWARDED_PROTO" not in pages.seen[0]


def test_repeated_headers_are_joined(address, pages):
    httpx.get(f"{address}/", headers=[("Cookie", "a=1"), ("Cookie", "b=2"), ("X-Tag", "c"), ("X-Tag", "d")])

    assert pages.seen[0]["HTTP_COOKIE"] == "a=1; b=2"
    assert pages.seen[0]["HTTP_X_TAG"] == "c,d"


def test_every_set_cookie_header_arrives(address):
    assert httpx.get(f"{address}/").headers.get_list("set-cookie") == ["a=1", "b=2"]


def test_what_follows_a_page_is_sent_until_it_ends():
    stream = Stream()

    with served(stream) as address:
        answer = httpx.get(f"{address}/?3")

    assert (answer.headers["content-type"], answer.text) == ("text/event-stream", "begun more more more ")
    assert stream.ended.is_set() and not stream.left


def test_a_stream_learns_that_its_browser_left_while_nothing_was_sent():
    stream = Stream()

    with served(stream) as address:
        with httpx.stream("GET", f"{address}/?100000") as answer:
            next(answer.iter_raw())
        assert stream.ended.wait(2)

    assert stream.left


def test_asking_for_the_head_of_a_stream_follows_nothing():
    stream = Stream()

    with served(stream) as address:
        assert httpx.head(f"{address}/?100000").content == b""

    assert not stream.ended.is_set()


def test_head_has_headers_and_no_body(address, pages):
    answer = httpx.head(f"{address}/?3")

    assert (answer.status_code, answer.content) == (200, b"")
    assert pages.produced == 0


def test_an_announced_body_over_the_limit_is_refused_before_it_is_read(address, pages):
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as line:
        line.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert line.recv(12) == b"HTTP/1.1 413"
    assert pages.seen == []


def test_a_body_without_a_length_is_refused_at_the_limit(address, pages):
    answer = httpx.post(f"{address}/", content=(b"x" * 100 for _ in range(LIMIT)))

    assert answer.status_code == 413
    assert pages.seen == []


def test_a_body_of_exactly_the_limit_is_accepted(address, pages):
    assert httpx.post(f"{address}/", content=b"x" * LIMIT).status_code == 200
    assert len(pages.seen[0]["body"]) == LIMIT


def test_a_long_answer_arrives_whole(address):
    assert httpx.get(f"{address}/?1000").content == b"GET" * 1_000_000


def test_a_page_stops_when_the_browser_leaves(address, pages):
    with httpx.stream("GET", f"{address}/?{10**9}") as answer:
        next(answer.iter_raw())

    assert pages.closed.wait(5)
    assert pages.produced * 3000 < 500 * PIECE


def test_a_page_that_breaks_is_a_500_and_the_next_one_works(address):
    assert httpx.get(f"{address}/fails").status_code == 500
    assert httpx.get(f"{address}/").status_code == 200


def test_an_idle_stream_holds_no_thread():
    with served(Stream()) as address, ExitStack() as streams:
        for _ in range(10):
            answer = streams.enter_context(httpx.stream("GET", f"{address}/?100000"))
            next(answer.iter_raw())

        assert httpx.get(f"{address}/?1", timeout=2).text == "begun more "
