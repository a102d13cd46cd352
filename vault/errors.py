"""Why the vault does not open something. Each message is safe to show, and none says more than it must."""


class CannotOpen(Exception):
    """The vault refused. Nothing was sent and nothing was shown."""

    message = "The vault refused."

    def __init__(self) -> None:
        super().__init__(self.message)


class Revoked(CannotOpen):
    """This credential was revoked, for good."""

    message = "This connection's key was revoked. Connect a new one."


class NotGranted(CannotOpen):
    """The holder has no live grant that allows this, or the team has no such credential."""

    message = "There is no live grant that allows this. Ask an admin of the team for one."


class WrongProcess(CannotOpen):
    """This process has no root key on purpose."""

    message = "This process has no root key: only workers open credentials."


class Unreadable(CannotOpen):
    """
    This could not be opened: moved, changed, made for another key, or its key is gone.

    Which of these it was would help only an attacker, so nothing tells.
    """

    message = "This cannot be opened with the keys we have."
