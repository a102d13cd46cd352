"""A RabbitMQ node of the tests' own, from the Debian package: on 127.0.0.1, under its own name and folder."""

import json
import socket
import time
from pathlib import Path

from bench.installation import free_ports
from definable.launcher.errors import CannotStart
from definable.launcher.process import Process

PROGRAMS = Path("/usr/lib/rabbitmq/bin")
PATIENCE = 90  # seconds; Erlang takes about ten on a quiet machine
HOSTS = 17  # virtual hosts 0 to 16: one for each worker of pytest-xdist, and one without it
COOKIE = "definable-tests"  # nobody else can reach the port it opens


class RabbitMQ:
    """
    One broker for the suite.

    Its name server (epmd) is ours too: the one that Erlang would start by itself outlives the node.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.folder = state / "rabbitmq"
        self.port, self.peers, self.names = free_ports(3)
        self.epmd = Process("epmd", ["epmd", "-port", str(self.names), "-address", "127.0.0.1"], state=state)
        self.node = Process("rabbitmq", [str(PROGRAMS / "rabbitmq-server")], state=state, env=self._environment())

    def broker_url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it. Raises CannotStart when the package is missing or it does not answer."""
        if not (PROGRAMS / "rabbitmq-server").exists():
            raise CannotStart("No RabbitMQ here. Debian: apt-get install rabbitmq-server")
        self.folder.mkdir()
        self._configure()
        self.epmd.start()
        self.node.start()
        self._wait()

    def stop(self) -> None:
        self.node.stop(seconds=20)
        self.epmd.stop()

    def _environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "HOME": folder,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.names),
            "RABBITMQ_NODENAME": "definable@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.peers),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/logs",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
        }

    def _configure(self) -> None:
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(COOKIE)
        cookie.chmod(0o400)
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "hosts.json").write_text(json.dumps(definitions()))
        (self.folder / "rabbitmq.conf").write_text(f"load_definitions = {self.folder}/hosts.json\n")

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if not self.node.alive() or time.monotonic() > deadline:
                self.stop()
                raise CannotStart(f"RabbitMQ did not start: {self.node.last_words()} (more in {self.node.log})")
            time.sleep(0.1)

    def _answers(self) -> bool:
        """Its port opens last, after the definitions are read."""
        with socket.socket() as line:
            return line.connect_ex(("127.0.0.1", self.port)) == 0


def definitions() -> dict[str, list]:
    """The one user, and the virtual hosts that keep the suite's processes apart."""
    hosts = [str(number) for number in range(HOSTS)]
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    return {
        "users": [{"name": "guest", "password": "guest", "tags": ["administrator"]}],
        "vhosts": [{"name": host} for host in hosts],
        "permissions": [{"user": "guest", "vhost": host} | everything for host in hosts],
    }
