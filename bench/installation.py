"""A whole Definable in a folder of its own, started as `make up` starts it: for benchmarks and tests."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg

from definable.launcher import local
from definable.launcher.postgres import Postgres
from definable.launcher.process import die_with_parent

SECONDS_TO_START = 120
# What would lead to somebody else's servers, or tie our launcher to the `make` that runs the tests.
NOT_INHERITED = {"DATABASE_URL", "CELERY_BROKER_URL", "STREAM_URL", "OPENROUTER_URL", "MAKELEVEL", "BASE_URL"}
SIGN_IN = re.compile(r"^Sign in: (\S+)$", re.MULTILINE)


class Installation:
    """A running installation with its demo team. `stop()` it when done: nothing of it stays."""

    def __init__(self, **env: str) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="definable-"))
        port, sandbox_port = free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        self.sandbox = f"http://127.0.0.1:{sandbox_port}"
        self.output = self.state / "launcher.log"
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        ours = {"STATE": str(self.state), "PORT": str(port), "SANDBOX_PORT": str(sandbox_port)}
        self.env = inherited | ours | env
        with self.output.open("wb") as output:
            self.launcher = subprocess.Popen(
                [sys.executable, "-m", "definable.launcher"],
                cwd=local.CHECKOUT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGTERM),
            )
        self.first_link = self._wait_for_link()

    def _wait_for_link(self) -> str:
        deadline = time.monotonic() + SECONDS_TO_START
        while not (found := SIGN_IN.search(self.output.read_text())):
            if self.launcher.poll() is not None or time.monotonic() > deadline:
                said = self.output.read_text()
                self.stop()
                raise RuntimeError(f"The launcher did not start:\n{said}")
            time.sleep(0.05)
        return found[1]

    def stop(self, *, keep: bool = False) -> None:
        """End every process and remove every file, or keep the files for somebody to look at."""
        self.launcher.send_signal(signal.SIGTERM)
        try:
            self.launcher.wait(20)
        finally:
            self.launcher.kill()
            if keep:
                print(f"Kept {self.state}")
            else:
                Postgres(self.state).destroy()
                shutil.rmtree(self.state, ignore_errors=True)

    def sign_in_link(self) -> str:
        """A fresh link for the demo owner: each works once."""
        return self.manage("sign_in_link").split()[-1]

    def manage(self, *command: str) -> str:
        """What `manage.py` prints for a command."""
        env = self.env | {"DEFINABLE_ROLE": "manage"}
        done = subprocess.run(
            [sys.executable, "manage.py", *command],
            cwd=local.CHECKOUT,
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def pid(self, program: str) -> int:
        """The process number of one of its programs: web, worker, control, beat or sandbox."""
        return int((self.state / "pids" / program).read_text().split()[0])

    def kill(self, program: str) -> None:
        """End a program as a power cut would; the launcher starts it again."""
        os.kill(self.pid(program), signal.SIGKILL)

    def database(self) -> psycopg.Connection:
        """A connection of one's own to its database."""
        return psycopg.connect(local.database_url(self.state), autocommit=True)

    def rules(self, *rules: dict[str, Any]) -> None:
        """Replace the faults that its sandbox plays."""
        httpx.delete(f"{self.sandbox}/__sandbox/rules", trust_env=False).raise_for_status()
        httpx.post(f"{self.sandbox}/__sandbox/rules", json=list(rules), trust_env=False).raise_for_status()

    def key(self, **wish: Any) -> str:
        """A fresh key of its sandbox, as `POST /__sandbox/keys` gives it."""
        return httpx.post(f"{self.sandbox}/__sandbox/keys", json=wish, trust_env=False).json()["key"]


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on, each a different one."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
