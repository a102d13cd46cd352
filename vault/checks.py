"""What a process must find right about its key files before it starts."""

from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from vault import roots
from vault.roots import BadKeyFile, FileRoot


@register(Tags.security)
def check_keys(**_kwargs: object) -> list[CheckMessage]:
    """Report every key that is missing or unfit, and files that others on this machine could read."""
    wanted = [roots.content_root, roots.sealing_key]
    if roots.has_root():
        wanted += [roots.credential_root, roots.sealing_private_keys]
    # The root file is asked for two things; what is wrong with it is said once.
    unfit = dict.fromkeys(filter(None, map(_complaint, wanted)))
    return ([Error(complaint, id="vault.E001") for complaint in unfit] or _mismatches()) + _open_files()


def refuse_to_start() -> None:
    """
    End this process, in one line that says why, if its keys are unfit.

    For servers, which run no checks by themselves. SystemExit, since Celery logs and then
    ignores an ordinary exception of a signal's receiver.
    """
    if unfit := [message.msg for message in check_keys() if message.is_serious()]:
        raise SystemExit(f"Not started: {' '.join(unfit)}")


def _complaint(load: Callable[[], object]) -> str:
    try:
        load()
    except BadKeyFile as error:
        return str(error)
    return ""


def _mismatches() -> list[CheckMessage]:
    """Report keys that are fit each, but not together. Only a process with the root key can tell."""
    if not roots.has_root():
        return []
    found = []
    if _proofs(roots.credential_root()) & _proofs(roots.content_root()):
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


def _proofs(root: FileRoot) -> set[bytes]:
    """Return what tells a root's keys apart without showing them."""
    return {key.mac(b"definable/same/v1") for key in (root.current, root.previous) if key}


def _open_files() -> list[CheckMessage]:
    files = [Path(path) for path in (settings.VAULT_ROOT_KEY_FILE, settings.VAULT_CONTENT_KEY_FILE) if path]
    loose = [path for path in files if path.exists() and path.stat().st_mode & 0o077]
    return [
        Warning(f"Others on this machine can read {path}.", hint=f"chmod 600 {path}", id="vault.W001") for path in loose
    ]
