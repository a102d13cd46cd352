"""What a process must find right about its key files before it starts."""

from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from vault import roots
from vault.roots import BadKeyFile


@register(Tags.security)
def check_keys(**_kwargs: object) -> list[CheckMessage]:
    """Report every key that is missing or unfit, and files that others on this machine could read."""
    wanted = [roots.content_root, roots.sealing_key]
    if roots.has_root():
        wanted += [roots.credential_root, roots.sealing_private_keys]
    unfit = [error for error in map(_complaint, wanted) if error]
    return (unfit or _mismatches()) + _open_files()


def _complaint(load: Callable[[], object]) -> Error | None:
    try:
        load()
    except BadKeyFile as error:
        return Error(str(error), id="vault.E001")
    return None


def _mismatches() -> list[CheckMessage]:
    """Report keys that are fit each, but not together. Only a process with the root key can tell."""
    if not roots.has_root():
        return []
    found = []
    if roots.credential_root().current_id() == roots.content_root().current_id():
        found.append(Error("The root and content files hold the same key: the web process has it.", id="vault.E002"))
    if roots.sealing_key().id not in {id for id, _private in roots.sealing_private_keys()}:
        found.append(
            Error(
                "The sealing file does not belong to the root file: workers could not open what is posted.",
                hint="Move the sealing file away and run manage.py vault_init.",
                id="vault.E003",
            )
        )
    return found


def _open_files() -> list[CheckMessage]:
    files = [Path(path) for path in (settings.VAULT_ROOT_KEY_FILE, settings.VAULT_CONTENT_KEY_FILE) if path]
    loose = [path for path in files if path.exists() and path.stat().st_mode & 0o077]
    return [
        Warning(f"Others on this machine can read {path}.", hint=f"chmod 600 {path}", id="vault.W001") for path in loose
    ]
