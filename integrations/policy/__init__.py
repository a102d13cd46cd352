"""How models may be reached: the rules that a team, a persona or a flow sets, and what they do to one call."""

from integrations.policy.reach import Reach, offered, reachable
from integrations.policy.requests import Constrained, constrain, models_of
from integrations.policy.rules import (
    GROUPS,
    LEVELS,
    BadRules,
    Merged,
    PolicyRefuses,
    Rules,
    group_of,
    merge,
    read_rules,
    widens,
)

__all__ = [
    "GROUPS",
    "LEVELS",
    "BadRules",
    "Constrained",
    "Merged",
    "PolicyRefuses",
    "Reach",
    "Rules",
    "constrain",
    "group_of",
    "merge",
    "models_of",
    "offered",
    "reachable",
    "read_rules",
    "widens",
]
