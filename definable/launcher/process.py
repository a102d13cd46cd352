"""One program that we start, watch and stop: its log, its pid file, and no orphan left behind."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

LOG_LIMIT = 5 * 1024 * 1024  # bytes; a longer log is put aside as <name>.log.1 at the next start
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def birth(pid: int) -> str | None:
    """Return what tells this process from a later one with the same number; None for a dead one."""
    if not Path("/proc/self/stat").exists():
        return _birth_from_ps(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may itself hold spaces and parentheses. Then: state, ..., start time.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _birth_from_ps(pid: int) -> str | None:
    line = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True).stdout.split()
    return None if not line or line[0].startswith("Z") else " ".join(line[1:])


def command_line(pid: int) -> str:
    """Return a process's command line; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True).stdout


def stop_leftovers(state: Path, names: Sequence[str], seconds: float = 3) -> None:
    """End what an earlier launcher left running under these names."""
    left = [program for name in names if (program := Process(name, [], state=state)).adopt_leftover()]
    for program in left:
        program.ask_to_stop()
    deadline = time.monotonic() + seconds
    for program in left:
        program.wait_or_kill(deadline)


def die_with_parent(number: int) -> None:
    """Ask the kernel to send this process a signal when its parent ends, even by SIGKILL. Linux only."""
    if _libc:
        _libc.prctl(PR_SET_PDEATHSIG, number)


class Process:
    """
    A program in a session of its own, so that a Ctrl-C reaches only the launcher.

    Its output goes to STATE/logs/<name>.log; STATE/pids/<name> names it, so that a later
    launcher finds what an earlier one could not stop. Start it from the main thread: on
    Linux it is told to stop when the thread that started it ends.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        state: Path,
        env: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        popen: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.env = dict(env or {})
        self.stop_signal = stop_signal
        self.popen = dict(popen or {})
        self.log = state / "logs" / f"{name}.log"
        self.pid_file = state / "pids" / name
        self.pid: int | None = None
        self._birth: str | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        self._put_long_log_aside()
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | self.env,
                preexec_fn=lambda: die_with_parent(self.stop_signal),
                **self.popen,
            )
        self._watch(self._child.pid)
        written = self.log.with_suffix(".pid")
        written.write_text(f"{self.pid} {self._birth}")
        written.replace(self.pid_file)  # who looks finds all of it or nothing

    def alive(self) -> bool:
        if self._child:
            return self._child.poll() is None
        return self.pid is not None and birth(self.pid) == self._birth

    def ending(self) -> str:
        """Say how it ended, for people."""
        code = self._child.poll() if self._child else None
        if code is None:
            return "ended"
        return f"ended with status {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"

    def adopt(self, pid: int) -> None:
        """Watch and stop a process that somebody else started."""
        self._child = None
        self._watch(pid)

    def adopt_leftover(self) -> bool:
        """Take over what an earlier launcher left running under this name, if anything."""
        try:
            pid, _, born = self.pid_file.read_text().partition(" ")
        except FileNotFoundError:
            return False
        if not pid.isdigit() or not born or birth(int(pid)) != born:
            return False
        self.adopt(int(pid))
        return True

    def ask_to_stop(self) -> None:
        self._send(os.kill, self.stop_signal)

    def wait_or_kill(self, deadline: float) -> None:
        """Wait until `time.monotonic()` reaches the deadline, then end it and what it started by SIGKILL."""
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._send(os.killpg, signal.SIGKILL)
        while self.alive():
            time.sleep(0.02)
        self.pid_file.unlink(missing_ok=True)

    def stop(self, seconds: float = 8) -> None:
        self.ask_to_stop()
        self.wait_or_kill(time.monotonic() + seconds)

    def last_words(self) -> str:
        """Return the last line of the log, for an error message."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it said nothing"

    def _watch(self, pid: int) -> None:
        self.pid, self._birth = pid, birth(pid)

    def _send(self, how: Callable[[int, int], None], number: signal.Signals) -> None:
        if self.pid is None or not self.alive():
            return
        try:
            how(self.pid, number)
        except ProcessLookupError:
            pass  # it ended by itself meanwhile

    def _put_long_log_aside(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_name(f"{self.log.name}.1"))
