"""
Workers and beat leave a sign of life in the stream store, for /readyz and for container health checks.

`python -m definable.heartbeat` ends with status 0 when the process of this role on this host lives.
"""

import os
import socket
import sys
import threading

import redis
from celery.signals import beat_init, worker_ready
from django.conf import settings

EVERY = 5  # seconds between two signs
LIFE = 20  # seconds that one lasts


def store() -> redis.Redis:
    """Return a client of the stream store that gives up after a second."""
    return redis.Redis.from_url(settings.STREAM_URL, socket_timeout=1, socket_connect_timeout=1)


def role() -> str:
    """Return what this process is for: web, worker, control, beat or manage."""
    return os.environ.get("DEFINABLE_ROLE", "manage")


def leave_sign(client: redis.Redis, of: str) -> None:
    """Say that one process of this role lives: here, and anywhere."""
    for key in (sign(of), sign(of, socket.gethostname())):
        client.set(key, "1", ex=LIFE)


def lives(client: redis.Redis, of: str, host: str = "") -> bool:
    """Say whether a process of this role lives: on this host, or on any."""
    return bool(client.exists(sign(of, host)))


def sign(of: str, host: str = "") -> str:
    """Return the key of a sign of life. It belongs to the installation, not to a team."""
    return f"definable:heartbeat:{of}:{host}" if host else f"definable:heartbeat:{of}"


@worker_ready.connect
@beat_init.connect
def start(**_signal: object) -> None:
    """Leave signs from now on, in a thread that ends with the process."""
    threading.Thread(target=_keep_leaving, args=[store(), role()], name="heartbeat", daemon=True).start()


def _keep_leaving(client: redis.Redis, of: str) -> None:
    pause = threading.Event()
    while True:
        try:
            leave_sign(client, of)
        except redis.RedisError:
            pass  # the missing sign says it; the next one may get through
        pause.wait(EVERY)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "definable.settings")
    sys.exit(0 if lives(store(), role(), socket.gethostname()) else 1)
