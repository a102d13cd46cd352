"""What the pages about policies share: what is in force, who changed it last, and the way back."""

from typing import Any

from integrations.models import Policy
from integrations.policy.words import sentences
from integrations.policy_actions import readable
from personas.policy_forms import as_typed


def change_of(policy: Policy | None) -> dict[str, Any]:
    """
    A policy in force in sentences, its last change, and the fields that a form would send to take that back.

    Taken back twice, the change is back. What nobody can read any more is not offered.
    """
    if policy is None:
        return {"in_force": [], "last_change": None}
    before = readable(policy.rules_before)
    return {
        "in_force": sentences(readable(policy.rules)),
        "last_change": policy,
        "changed_by": str(policy.changed_by),
        "undo": [] if before.providers_only == () else list(as_typed(before).items()),
        "undo_words": sentences(before),
    }
