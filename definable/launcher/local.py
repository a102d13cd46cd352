"""Where a laptop's state lies, and the addresses of its embedded servers. Starts nothing."""

import hashlib
import os
import secrets
import tempfile
from pathlib import Path

SOCKET_LIMIT = 100  # a unix socket path holds 107 bytes on Linux, 103 on macOS
ROOT_STATE = Path("/var/lib/definable")  # as root: a place the database's own account can reach


def state_dir() -> Path:
    """Return the folder that holds everything this installation keeps."""
    return Path(os.environ.get("STATE", ".state")).resolve()


def tag(state: Path) -> str:
    """Return a short name for a state folder, for paths that must be short or shared."""
    return hashlib.sha256(str(state).encode()).hexdigest()[:12]


def postgres_dir(state: Path) -> Path:
    """Return where PostgreSQL's files lie."""
    return ROOT_STATE / tag(state) if os.geteuid() == 0 else state / "postgres"


def socket_dir(parent: Path) -> Path:
    """Return the folder for a server's socket: under `parent`, or a short private one."""
    inside = parent / "s"
    if len(str(inside / ".s.PGSQL.5432")) <= SOCKET_LIMIT:
        return inside
    return Path(tempfile.gettempdir()) / f"definable-{tag(parent)}"


def database_url(state: Path) -> str:
    """Return the address of the embedded database."""
    return f"postgresql://definable@/definable?host={socket_dir(postgres_dir(state))}"


def _valkey(state: Path) -> str:
    return f"{socket_dir(state / 'valkey')}/valkey.sock"


def broker_url(state: Path) -> str:
    """Return the address of the embedded broker for Celery."""
    return f"redis+socket://{_valkey(state)}"


def stream_url(state: Path) -> str:
    """Return the address of the embedded store for token streams."""
    return f"unix://{_valkey(state)}"


def secret_key(state: Path) -> str:
    """Return this installation's signing key, made on first use and readable by its owner only."""
    path = state / "keys" / "django"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(48))
    return path.read_text()
