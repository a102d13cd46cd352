"""Changing what a team, a persona or a flow asks of providers."""

import json
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from uuid import UUID

from django.db import transaction

from accounts.models import Team, User
from audit.actions import Actor, record
from audit.clock import app_now
from integrations import catalog
from integrations.models import Policy
from integrations.policy import Rules, merge, offered, reachable, widens
from integrations.policy.rules import BadRules, read_rules
from integrations.policy.words import sentences

MOST_NAMED = 50
NO_POLICY = "none"


class PolicyLoosens(Exception):
    """It asks for less than the team's floor does. `problems` names each rule, in sentences."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(" ".join(problems))


class PolicyChanged(Exception):
    """Somebody changed the policy meanwhile: look at it again before changing it."""


@transaction.atomic
def set_policy(*, team: Team, holder: UUID, name: str, rules: Rules, by: User, seen: str | None = None) -> None:
    """
    Set what a team (its floor), a persona or a flow asks of providers. Counts from the next call.

    `holder` is the team's own id for its floor. `seen` is the fingerprint of the policy that the
    change was made from, if that matters. The event holds the rules and the models within reach, before
    and after.

    Raises PolicyLoosens when a persona or flow asks for less than the floor, PolicyChanged when
    somebody was faster.
    """
    # One lock for all policies of a team, so that a floor and what hangs under it change in turn.
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)
    kept = kept_policies(team=team, holders={team.pk, holder})
    before = kept.get(holder)
    if seen is not None and seen != fingerprint(before):
        raise PolicyChanged
    floor = Rules() if holder == team.pk else readable(kept.get(team.pk))
    if problems := widens(floor, rules):
        raise PolicyLoosens(problems)
    now = app_now()
    changed = {"rules": rules.as_json(), "rules_before": before or {}, "changed_by": by, "changed_at": now}
    Policy.objects.update_or_create(team=team, holder=holder, defaults=changed)
    record(
        "integrations.policy.changed",
        at=now,
        team_id=team.pk,
        actor=Actor.user(by),
        target=f"policy:{holder}",
        target_name=name,
        details=_difference(floor, readable(before), rules) | {"rules before": before or {}, "rules": rules.as_json()},
    )


def _difference(floor: Rules, before: Rules, after: Rules) -> dict[str, object]:
    """What a change means, as the log keeps it: sentences, counts, and the models that came or went."""
    known = catalog.current()
    (was, perhaps_was), (will, perhaps) = (
        reachable(merge([("", floor), ("", rules)]), known) for rules in (before, after)
    )
    return {
        "before": sentences(before) or ["No rule."],
        "after": sentences(after) or ["No rule."],
        "catalog version": known.version,
        "models": len(offered(known)),
        "models within reach before": sorted(was),
        "models within reach": sorted(will),
        "models perhaps within reach": len(perhaps),
        "models lost": _named((was | perhaps_was) - will - perhaps),
        "models won": _named((will | perhaps) - was - perhaps_was),
    }


def _named(models: Collection[str]) -> list[str]:
    more = [f"and {len(models) - MOST_NAMED} more"] if len(models) > MOST_NAMED else []
    return sorted(models)[:MOST_NAMED] + more


# --- reading ------------------------------------------------------------------------------


def policies_by_holder(*, team: Team) -> dict[UUID, Policy]:
    """All policies of a team, with who set each."""
    return {row.holder: row for row in Policy.objects.filter(team=team).select_related("changed_by")}


def kept_policies(*, team: Team, holders: Iterable[UUID] | None = None) -> dict[UUID, Mapping[str, object]]:
    """What a team's policies keep, by holder; all of them unless holders are named."""
    rows = Policy.objects.filter(team=team)
    if holders is not None:
        rows = rows.filter(holder__in=set(holders))
    return dict(rows.values_list("holder", "rules"))


def fingerprint(kept: Mapping[str, object] | None) -> str:
    """Name what a policy keeps, so that a change of it is noticed. None is no policy."""
    if kept is None:
        return NO_POLICY
    return sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def readable(kept: Mapping[str, object] | None) -> Rules:
    """What a policy keeps; for what nobody can read, and which refuses every call, the tightest there is."""
    try:
        return read_rules(kept or {})
    except BadRules:
        return Rules(providers_only=())
