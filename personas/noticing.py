"""Notices: something that wants attention is told once, counted while it goes on, and told again when it is over."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F

from accounts.models import Membership, Team, User
from accounts.permissions import Role
from audit.actions import Actor, record
from audit.clock import app_now
from integrations.models import Connection
from personas.delivering import deliver_later
from personas.models import Delivery, Notice, NoticeWish, Run

UNATTENDED = (Run.Trigger.SCHEDULE, Run.Trigger.WEBHOOK, Run.Trigger.FLOW)
BEGUN, OVER = "begun", "over"


def open_notice(
    *, team_id: UUID, kind: Notice.Kind, about: str, name: str, text: str, run: Run | None = None
) -> Notice:
    """
    Say that something wants attention. While a notice of this kind about this is open, it counts up instead.

    Whoever wants to hear of it is told when it begins, in the caller's transaction.
    """
    now = app_now()
    said = {"text": text[:500], "last_at": now} | ({"run": run} if run else {})
    open_one = Notice.objects.filter(team_id=team_id, kind=kind, about=about, over_at=None)
    if open_one.update(times=F("times") + 1, **said):
        return open_one.get()
    try:
        with transaction.atomic():
            notice = Notice.objects.create(
                team_id=team_id, kind=kind, about=about, name=name[:120], first_at=now, **said
            )
            _tell(notice, BEGUN, now)
    except IntegrityError:  # somebody else said so at the same moment
        open_one.update(times=F("times") + 1, **said)
        return open_one.get()
    return notice


def end_notices(*, team_id: UUID, kind: Notice.Kind, about: Iterable[str]) -> int:
    """Say that these are over by themselves, and tell whoever was told that they began. Returns how many were open."""
    now = app_now()
    ended = 0
    found = Notice.objects.filter(team_id=team_id, kind=kind, about__in=list(about), over_at=None)
    for notice in found.select_for_update(no_key=True):
        notice.over_at = now
        notice.save(update_fields=["over_at"])
        _tell(notice, OVER, now)
        ended += 1
    return ended


@transaction.atomic
def put_away(*, notice: Notice, by: User) -> None:
    """Close a notice by hand; nobody is told. What goes on makes a new one when it happens again."""
    now = app_now()
    if Notice.objects.filter(pk=notice.pk, over_at=None).update(over_at=now, over_by=by):
        record(
            "personas.notice.put_away",
            at=now,
            team_id=notice.team_id,
            actor=Actor.user(by),
            target=f"notice:{notice.pk}",
            target_name=notice.name,
        )


def after_run(run: Run, state: Run.State) -> None:
    """What the end of a flow's run means: a failure that nobody was watching is told, a success ends that notice."""
    if run.flow_id is None or run.is_trial:
        return
    about = f"flow:{run.flow_id}"
    if state == Run.State.SUCCEEDED:
        end_notices(team_id=run.team_id, kind=Notice.Kind.FAILED, about=[about])
    elif state == Run.State.FAILED and run.trigger in UNATTENDED:
        why = Run.objects.values_list("failure", flat=True).get(pk=run.pk)
        open_notice(
            team_id=run.team_id, kind=Notice.Kind.FAILED, about=about, name=run.title, text=why or "It failed.", run=run
        )


def asks(run: Run, what: str) -> None:
    """Tell that a run of a flow waits for a person. In a chat, or a trial of a stage, that person sits before it."""
    if run.flow_id and not run.is_trial:
        kind = Notice.Kind.ASKS
        open_notice(team_id=run.team_id, kind=kind, about=f"run:{run.pk}", name=run.title, text=what, run=run)


def set_wish(*, membership: Membership, kinds: Iterable[str]) -> NoticeWish:
    """Set of which kinds of notices a member gets mail; none of them is a wish too."""
    wanted = [kind for kind in Notice.Kind.values if kind in set(kinds)]
    wish, _ = NoticeWish.objects.update_or_create(
        team=membership.team, user=membership.user, connection=None, defaults={"kinds": wanted}
    )
    return wish


@transaction.atomic
def set_webhooks(*, team: Team, connections: Iterable[Connection], by: User) -> None:
    """Post all notices of a team to these webhooks of it, and to no other."""
    wanted = {connection.pk: connection for connection in connections}
    kept = NoticeWish.objects.filter(team=team, connection__isnull=False)
    before = set(kept.values_list("connection", flat=True))
    if before == wanted.keys():
        return
    kept.exclude(connection__in=wanted).delete()
    every = list(Notice.Kind.values)
    NoticeWish.objects.bulk_create(
        NoticeWish(team=team, connection=wanted[pk], kinds=every) for pk in wanted.keys() - before
    )
    record(
        "personas.notices.posted_to",
        team_id=team.pk,
        actor=Actor.user(by),
        target=f"team:{team.pk}",
        target_name=team.name,
        details={"webhooks": sorted(connection.label for connection in wanted.values())},
    )


def wishes_of(membership: Membership) -> list[str]:
    """The kinds of notices that a member gets mail of: all for owners, until they say otherwise."""
    wish = NoticeWish.objects.filter(team=membership.team, user=membership.user).first()
    if wish:
        return wish.kinds
    return list(Notice.Kind.values) if membership.role == Role.OWNER else []


# --- telling ----------------------------------------------------------------------------


def _tell(notice: Notice, what: str, now: datetime) -> None:
    """Queue what is to be sent; it goes out when the transaction is committed."""
    rows = [
        Delivery(team_id=notice.team_id, notice=notice, what=what, next_at=now, created_at=now, **to)
        for to in [*_members(notice), *_webhooks(notice)]
    ]
    Delivery.objects.bulk_create(rows)
    deliver_later(row.pk for row in rows)


def _members(notice: Notice) -> list[dict]:
    members = Membership.objects.filter(team_id=notice.team_id, user__is_active=True).select_related("user", "team")
    wishes = dict(NoticeWish.objects.filter(team_id=notice.team_id, connection=None).values_list("user_id", "kinds"))
    every = list(Notice.Kind.values)
    wanted = ((member, wishes.get(member.user_id, every if member.role == Role.OWNER else [])) for member in members)
    return [{"kind": Delivery.Kind.MAIL, "user": member.user} for member, kinds in wanted if notice.kind in kinds]


def _webhooks(notice: Notice) -> list[dict]:
    wishes = NoticeWish.objects.filter(team_id=notice.team_id, user=None)  # of a kind that came later, too
    live = Connection.objects.live().filter(pk__in=wishes.values("connection"))
    return [{"kind": Delivery.Kind.WEBHOOK, "connection": connection} for connection in live]
