"""`make up` as a whole: one command, real processes, and nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from bench.installation import NOT_INHERITED, free_ports
from definable.launcher import local, programs
from definable.launcher.postgres import Postgres
from definable.launcher.process import birth

PATIENCE = 90  # seconds for a start on a busy machine


class Up:
    """The launcher in a process of its own, as make starts it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.port, self.sandbox_port = free_ports(2)
        self.process: subprocess.Popen | None = None

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        ports = {"PORT": str(self.port), "SANDBOX_PORT": str(self.sandbox_port)}
        return inherited | ports | {"STATE": str(self.state), "WORKER_THREADS": "2"} | more

    def start(self) -> list[str]:
        """Start it and return its lines up to the last one of a start."""
        self.process = self._popen()
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("Sign in:"):
                return lines
        raise AssertionError(f"It did not start: {lines}")

    def refusal(self, **more: str) -> str:
        """Start it where it cannot, and return all that it says."""
        process = self._popen(**more)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        return said

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Stop it with a signal and return how many seconds that took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(PATIENCE)
        self.process.stdout.close()
        return time.monotonic() - began

    def pids(self) -> dict[str, int]:
        found = {path.name: int(path.read_text().split()[0]) for path in (self.state / "pids").iterdir()}
        return {name: pid for name, pid in found.items() if birth(pid)}

    def ready(self) -> dict:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as problem:
            return json.load(problem)
        except OSError:
            return {}

    def _popen(self, **more: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "definable.launcher"],
            cwd=local.CHECKOUT,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def eventually(true: Callable[[], object], seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while not (is_so := true()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(is_so)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """An installation that is running when a test begins."""
    up = Up(tmp_path_factory.mktemp("up"))
    up.first_lines = up.start()
    yield up
    if up.process.poll() is None:
        up.stop()
    Postgres(up.state).destroy()


def test_it_says_where_it_is_and_how_to_sign_in(up):
    *_, ready, sign_in = up.first_lines

    assert ready == f"Ready: http://127.0.0.1:{up.port}/"
    assert sign_in.startswith(f"Sign in: http://127.0.0.1:{up.port}/sign-in/")


def test_every_component_becomes_ready(up):
    assert eventually(lambda: up.ready() and all(entry["ok"] for entry in up.ready().values())), up.ready()
    assert set(up.pids()) == {"postgres", "valkey", *programs.NAMES}


def test_pages_cannot_be_given_the_root_key(up):
    environment = Path(f"/proc/{up.pids()['web']}/environ").read_bytes().split(b"\0")

    assert b"DEFINABLE_ROLE=web" in environment
    assert b"VAULT_ROOT_KEY_FILE=" in environment


def test_it_listens_on_this_machine_only(up):
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((_own_address(), up.port), timeout=5).close()


def _own_address() -> str:
    """Another loopback address: what is bound to 127.0.0.1 alone does not answer there."""
    return "127.0.0.2"


@pytest.mark.parametrize("name", ["worker", "postgres", "valkey"])
def test_what_is_killed_comes_back(up, name):
    before = up.pids()[name]
    os.kill(before, signal.SIGKILL)

    assert eventually(lambda: up.pids().get(name, before) != before)
    assert eventually(lambda: up.ready() and all(entry["ok"] for entry in up.ready().values())), up.ready()


def test_a_second_launcher_on_the_same_state_is_refused(up):
    assert up.refusal().splitlines() == [
        f"Cannot start: Definable runs already with this STATE ({up.state}), as process {up.process.pid}."
    ]


def test_a_taken_port_is_one_line(up, tmp_path):
    (line,) = up.refusal(STATE=str(tmp_path)).splitlines()

    assert line.startswith(f"Cannot start: Port {up.port} (PORT) cannot be used (Address already in use)")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("STATE", "/dev/null/state", "Cannot write to /dev/null/state (Not a directory): set STATE to a folder"),
        ("PORT", "http", "PORT is 'http'; it must be a number from 1 to 65535."),
        ("PORT", "65536", "PORT is '65536'; it must be a number from 1 to 65535."),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(up, setting, value, words):
    (line,) = up.refusal(**{setting: value}).splitlines()

    assert line.startswith(f"Cannot start: {words}")


def test_a_database_that_does_not_answer_is_one_line_without_its_password(up, tmp_path):
    (port,) = free_ports(1)
    said = up.refusal(
        STATE=str(tmp_path),
        PORT=str(port),
        SANDBOX_PORT=str(free_ports(1)[0]),
        DATABASE_URL=f"postgresql://someone:hunter2@127.0.0.1:{port}/nothing",
    )

    assert "Cannot start: The database of DATABASE_URL does not answer: " in said
    assert "hunter2" not in said
    assert "Traceback" not in said


def test_a_management_command_talks_to_the_running_database(up):
    assert "[X] 0001_initial" in _manage(up, "showmigrations", "sessions")
    assert up.pids()["postgres"]


def test_a_stop_ends_everything_within_ten_seconds(up):
    pids = up.pids()

    assert up.stop(signal.SIGINT) < 10
    assert [name for name, pid in pids.items() if birth(pid)] == []


def test_a_management_command_starts_the_database_for_itself(up):
    assert "[X] 0001_initial" in _manage(up, "showmigrations", "sessions")
    assert not Postgres(up.state).running()


def test_data_is_there_at_the_next_start_and_nothing_is_made_twice(up):
    lines = up.start()

    assert not any("Making" in line or "Migrating" in line for line in lines)
    with psycopg.connect(local.database_url(up.state)) as connection:
        assert connection.execute("SELECT count(*) FROM accounts_team WHERE is_demo").fetchone() == (1,)


def test_a_killed_launcher_leaves_nothing_running_at_the_next_start(up):
    before = up.pids()
    up.stop(signal.SIGKILL)

    up.start()

    assert [name for name, pid in before.items() if birth(pid)] == []
    assert eventually(lambda: set(up.pids()) == {"postgres", "valkey", *programs.NAMES})


def _manage(up: Up, *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(
        command, cwd=local.CHECKOUT, env=up.environment(), capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
