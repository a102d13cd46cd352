"""`python -m integrations.openrouter.sandbox`: start the stand-in and say where it listens."""

import argparse
import json
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from .app import App
from .books import Books
from .catalog import load_catalog
from .journal import Journal
from .service import PREFIX, Pace, Service

BACKLOG = 1024
SECONDS_TO_STOP = 2


def main() -> None:
    options = _read_options()
    listener = _listen(options.host, options.port)
    service = Service(
        catalog=load_catalog(
            catalog=options.catalog, endpoints=options.endpoints, zdr=options.zdr, providers=options.providers
        ),
        books=Books(options.keys),
        seed=options.seed,
        pace=Pace(options.latency_ms / 1000, options.generation_delay),
    )
    if options.rules:
        service.rules.add(json.loads(options.rules.read_text()))
    config = uvicorn.Config(
        App(service, Journal(options.journal)),
        log_level="critical",
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=60,
        timeout_graceful_shutdown=SECONDS_TO_STOP,
    )
    # uvicorn repeats the signal once it is done; the second one ends the process quietly.
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: sys.exit(0))
    _Server(config, options.host).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Says in one line that it is ready."""

    def __init__(self, config: uvicorn.Config, host: str) -> None:
        super().__init__(config)
        self._host = host

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        port = sockets[0].getsockname()[1]
        sys.stdout.write(f"sandbox ready on http://{self._host}:{port}{PREFIX}\n")
        sys.stdout.flush()


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sandbox", description="A stand-in for OpenRouter.")
    parser.add_argument("--port", type=int, default=8010, help="0 chooses a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--catalog", type=Path, help="a recorded answer of GET /models")
    parser.add_argument("--endpoints", type=Path, help="recorded endpoint rows")
    parser.add_argument("--zdr", type=Path, help="a recorded answer of GET /endpoints/zdr")
    parser.add_argument("--providers", type=Path, help="a recorded answer of GET /providers")
    parser.add_argument("--journal", type=Path, help="append one JSON line per request to this file")
    parser.add_argument("--keys", type=Path, help="keep keys, guardrails and what was spent in this file")
    parser.add_argument("--rules", type=Path, help="faults to begin with, as POST /__sandbox/rules takes them")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other answers")
    parser.add_argument("--latency-ms", type=float, default=300, help="how long an answer takes")
    parser.add_argument("--generation-delay", type=float, default=1.5, help="seconds until a record can be read")
    return parser.parse_args()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        sys.exit(f"sandbox: cannot listen on {host}:{port}: {error.strerror}")
    listener.listen(BACKLOG)
    listener.set_inheritable(True)
    return listener


if __name__ == "__main__":
    main()
