"""Where a laptop's state lies, and the addresses of its embedded servers. Starts nothing."""

import hashlib
import os
import re
import secrets
from pathlib import Path

SOCKET_LIMIT = 100  # a unix socket path holds 107 bytes on Linux, 103 on macOS
ROOT_STATE = Path("/var/lib/definable")  # as root: a place the database's own account can reach
SHORT_PLACE = Path("/tmp")  # noqa: S108 - not TMPDIR, which may be long and may differ between two terminals
CHECKOUT = Path(__file__).resolve().parents[2]


def given(name: str) -> bool:
    """Say whether a setting comes from the environment, directly or as a NAME_FILE."""
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))


def state_dir() -> Path:
    """Return the folder that holds everything this installation keeps."""
    return Path(os.environ.get("STATE") or CHECKOUT / ".state").resolve()


def tag(state: Path) -> str:
    """Return a short name for a state folder, for paths that must be short or shared."""
    return hashlib.sha256(str(state).encode()).hexdigest()[:12]


def postgres_dir(state: Path) -> Path:
    """Return where PostgreSQL's files lie."""
    return ROOT_STATE / tag(state) if os.geteuid() == 0 else state / "postgres"


def socket_dir(parent: Path) -> Path:
    """Return the folder for a server's socket: under `parent`, or a short private one."""
    inside = parent / "s"
    # Spaces, commas and % mean something in a connection address.
    plain = re.fullmatch(r"[\w./-]+", str(inside), re.ASCII)
    if plain and len(str(inside / ".s.PGSQL.5432")) <= SOCKET_LIMIT:
        return inside
    return SHORT_PLACE / f"definable-{os.geteuid()}-{tag(parent)}"


def database_url(state: Path, database: str = "definable") -> str:
    """Return the address of the embedded database."""
    return f"postgresql://definable@/{database}?host={socket_dir(postgres_dir(state))}"


def valkey_socket(state: Path) -> Path:
    """Return the path of the embedded broker's socket."""
    return socket_dir(state / "valkey") / "valkey.sock"


def broker_url(state: Path) -> str:
    """Return the address of the embedded broker for Celery."""
    return f"redis+socket://{valkey_socket(state)}"


def stream_url(state: Path) -> str:
    """Return the address of the embedded store for token streams."""
    return f"unix://{valkey_socket(state)}"


def secret_key(state: Path) -> str:
    """Return this installation's signing key, made on first use and readable by its owner only."""
    path = state / "keys" / "django"
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_once(path, secrets.token_urlsafe(48))
    return path.read_text()


def _write_once(path: Path, text: str) -> None:
    # Linked into place when complete: of two processes that start together, both read the same key.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    draft.unlink()
