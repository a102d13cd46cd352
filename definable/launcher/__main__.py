"""`make up`: start everything, say where it is, look after it, stop it."""

import contextlib
import fcntl
import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from definable.launcher import local, programs, setup
from definable.launcher.errors import CannotStart
from definable.launcher.postgres import Postgres
from definable.launcher.process import Process, die_with_parent, stop_leftovers
from definable.launcher.supervisor import Supervisor
from definable.launcher.valkey import Valkey

WEB_SECONDS = 60  # for the web process's first answer
BEGAN = time.monotonic()


def say(text: str) -> None:
    """Tell the person at the keyboard, at once even through a pipe."""
    print(text, flush=True)


def progress(text: str) -> None:
    say(f"[{time.monotonic() - BEGAN:5.1f} s] {text}")


def main() -> int:
    """Run until a signal comes. Return the status to exit with."""
    if os.environ.get("MAKELEVEL"):
        die_with_parent(signal.SIGTERM)
    try:
        port, sandbox_port = _port("PORT", 8000), _port("SANDBOX_PORT", 8010)
        with _claimed(_state_folder()) as state:
            _run(state, port=port, sandbox_port=sandbox_port)
    except CannotStart as problem:
        print(f"Cannot start: {problem}", file=sys.stderr)
        return 1
    return 0


def _run(state: Path, *, port: int, sandbox_port: int) -> None:
    stop_leftovers(state, programs.NAMES)
    _refuse_taken_ports(PORT=port, SANDBOX_PORT=sandbox_port)
    _tell_environment(state, port, sandbox_port)
    supervisor = Supervisor(progress)
    supervisor.listen()
    try:
        _start(supervisor, state, port, sandbox_port)
        supervisor.run()
    finally:
        progress("Stopping ...")
        supervisor.stop()
        progress("Stopped.")


def _start(supervisor: Supervisor, state: Path, port: int, sandbox_port: int) -> None:
    place = _start_servers(supervisor, state)
    sandbox, web = programs.sandbox(state, sandbox_port), programs.web(state, port)
    prepared = setup.Stamp(place / "prepared")
    # With nothing to prepare, the pages load while this process does.
    early = prepared.valid()
    _add_all(supervisor, [web, sandbox] if early else [sandbox])
    _prepare(prepared)
    _make_demo(supervisor, sandbox, sandbox_port, done=place / "demo")
    _add_all(supervisor, [] if early else [web])
    _wait_for(supervisor, web, port, "/healthz")
    _add_all(supervisor, [programs.control(state), programs.worker(state), programs.beat(state)])
    say(f"Ready: http://127.0.0.1:{port}/")
    _offer_sign_in()
    setup.let_go_of_database()


def _start_servers(supervisor: Supervisor, state: Path) -> Path:
    """Start what no setting replaces. Return the folder for facts about the database: they go where it goes."""
    if not (local.given("CELERY_BROKER_URL") and local.given("STREAM_URL")):
        supervisor.add_server(Valkey(state))
    if local.given("DATABASE_URL"):
        return state
    postgres = Postgres(state)
    if not postgres.data.exists():
        progress("Making a database ...")
    supervisor.add_server(postgres)
    postgres.ensure_database()
    return postgres.data


def _prepare(prepared: setup.Stamp) -> None:
    setup.prepare_django()
    progress(setup.django_state())
    if not prepared.valid():
        setup.run_command("vault_init")
        progress("Collecting static files ...")
        setup.run_command("collectstatic", "--no-input", "--verbosity", "0")
    # Asked of the database even with a valid stamp: somebody may have migrated backwards by hand.
    setup.migrate(progress)
    prepared.set()


def _make_demo(supervisor: Supervisor, sandbox: Process, port: int, *, done: Path) -> None:
    """Make the demo team once. It lives on the sandbox's keys, so only where the sandbox is OpenRouter."""
    if done.exists() or os.environ["OPENROUTER_URL"] != programs.sandbox_url(port):
        return
    progress("Making the demo team ...")
    _wait_for(supervisor, sandbox, port, "/__sandbox/health")
    setup.run_command("seed_demo")
    done.touch()


def _offer_sign_in() -> None:
    """Offer the way in: the demo's link, or on an installation without anybody the page for its first owner."""
    for command, words in (("sign_in_link", "Sign in"), ("first_owner", "Set up")):
        if link := _link(command):
            say(f"{words}: {link}")
            return


def _link(command: str) -> str:
    """Return the link that a command prints, or nothing when it has none to give."""
    try:
        *_, last = setup.run_command(command).split()
    except CannotStart:
        return ""
    return last if "://" in last else ""


def _add_all(supervisor: Supervisor, services: list[Process]) -> None:
    for service in services:
        supervisor.add(service)


# --- before anything starts -------------------------------------------------------------


def _state_folder() -> Path:
    state = local.state_dir()
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = state / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as problem:
        raise CannotStart(f"Cannot write to {state} ({problem.strerror}): set STATE to a folder of your own.") from None
    return state


@contextlib.contextmanager
def _claimed(state: Path) -> Iterator[Path]:
    """Hold the state folder against a second launcher. The kernel lets go of it when this process ends."""
    with (state / "launcher.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(f"Definable runs already with this STATE ({state}), as {_holder(file)}.") from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield state


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read() or "another process"


def _port(name: str, default: int) -> int:
    value = os.environ.get(name) or str(default)
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise CannotStart(f"{name} is {value!r}; it must be a number from 1 to 65535.")
    return int(value)


def _refuse_taken_ports(**ports: int) -> None:
    if len(set(ports.values())) < len(ports):
        raise CannotStart(f"{' and '.join(ports)} are the same number: choose two.")
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as problem:
                advice = f"choose another one, for example `make up {name}={port + 100}`"
                raise CannotStart(f"Port {port} ({name}) cannot be used ({problem.strerror}): {advice}.") from None


def _tell_environment(state: Path, port: int, sandbox_port: int) -> None:
    os.environ["STATE"] = str(state)
    os.environ["PORT"] = str(port)
    os.environ["SANDBOX_PORT"] = str(sandbox_port)
    os.environ["DEFINABLE_ROLE"] = "manage"
    os.environ["DJANGO_SETTINGS_MODULE"] = "definable.settings"
    os.environ.setdefault("OPENROUTER_URL", programs.sandbox_url(sandbox_port))


# --- waiting ----------------------------------------------------------------------------


def _wait_for(supervisor: Supervisor, program: Process, port: int, path: str) -> None:
    """Wait for an answer of 200. Raises CannotStart when the program ends, or takes too long."""
    deadline = time.monotonic() + WEB_SECONDS
    while not supervisor.stopping and not _answers(port, path):
        if not program.alive() or time.monotonic() > deadline:
            raise CannotStart(f"{program.name} does not answer: {program.last_words()} (more in {program.log})")
        time.sleep(0.05)


def _answers(port: int, path: str) -> bool:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        line.request("GET", path)
        return line.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()


if __name__ == "__main__":
    sys.exit(main())
