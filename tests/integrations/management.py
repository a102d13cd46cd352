"""Management requests to the stand-in, sent by hand and by the provider's own SDK."""

from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
from openrouter import OpenRouter

from tests.sandbox_fixture import Sandbox

MODEL = "openai/gpt-4o-mini"
SAY = [{"role": "user", "content": "Reply with exactly: a cup of tea"}]
A_DAY = 86_400


class Manager:
    """An account of its own, with a management key."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.account = f"account {uuid4().hex}"
        self.key = box.key(management=True, account=self.account)

    def send(self, method: str, path: str, *, key: str = "", **options: Any) -> httpx.Response:
        """One request under /api/v1, as the manager or with another key."""
        headers = {"authorization": f"Bearer {key or self.key}"}
        return self.box.http.request(method, f"{self.box.url}{path}", headers=headers, **options)

    def create(self, **fields: Any) -> tuple[str, dict[str, Any]]:
        """A new key, as text and as it is shown."""
        answer = self.send("POST", "/keys", json={"name": "Worker"} | fields)
        assert answer.status_code == 201, answer.text
        return answer.json()["key"], answer.json()["data"]

    def shown(self, key: str) -> dict[str, Any]:
        """What is known of a key by its hash."""
        return self.send("GET", f"/keys/{hash_of(key)}").json()["data"]

    def change(self, key: str, **fields: Any) -> dict[str, Any]:
        answer = self.send("PATCH", f"/keys/{hash_of(key)}", json=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def listed(self, **query: Any) -> list[str]:
        """The names on one page."""
        return [row["name"] for row in self.send("GET", "/keys", params=query).json()["data"]]

    def ask(self, key: str, **body: Any) -> httpx.Response:
        """A question to a model, with one of the keys."""
        question = {"model": MODEL, "messages": SAY, "max_tokens": 100} | body
        return self.send("POST", "/chat/completions", key=key, json=question)

    def sdk(self, key: str = "") -> OpenRouter:
        # Without its own retries: it would ask again for an hour.
        client = httpx.Client(trust_env=False)
        return OpenRouter(api_key=key or self.key, server_url=self.box.url, client=client, retry_config=None)


def hash_of(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def message_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["message"]
