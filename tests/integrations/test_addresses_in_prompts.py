"""Addresses of pictures and files in a prompt are the provider's to open: nothing here does."""

import json
import socket

import pytest

from tests.integrations.desk import Desk
from tests.integrations.scripted import ScriptedServer, stream

PICTURE = "https://pictures.example/secret.png"
FILE = "http://169.254.169.254/latest/meta-data"  # where clouds keep the keys of a machine
SHOWN = {"type": "image_url", "image_url": {"url": PICTURE}}
ANSWER = {"id": "gen-1", "model": "openai/gpt-5-mini", "choices": [{"index": 0, "delta": {"content": "Seen."}}]}
LAST = ANSWER | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": {"cost": 0.001}}


@pytest.mark.requirement("SSRF-8")
@pytest.mark.django_db
def test_a_picture_elsewhere_is_passed_on_and_never_looked_up(sandbox, settings, monkeypatch):
    settings.INTEGRATION_URLS = {"openrouter": sandbox.url}
    desk, asked, resolve = Desk(sandbox, balance=50), set(), socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **by: asked.add(host) or resolve(host, *more, **by))
    words = {"type": "text", "text": f"And what is at {FILE}?"}
    with ScriptedServer([stream(ANSWER, LAST)]) as server:
        settings.INTEGRATION_URLS = {"openrouter": server.url}
        said = [{"role": "user", "content": [SHOWN, words]}]
        result = desk.call(arguments={"model": "openai/gpt-5-mini", "messages": said, "max_completion_tokens": 50})

    assert result.answer.text == "Seen."
    assert json.loads(server.seen[0].body)["messages"] == said
    assert asked <= {"127.0.0.1", b"127.0.0.1", "localhost", None}
