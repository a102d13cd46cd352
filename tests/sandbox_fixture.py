"""Start the stand-in OpenRouter as the process it is, and talk to its back door."""

import json
import os
import re
import select
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
SECONDS_TO_START = 20
READY = re.compile(r"^sandbox ready on (http://\S+)$")


class Sandbox:
    """A running sandbox. `url` ends in /api/v1; `root` is the same without."""

    def __init__(self, process: subprocess.Popen, url: str, folder: tempfile.TemporaryDirectory, journal: Path) -> None:
        self.process = process
        self.url = url
        self.root = url.removesuffix("/api/v1")
        self.journal_path = journal
        # One for all calls: making a client is slower than most of them.
        self.http = httpx.Client(trust_env=False, timeout=10)
        self._folder = folder

    def key(self, **wish: Any) -> str:
        """A fresh key; docs/sandbox.md lists the wishes: `management`, `limit`, `balance`, `free_used` …"""
        return self._post("/__sandbox/keys", wish)["key"]

    def consent(self, url: str, *, account: str = "shared", deny: bool = False) -> dict[str, str]:
        """Decide as a user of this account would on the page at `url`; returns `location`, and `code` if given."""
        return self._post("/__sandbox/authorize", {"url": url, "account": account, "deny": deny})

    def rules(self, *rules: dict[str, Any]) -> list[dict[str, Any]]:
        """Replace the faults in force; none given means that all goes well again."""
        self.http.delete(f"{self.root}/__sandbox/rules").raise_for_status()
        return self._post("/__sandbox/rules", list(rules))

    def rules_in_force(self) -> list[dict[str, Any]]:
        """Each rule with how often it was `seen` and `fired`."""
        return self.http.get(f"{self.root}/__sandbox/rules").raise_for_status().json()

    def advance(self, seconds: float = 0) -> datetime:
        """Move its clock forward; returns what it then shows."""
        return datetime.fromisoformat(self._post("/__sandbox/clock", {"advance": seconds})["now"])

    def real_time(self) -> None:
        """Set its clock right again."""
        self.http.delete(f"{self.root}/__sandbox/clock").raise_for_status()

    def journal(self) -> list[dict[str, Any]]:
        """Every line written so far, oldest first."""
        return [json.loads(line) for line in self.journal_path.read_text().splitlines()]

    def stop(self, *, seconds: float = 10) -> int:
        """End it as a service manager would; returns the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self.process.stdout.close()
            self.http.close()
            self._folder.cleanup()

    def _post(self, path: str, data: Any) -> Any:
        return self.http.post(f"{self.root}{path}", json=data).raise_for_status().json()


def start_sandbox(**flags: Any) -> Sandbox:
    """
    Start one on a free port and wait until it listens: `start_sandbox(latency_ms=0, catalog=path)`.

    It gets an empty environment, so it cannot lean on our settings. `stop()` it when done.
    """
    folder = tempfile.TemporaryDirectory(prefix="sandbox-")
    options = {"port": 0, "journal": Path(folder.name) / "journal.jsonl", "latency_ms": 0} | flags
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    errors = Path(folder.name) / "stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "integrations.openrouter.sandbox", *words],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    readable, _, _ = select.select([process.stdout], [], [], SECONDS_TO_START)
    ready = READY.match(process.stdout.readline() if readable else "")
    if not ready:
        process.kill()
        process.wait()
        raise RuntimeError(f"The sandbox did not start: {errors.read_text()}")
    return Sandbox(process, ready[1], folder, Path(options["journal"]))
