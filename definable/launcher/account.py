"""Who the database runs as. PostgreSQL refuses root, so root lends it an account without rights."""

import hashlib
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from definable.launcher.errors import CannotStart
from definable.launcher.local import ROOT_STATE

# The server sees an ordinary user while the files stay root's.
USER_NAMESPACE = ("unshare", "--user", "--map-user=65534", "--map-group=65534")


@dataclass(frozen=True)
class Account:
    """How to run a program for the database: a prefix to its command, or another user."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    @property
    def popen(self) -> dict[str, Any]:
        """What subprocess needs. From "/", since the account may not enter the current folder."""
        if self.uid is None:
            return {"cwd": "/"}
        return {"cwd": "/", "user": self.uid, "group": self.gid, "extra_groups": []}

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"LC_ALL": "C"}
        return subprocess.run(
            [*self.prefix, *command],
            capture_output=True,
            text=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            **self.popen,
        )

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def database_account() -> Account:
    """
    Return the account for the database's processes: ours, or another one when we are root.

    Raises CannotStart when root may neither change its user nor make a user namespace.
    """
    if os.geteuid() != 0:
        return Account()
    choices = [Account(uid=entry.pw_uid, gid=entry.pw_gid) for entry in _ordinary_users()]
    for account in [*choices, Account(prefix=USER_NAMESPACE)]:
        if _works(account):
            return account
    raise CannotStart(
        "PostgreSQL does not run as root, and this root may not change its user: run `make up` as a user."
    )


def _ordinary_users() -> list[pwd.struct_passwd]:
    everyone = {entry.pw_name: entry for entry in pwd.getpwall()}
    return [everyone[name] for name in ("postgres", "nobody") if name in everyone]


def _works(account: Account) -> bool:
    try:
        return account.run(["true"]).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def private_folder(path: Path, account: Account) -> Path:
    """
    Make a folder that only this account (and root) can enter.

    Raises CannotStart when something else already lies there, which matters in /tmp.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise CannotStart(f"Cannot make the folder {path}: {problem.strerror}.") from None
    expected = {os.geteuid(), os.geteuid() if account.uid is None else account.uid}
    if path.is_symlink() or path.stat().st_uid not in expected:
        raise CannotStart(f"{path} belongs to somebody else: remove it, or choose another STATE.")
    account.own(path)
    path.chmod(0o700)
    return path


def reachable_programs(folder: Path, account: Account) -> Path:
    """
    Return a folder with the same programs that the account can run.

    A virtual environment under /root is closed to other users. Opening it would open
    every folder above it, so the programs are copied instead, once for each release.
    """
    if account.uid is None or _runs(folder, account):
        return folder
    root = folder.parents[1]  # the package: its libraries lie beside it, found by a relative path
    copy = ROOT_STATE / f"bin-{_fingerprint(folder)}"
    if not copy.exists():
        _copy_package(root, copy)
    return copy / root.name / folder.relative_to(root)


def _runs(folder: Path, account: Account) -> bool:
    try:
        return account.run([str(folder / "postgres"), "--version"]).returncode == 0
    except OSError:
        return False


def _fingerprint(folder: Path) -> str:
    program = (folder / "postgres").stat()
    return hashlib.sha256(f"{folder} {program.st_size} {program.st_mtime_ns}".encode()).hexdigest()[:12]


def _copy_package(root: Path, copy: Path) -> None:
    draft = copy.with_suffix(f".{os.getpid()}")
    shutil.copytree(root, draft / root.name, symlinks=True)
    libraries = root.with_name(f"{root.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, draft / libraries.name, symlinks=True)
    try:
        draft.rename(copy)
    except OSError:
        shutil.rmtree(draft)  # another process was quicker
