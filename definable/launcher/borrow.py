"""The database for a management command: the running one, or one for as long as the command takes."""

import atexit
from collections.abc import Sequence

from definable.launcher import local
from definable.launcher.errors import CannotStart
from definable.launcher.postgres import Postgres

NEEDS_NONE = {"help", "check", "version", "collectstatic", "diffsettings", "findstatic", "vault_init"}


def borrow_database(arguments: Sequence[str]) -> None:
    """
    Make sure the embedded database answers while `manage.py <arguments>` runs.

    Does nothing when DATABASE_URL names another one, or when the command needs none.
    Ends the process with one line when it cannot start.
    """
    command = arguments[0] if arguments else "help"
    if local.given("DATABASE_URL") or command in NEEDS_NONE or {"-h", "--help", "--version"} & set(arguments):
        return
    server = Postgres(local.state_dir())
    try:
        if not server.running():
            server.start()
            atexit.register(server.stop)
        server.ensure_database()
    except CannotStart as problem:
        raise SystemExit(f"Cannot start the database: {problem}") from None
