"""
A private PostgreSQL for one installation: no TCP, one folder, one socket that only we can enter.

Only the programs of the package are used, never its start code, which loosens the rights
of every folder above it.
"""

import contextlib
import fcntl
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import psycopg
from psycopg import sql

from definable.launcher import local
from definable.launcher.account import Account, database_account, private_folder, reachable_programs
from definable.launcher.binaries import postgres_bin
from definable.launcher.errors import CannotStart
from definable.launcher.process import Process, birth, command_line

OLDEST = 15
PATIENCE = 60  # seconds for a start, crash recovery included
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "idle_in_transaction_session_timeout": "5min",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    # What people wrote stays out of the server's log, failed statements and rows included.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
}
# For tests: a power cut may lose data there; a kill still does not.
FAST = {"fsync": "off", "full_page_writes": "off"}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time through."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Postgres:
    """
    The embedded database of the installation in `state`.

    `fast` gives up safety against power cuts and is for tests.
    """

    name = "postgres"

    def __init__(self, state: Path, *, fast: bool = False) -> None:
        self.state = state.resolve()
        self.fast = fast
        self.folder = local.postgres_dir(self.state)
        self.data = self.folder / "data"
        self.sockets = local.socket_dir(self.folder)
        self.process = Process(self.name, [], state=self.state, stop_signal=signal.SIGINT)  # SIGINT: fast shutdown

    def url(self, database: str = "definable") -> str:
        """Return the address of one of its databases."""
        return local.database_url(self.state, database)

    def start(self) -> None:
        """
        Start it, or take over one that runs already. Makes the cluster on the first start.

        Raises CannotStart with a line that says what to do.
        """
        self.state.mkdir(parents=True, exist_ok=True)
        with locked(self.state / "postgres.lock"):
            if self._take_over_running():
                return
            self._make_folders()
            if not self.data.exists():
                self._initialise()
            self._check_version()
            (self.data / "postmaster.pid").unlink(missing_ok=True)  # its owner is dead, see above
            self._launch()

    def stop(self, seconds: float = 10) -> None:
        """Stop it, whoever started it."""
        if self.process.pid is None and (owner := self._owner()):
            self.process.adopt(owner)
        self.ask_to_stop()
        self.wait_or_kill(time.monotonic() + seconds)

    def destroy(self) -> None:
        """Stop it and delete its files. For tests."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.sockets, ignore_errors=True)

    def alive(self) -> bool:
        return self.process.alive()

    def ending(self) -> str:
        return self.process.ending()

    def ask_to_stop(self) -> None:
        self.process.ask_to_stop()

    def wait_or_kill(self, deadline: float) -> None:
        self.process.wait_or_kill(deadline)

    def running(self) -> bool:
        """Say whether a server runs on these files and accepts connections, whoever started it."""
        return self._owner() is not None and self._status() == "ready"

    def ensure_database(self, name: str = "definable") -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    # --- programs and account -----------------------------------------------------------

    @cached_property
    def account(self) -> Account:
        return database_account()

    @cached_property
    def programs(self) -> Path:
        return reachable_programs(postgres_bin(), self.account)

    @cached_property
    def major(self) -> int:
        answer = self.account.run([str(self.programs / "postgres"), "--version"])
        version = re.search(r"\) (\d+)", answer.stdout)
        if not version:
            raise CannotStart(f"{self.programs / 'postgres'} does not run: {answer.stderr.strip() or 'no answer'}.")
        return int(version[1])

    # --- files --------------------------------------------------------------------------

    def _make_folders(self) -> None:
        if self.account.uid is not None:
            try:
                local.ROOT_STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
            except OSError as problem:
                raise CannotStart(f"Cannot make {local.ROOT_STATE} for the database: {problem.strerror}.") from None
        private_folder(self.folder, self.account)
        private_folder(self.sockets, self.account)
        self._put_aside_orphan()

    def _put_aside_orphan(self) -> None:
        """As root the data lies outside STATE. Once STATE was deleted its keys are gone, and the data is of no use."""
        marker = self.state / "database"
        if self.account.uid is not None and not marker.exists() and self.data.exists():
            self.data.rename(self.folder / f"data.orphan-{int(time.time())}")
        marker.write_text(f"{self.data}\n")

    def _initialise(self) -> None:
        draft = self.folder / "data.new"  # renamed when complete: an interrupted start leaves nothing half made
        shutil.rmtree(draft, ignore_errors=True)
        options = [*self._locale(), "--auth-local=trust", "--auth-host=reject", "--data-checksums", "--no-instructions"]
        if self.fast:
            options.append("--no-sync")
        initdb = [str(self.programs / "initdb"), "-D", str(draft), "-U", "definable", "-E", "UTF8"]
        answer = self.account.run([*initdb, *options])
        if answer.returncode:
            words = (answer.stderr or answer.stdout).strip().splitlines()
            raise CannotStart(f"PostgreSQL could not make its files in {self.folder}: {words[0] if words else '?'}")
        draft.rename(self.data)

    def _locale(self) -> list[str]:
        if self.major >= 17:
            return ["--locale-provider=builtin", "--locale=C.UTF-8"]
        return ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]

    def _check_version(self) -> None:
        made_by = int((self.data / "PG_VERSION").read_text())
        if self.major < OLDEST:
            raise CannotStart(f"{self.programs} is PostgreSQL {self.major}; {OLDEST} or newer is needed.")
        if made_by != self.major:
            raise CannotStart(
                f"The database in {self.data} was made by PostgreSQL {made_by}, but {self.programs} is {self.major}: "
                f"set DEFINABLE_PG_BIN to the programs of PostgreSQL {made_by}, or move the folder away to start empty."
            )

    # --- the server ---------------------------------------------------------------------

    def _take_over_running(self) -> bool:
        """Adopt a server that is ready; wait for one that is still starting or stopping."""
        deadline = time.monotonic() + PATIENCE
        while (owner := self._owner()) and time.monotonic() < deadline:
            if self._status() == "ready":
                self.process.adopt(owner)
                return True
            time.sleep(0.05)
        if owner:
            raise CannotStart(f"PostgreSQL (process {owner}) neither starts nor stops: look at {self.process.log}.")
        return False

    def _launch(self) -> None:
        settings = SETTINGS | {"unix_socket_directories": str(self.sockets)} | (FAST if self.fast else {})
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.process.command = [*self.account.prefix, str(self.programs / "postgres"), "-D", str(self.data), *options]
        self.process.popen = self.account.popen
        deadline = time.monotonic() + PATIENCE
        self.process.start()
        while not self.running():
            if not self.process.alive() or time.monotonic() > deadline:
                self.process.stop()
                raise CannotStart(f"PostgreSQL did not start: {self.process.last_words()} (more in {self.process.log})")
            time.sleep(0.02)

    def _owner(self) -> int | None:
        """
        Return the process that serves these files.

        Not `pg_ctl status`: that only asks whether the number is taken, by a zombie or by
        a stranger after a restart of the machine.
        """
        lines = self._postmaster_lines()
        pid = int(lines[0]) if lines and lines[0].isdigit() else 0
        return pid if pid and birth(pid) and str(self.data) in command_line(pid) else None

    def _status(self) -> str:
        lines = self._postmaster_lines()
        return lines[7].strip() if len(lines) > 7 else "starting"

    def _postmaster_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, PermissionError):
            return []
