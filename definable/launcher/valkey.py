"""A private Valkey (or Redis) for one installation: no TCP, one socket that only we can enter."""

import socket
import time
from pathlib import Path

from definable.launcher import local
from definable.launcher.account import Account, private_folder
from definable.launcher.binaries import valkey_server
from definable.launcher.errors import CannotStart
from definable.launcher.process import Process

PATIENCE = 20  # seconds for a start, loading included


class Valkey:
    """The embedded broker and stream store of the installation in `state`. It holds only hints."""

    name = "valkey"

    def __init__(self, state: Path) -> None:
        self.state = state.resolve()
        self.socket = local.valkey_socket(self.state)
        self.folder = self.state / "valkey"
        self.process = Process(self.name, [], state=self.state)

    def broker_url(self) -> str:
        return local.broker_url(self.state)

    def stream_url(self) -> str:
        return local.stream_url(self.state)

    def start(self) -> None:
        """Start it, or take over one that runs already. Raises CannotStart when it does not answer."""
        if self.process.adopt_leftover() and self.running():
            return
        self.process.stop()
        private_folder(self.folder, Account())
        private_folder(self.socket.parent, Account())
        self.process.command = self._command()
        self.process.start()
        self._wait()

    def alive(self) -> bool:
        return self.process.alive()

    def ending(self) -> str:
        return self.process.ending()

    def ask_to_stop(self) -> None:
        self.process.ask_to_stop()

    def wait_or_kill(self, deadline: float) -> None:
        self.process.wait_or_kill(deadline)

    def stop(self, seconds: float = 5) -> None:
        self.process.stop(seconds)

    def running(self) -> bool:
        """Say whether it answers. Not while it still loads."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(1)
            try:
                line.connect(str(self.socket))
                line.sendall(b"PING\r\n")
                return line.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",  # a queue that forgets is worse than one that refuses
            "loglevel": "warning",
        }
        return [str(valkey_server()), *(word for name, value in options.items() for word in (f"--{name}", value))]

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.running():
            if not self.process.alive() or time.monotonic() > deadline:
                self.process.stop()
                raise CannotStart(f"Valkey did not start: {self.process.last_words()} (more in {self.process.log})")
            time.sleep(0.02)
