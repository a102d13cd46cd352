"""Our own processes: how each is called and what it is told."""

import os
import sys
from pathlib import Path

from definable.launcher.local import CHECKOUT
from definable.launcher.process import Process

DEMO_LATENCY_MS = "1500"  # slow enough to watch a run work
NAMES = ("beat", "control", "worker", "web", "sandbox")


def sandbox_url(port: int) -> str:
    """The address of the stand-in's API."""
    return f"http://127.0.0.1:{port}/api/v1"


def sandbox(state: Path, port: int) -> Process:
    """The stand-in OpenRouter."""
    command = ["-m", "integrations.openrouter.sandbox", "--port", str(port)]
    command += ["--journal", str(state / "sandbox-journal.jsonl"), "--keys", str(state / "sandbox-keys.json")]
    command += ["--rules", str(CHECKOUT / "definable" / "demo_faults.json"), "--latency-ms", DEMO_LATENCY_MS]
    if catalog := os.environ.get("SANDBOX_CATALOG"):
        command += ["--catalog", catalog]
    return _python("sandbox", command, state)


def web(state: Path, port: int) -> Process:
    """Pages and streams. It is not told where the root key lies: it never opens a credential."""
    command = ["-m", "uvicorn", "definable.asgi:application", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--no-proxy-headers", "--no-access-log", "--no-server-header", "--log-level", "warning"]
    command += ["--timeout-graceful-shutdown", "3"]
    return _program("web", command, state, VAULT_ROOT_KEY_FILE="", VAULT_ROOT_KEY="")


def worker(state: Path) -> Process:
    """Every upstream call."""
    threads = os.environ.get("WORKER_THREADS", "64")
    pool = os.environ.get("DB_POOL", "16")
    return _program("worker", [*_celery("worker"), "-Q", "calls", "-n", "calls@%h", "-c", threads], state, DB_POOL=pool)


def control(state: Path) -> Process:
    """Dispatch and sweepers: short work that never waits behind a model."""
    return _program("control", [*_celery("worker"), "-Q", "control", "-n", "control@%h", "-c", "4"], state)


def beat(state: Path) -> Process:
    """The clock."""
    (state / "beat").mkdir(exist_ok=True)
    return _program("beat", [*_celery("beat"), "-s", str(state / "beat" / "schedule"), "--pidfile="], state)


def _celery(what: str) -> list[str]:
    command = ["-m", "celery", "--quiet", "-A", "definable", what]
    if what == "worker":
        command += ["-P", "threads", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    return command


def _program(name: str, command: list[str], state: Path, **env: str) -> Process:
    return _python(name, command, state, DEFINABLE_ROLE=name, **env)


def _python(name: str, command: list[str], state: Path, **env: str) -> Process:
    env["PYTHONUNBUFFERED"] = "1"  # a log that ends before the crash it should explain is of no use
    return Process(name, [sys.executable, *command], state=state, env=env, popen={"cwd": CHECKOUT})
