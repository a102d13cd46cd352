"""The one way the launcher gives up."""


class CannotStart(Exception):
    """What stands in the way and what to do about it, in one line for the person at the keyboard."""
