"""
Sending out what notices say. The row is the truth, a task only a hint to look at it.

A mail may come twice when a worker ends between sending it and writing that down; none is lost.
"""

import smtplib
from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

import structlog
from celery import current_app
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F
from django.template.loader import render_to_string
from django.urls import reverse
from kombu.exceptions import OperationalError

from accounts.models import Membership
from accounts.permissions import Permission, allows
from audit.clock import AppNow
from integrations.sweeping import one_by_one
from personas.models import Delivery

PAUSES = (60, 300, 1800, 7200)  # seconds before another try; after the last one it is given up
AT_ONCE = 100
EXPIRES = 60.0  # seconds; the sweeper sends another hint

log = structlog.get_logger(__name__)


class NotSent(Exception):
    """It could not be sent now; the message says why."""


class NeverToBeSent(Exception):
    """It is not to be sent any more; the message says why."""


def deliver_later(ids: Iterable[UUID]) -> None:
    """Hint at deliveries once the caller's transaction is committed."""
    wanted = [str(id) for id in ids]
    transaction.on_commit(lambda: _hint(wanted))


def _hint(ids: list[str]) -> None:
    try:
        for id in ids:
            current_app.send_task("personas.tasks.deliver", kwargs={"delivery_id": id}, expires=EXPIRES)
    except OperationalError:
        log.warning("delivery.hint_not_sent", count=len(ids))


def deliver_due() -> None:
    """Send what should have gone out and did not: its hint was lost, or it is to be tried again."""
    due = Delivery.objects.filter(state=Delivery.State.WAITING, next_at__lte=AppNow()).order_by("next_at")
    one_by_one(due[:AT_ONCE], lambda row: deliver(delivery_id=row.pk))


def deliver(*, delivery_id: UUID) -> None:
    """Send one, unless it is not due, or somebody else is at it. What fails is tried again, later and later."""
    row = _claim(delivery_id)
    if row is None:
        return
    try:
        _mail(row)
    except NotSent as problem:
        last = row.tries > len(PAUSES)
        _write(row, state=Delivery.State.FAILED if last else row.state, failure=str(problem)[:300])
    except NeverToBeSent as reason:
        _write(row, state=Delivery.State.FAILED, failure=str(reason)[:300])
    else:
        _write(row, state=Delivery.State.SENT, sent_at=AppNow(), failure="")


def _claim(delivery_id: UUID) -> Delivery | None:
    """Take one that is due, and put it off, so that nobody else sends it and a lost worker's is sent again."""
    with transaction.atomic():
        due = Delivery.objects.filter(pk=delivery_id, state=Delivery.State.WAITING, next_at__lte=AppNow())
        row = due.select_for_update(skip_locked=True).first()
        if row is None:
            return None
        pause = timedelta(seconds=PAUSES[min(row.tries, len(PAUSES) - 1)])
        Delivery.objects.filter(pk=row.pk).update(tries=F("tries") + 1, next_at=AppNow() + pause)
    rows = Delivery.objects.select_related("team", "user", "notice")
    return rows.get(pk=delivery_id)


def _write(row: Delivery, **changes: object) -> None:
    Delivery.objects.filter(pk=row.pk, tries=row.tries).update(**changes)


# --- mail -------------------------------------------------------------------------------


def _mail(row: Delivery) -> None:
    member = Membership.objects.filter(team=row.team, user=row.user, user__is_active=True).first()
    if member is None or not allows(member.role, Permission.RUN_VIEW):
        raise NeverToBeSent(f"{row.user.email} is no longer a member who may read it.")
    subject, text = _notice(row)
    try:
        send_mail(" ".join(subject.split())[:200], text, None, [row.user.email])
    except (OSError, smtplib.SMTPException) as error:
        raise NotSent(f"The mail server did not take it: {type(error).__name__}.") from error


def _notice(row: Delivery) -> tuple[str, str]:
    url = settings.BASE_URL + reverse("notice_list", args=[row.team.slug])
    notice, begun = row.notice, row.what == "begun"
    subject = f"{row.team.name}: {notice.get_kind_display()}" if begun else f"{row.team.name}: over, {notice.name}"
    return subject, render_to_string("personas/mail/notice.txt", {"row": row, "begun": begun, "url": url})
