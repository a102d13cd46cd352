"""Copying a persona, archiving it and bringing it back."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts.models import User
from audit.clock import app_now
from integrations import actions as integrations
from integrations import lending
from integrations.models import Policy
from integrations.policy import read_rules
from integrations.policy_actions import set_policy
from personas import actions, drafting, schedules, wishes
from personas.models import Persona
from personas.uses import uses_of
from vault.models import Grant


class UsesChanged(Exception):
    """What would stop is not what was shown: look at it again."""


@transaction.atomic
def duplicate_persona(*, persona: Persona, name: str, with_grants: bool, by: User) -> Persona:
    """
    Make another persona that says what this one says, under its policy too.

    What is in use is in use in the copy; a draft alone is a draft there. Without its grants the copy
    wishes for them. Raises PolicyLoosens when the policy asks for less than the team's floor by now,
    and BadScopes when a grant names what is gone.
    """
    now = app_now()
    source = drafting.locked(persona)
    wanted = [] if with_grants else wishes.granted(team=source.team, persona=source)
    copy = actions.new_persona(source.team, name, source.purpose, by, now, wants=wishes.written(wanted))
    _copy_version(source, copy, by, now)
    _copy_policy(source, copy, by)
    if with_grants:
        copy.wants = source.wants
        copy.save(update_fields=["wants"])
        _copy_grants(source, copy, by)
    drafting.tell("duplicated", copy, by, now, source=str(source.pk), grants=with_grants)
    return copy


def _copy_version(source: Persona, copy: Persona, by: User, at: datetime) -> None:
    told = source.version or source.draft
    version = drafting.add_version(copy, by, at, told.says)
    if source.version:
        drafting.put_to_use(copy, version, by, at)
        return
    copy.draft = version
    copy.save(update_fields=["draft"])


def _copy_policy(source: Persona, copy: Persona, by: User) -> None:
    kept = Policy.objects.filter(team=source.team, holder=source.pk).first()
    if kept:
        set_policy(team=source.team, holder=copy.pk, name=copy.name, rules=read_rules(kept.rules), by=by)


def _copy_grants(source: Persona, copy: Persona, by: User) -> None:
    connections = {row.pk: row for row in source.team.connections.live()}
    grants = Grant.objects.live().filter(team=source.team, holder=source.pk, connection__in=connections)
    for grant in grants.order_by("connection"):
        scopes = lending.read_or_none(grant.scopes)
        if scopes is not None:  # what nobody can read allows nothing here, and nothing there
            integrations.set_scopes(
                connection=connections[grant.connection], holder=copy.pk, name=copy.name, scopes=scopes, by=by
            )


@transaction.atomic
def archive_persona(*, persona: Persona, by: User, pause: bool, seen: Collection[UUID]) -> None:
    """
    Put a persona away: no run, no chat and no console uses it until it is brought back.

    `seen`: the schedules that were shown to stop. Raises UsesChanged when others would stop by now, and
    IsArchived. With `pause` these are paused; otherwise their runs fail at the persona's stage and say so.
    """
    now = app_now()
    persona = drafting.locked(persona)
    stopping = uses_of(team=persona.team, persona=persona).active_schedules
    if {schedule.pk for schedule in stopping} - set(seen):
        raise UsesChanged
    if pause:
        for schedule in stopping:
            schedules.pause_schedule(schedule=schedule, by=by)
    persona.archived_at = now
    persona.save(update_fields=["archived_at"])
    stopped = [schedule.flow.name for schedule in stopping]
    drafting.tell("archived", persona, by, now, schedules=stopped, paused=pause)


@transaction.atomic
def bring_back(*, persona: Persona, by: User) -> None:
    """Let an archived persona work again. Schedules that were paused stay paused. Twice is once."""
    now = app_now()
    if Persona.objects.filter(pk=persona.pk, archived_at__isnull=False).update(archived_at=None):
        drafting.tell("brought_back", persona, by, now)
