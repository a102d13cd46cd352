"""What starts a flow beside its schedules: a signed request, or the end of another flow. Members make and end them."""

import json
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from accounts.models import Team, User
from audit.actions import Actor, record
from audit.clock import app_now
from audit.models import Content
from integrations import signing
from personas.models import Flow, Trigger
from vault.content import erase_subject, open_content, seal_content
from vault.secret import Secret

OVERLAP = timedelta(hours=24)  # how long the secret before still counts
ADDRESS_BYTES = 24  # 192 bits: nobody finds one by trying
MOST = 20  # of one flow
SEALED_AS = "trigger_secret"


class CannotTrigger(Exception):
    """There cannot be such a trigger; the message says why."""


@transaction.atomic
def add_webhook(*, flow: Flow, mapping: Mapping[str, str], by: User, name: str = "") -> tuple[Trigger, Secret]:
    """
    Make an address that starts a flow, and the secret that its requests are signed with: nothing shows it again.

    `mapping` says from which field of the body each input is taken. Runs act with the rights of `by`.
    Raises CannotTrigger.
    """
    now = app_now()
    _check_room(flow)
    trigger = _new(flow, Trigger.Kind.WEBHOOK, mapping, by, now, name=name, address=_new_address())
    made = signing.new_secret()
    _seal(trigger, {"now": made}, now)
    trigger.save(force_insert=True)
    _record("made", trigger, by, now, kind=trigger.kind)
    return trigger, Secret(made)


@transaction.atomic
def add_after(
    *, flow: Flow, after: Flow, outcome: str, mapping: Mapping[str, str], by: User, name: str = ""
) -> Trigger:
    """
    Start a flow whenever a run of another one ended in this way.

    Raises CannotTrigger when the two would start each other for ever, also by way of others.
    """
    now = app_now()
    # One at a time: two members could otherwise each add one half of a circle.
    Team.objects.select_for_update(no_key=True).get(pk=flow.team_id)
    _check_room(flow)
    _check_circle(flow, after)
    trigger = _new(flow, Trigger.Kind.FLOW, mapping, by, now, name=name, after=after, outcome=outcome)
    try:
        with transaction.atomic():
            trigger.save(force_insert=True)
    except IntegrityError:
        raise CannotTrigger(f"{flow.name} starts after {after.name} already. Remove that trigger first.") from None
    _record("made", trigger, by, now, kind=trigger.kind, after=after.name)
    return trigger


@transaction.atomic
def change(
    *, trigger: Trigger, name: str, mapping: Mapping[str, str], by: User, outcome: str = Trigger.Outcome.SUCCEEDED
) -> None:
    """
    Change how a trigger is called, what it hands on, and how the flow before must have ended.

    From now on its runs act with the rights of `by`. Its address and secret stay.
    """
    now = app_now()
    found = Trigger.objects.select_for_update(of=("self",)).select_related("flow").get(pk=trigger.pk)
    found.name, found.mapping, found.owner, found.outcome = name, dict(mapping), by, outcome
    found.save(update_fields=["name", "mapping", "owner", "outcome"])
    _record("changed", found, by, now, name=name, inputs=", ".join(sorted(mapping)))


@transaction.atomic
def rotate(*, trigger: Trigger, by: User) -> Secret:
    """Make a new secret. The one before counts for another 24 hours, any older one no more."""
    now = app_now()
    trigger = Trigger.objects.select_for_update().get(pk=trigger.pk, kind=Trigger.Kind.WEBHOOK)
    made, before = signing.new_secret(), _sealed(trigger).get("now")
    _seal(trigger, {"now": made, "before": before, "before_until": (now + OVERLAP).isoformat()}, now)
    trigger.save(update_fields=["secret", "secret_id"])
    _record("rotated", trigger, by, now)
    return Secret(made)


@transaction.atomic
def remove(*, trigger: Trigger, by: User) -> None:
    """End a trigger for good, with its secret and the list of its events. Its runs stay."""
    _record("removed", trigger, by, app_now(), kind=trigger.kind)
    erase_subject(team_id=trigger.team_id, subject=trigger.pk, content_ids=[])
    Trigger.objects.filter(pk=trigger.pk).delete()


@transaction.atomic
def pause(*, trigger: Trigger, paused: bool, by: User) -> None:
    """Let a trigger start nothing for now, or switch it on again."""
    now = app_now()
    if Trigger.objects.filter(pk=trigger.pk, paused_at__isnull=paused).update(paused_at=now if paused else None):
        _record("paused" if paused else "resumed", trigger, by, now)


def secrets_of(trigger: Trigger, now: datetime) -> list[Secret]:
    """What requests may be signed with now: none at all if none is kept. Raises Unreadable."""
    kept = _sealed(trigger)
    until = kept.get("before_until")
    before = kept.get("before") if until and datetime.fromisoformat(until) > now else None
    return [Secret(each) for each in (kept.get("now"), before) if each]


# --- shared -----------------------------------------------------------------------------


def _new(flow: Flow, kind: str, mapping: Mapping[str, str], by: User, now: datetime, **more: Any) -> Trigger:
    return Trigger(team=flow.team, flow=flow, kind=kind, mapping=dict(mapping), owner=by, created_at=now, **more)


def _new_address() -> str:
    return secrets.token_urlsafe(ADDRESS_BYTES)


def _check_room(flow: Flow) -> None:
    if flow.triggers.count() >= MOST:
        raise CannotTrigger(f"A flow has at most {MOST} triggers. Remove one first.")


def _check_circle(flow: Flow, after: Flow) -> None:
    followers: dict[Any, list[Any]] = {}
    for one, other in Trigger.objects.filter(team=flow.team, kind=Trigger.Kind.FLOW).values_list("after", "flow"):
        followers.setdefault(one, []).append(other)
    reached, todo = set(), [flow.pk]
    while todo:
        here = todo.pop()
        if here not in reached:
            reached.add(here)
            todo += followers.get(here, [])
    if after.pk in reached:
        raise CannotTrigger(f"{after.name} starts after {flow.name}, so the two would start each other for ever.")


def _seal(trigger: Trigger, kept: dict[str, Any], now: datetime) -> None:
    data = json.dumps(kept).encode()
    sealed = seal_content(team_id=trigger.team_id, subject=trigger.pk, kind=SEALED_AS, data=data, at=now)
    trigger.secret, trigger.secret_id = sealed.ciphertext, sealed.id


def _sealed(trigger: Trigger) -> dict[str, Any]:
    if trigger.secret is None or trigger.secret_id is None:
        return {}
    content = Content(id=trigger.secret_id, team_id=trigger.team_id, kind=SEALED_AS, ciphertext=bytes(trigger.secret))
    return json.loads(open_content(content=content))


def _record(what: str, trigger: Trigger, by: User, now: datetime, **details: str) -> None:
    record(
        f"personas.trigger.{what}",
        at=now,
        team_id=trigger.team_id,
        actor=Actor.user(by),
        target=f"trigger:{trigger.pk}",
        target_name=trigger.flow.name,
        details=details,
    )
