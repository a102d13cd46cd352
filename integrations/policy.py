"""Limits that a team or a persona sets on how a model may be reached."""

from collections.abc import Iterable
from typing import Protocol

from pydantic import BaseModel


class Policy(Protocol):
    """One limit. It may only tighten arguments, never loosen them."""

    def constrain(self, arguments: BaseModel) -> BaseModel:
        """Return the arguments inside this limit, or raise PolicyRefuses."""


class PolicyRefuses(Exception):
    """No way to make this call obeys a policy; the message names it."""


def constrain(arguments: BaseModel, policies: Iterable[Policy]) -> BaseModel:
    """Apply policies in order, the team's before the persona's. Raises PolicyRefuses."""
    for policy in policies:
        arguments = policy.constrain(arguments)
    return arguments
