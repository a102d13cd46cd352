"""Where the results of a flow go by themselves: mails to members, signed posts to webhooks. A list in Flow.delivery."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from accounts.models import Membership, Team, User
from accounts.permissions import Permission, Role, allows
from audit.actions import Actor, record
from audit.clock import app_now
from integrations.models import Connection
from personas import results
from personas.delivering import deliver_later
from personas.models import Delivery, Flow, Run

WEBHOOK = "webhook"  # the integration
MOST_MAILS, MOST_WEBHOOKS = 20, 5  # of one flow
RESULT = "result"

READERS = [role for role in Role if allows(role, Permission.RUN_VIEW)]


def readers(team: Team) -> QuerySet[Membership]:
    """The members who may read results, and so may get them by mail."""
    found = team.memberships.filter(role__in=READERS, user__is_active=True).select_related("user")
    return found.order_by("user__email")


def webhooks(team: Team) -> QuerySet[Connection]:
    """The webhooks that a team may post to."""
    return team.connections.live().filter(integration=WEBHOOK).order_by("label")


def named(flow: Flow, kind: str) -> set[UUID]:
    """The users or connections to which a flow's results go."""
    return {UUID(each["to"]) for each in flow.delivery if each["kind"] == kind}


@transaction.atomic
def set_delivery(*, flow: Flow, members: Iterable[User], connections: Iterable[Connection], by: User) -> None:
    """Set where the results of later runs go. The caller has checked that all are of the team."""
    to = [{"kind": str(Delivery.Kind.MAIL), "to": str(user.pk)} for user in members]
    to += [{"kind": str(Delivery.Kind.WEBHOOK), "to": str(connection.pk)} for connection in connections]
    before = Flow.objects.select_for_update(no_key=True).get(pk=flow.pk).delivery
    if before == to:
        return
    Flow.objects.filter(pk=flow.pk).update(delivery=to)
    record(
        "personas.flow.delivery_set",
        team_id=flow.team_id,
        actor=Actor.user(by),
        target=f"flow:{flow.pk}",
        target_name=flow.name,
        details={"before": before, "after": to},
    )


def after_run(run: Run, state: Run.State) -> None:
    """Queue the deliveries of a run that ends, in its transaction. Who is gone since is left out; nothing fails."""
    if state != Run.State.SUCCEEDED or run.rehearsal or not results.has_kind(run):
        return
    flow = Flow.objects.select_related("team").get(pk=run.flow_id)
    if not flow.delivery:
        return
    now = app_now()
    rows = [
        Delivery(team_id=run.team_id, run=run, what=RESULT, next_at=now, created_at=now, **to) for to in _living(flow)
    ]
    Delivery.objects.bulk_create(rows)
    deliver_later(row.pk for row in rows)


def _living(flow: Flow) -> list[dict[str, Any]]:
    members = readers(flow.team).filter(user__in=named(flow, Delivery.Kind.MAIL))
    to: list[dict[str, Any]] = [{"kind": Delivery.Kind.MAIL, "user": member.user} for member in members]
    found = webhooks(flow.team).filter(pk__in=named(flow, Delivery.Kind.WEBHOOK))
    return to + [{"kind": Delivery.Kind.WEBHOOK, "connection": connection} for connection in found]


@transaction.atomic
def try_again(*, row: Delivery, by: User) -> bool:
    """Queue a delivery that was given up, from its first try. Returns whether it was; of two clicks one is."""
    now = app_now()
    waits = {"state": Delivery.State.WAITING, "tries": 0, "next_at": now, "failure": ""}
    if not Delivery.objects.filter(pk=row.pk, state=Delivery.State.FAILED).update(**waits):
        return False
    record(
        "personas.delivery.tried_again",
        at=now,
        team_id=row.team_id,
        actor=Actor.user(by),
        target=f"delivery:{row.pk}",
        target_name=row.run.title,
        run_id=row.run_id,
    )
    deliver_later([row.pk])
    return True
