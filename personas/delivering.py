"""
Sending out results of runs and what notices say. The row is the truth, a task only a hint to look at it.

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
from audit.actions import Actor, record
from audit.clock import AppNow
from integrations.sweeping import one_by_one
from personas import results
from personas.models import Delivery
from personas.posting import NeverToBeSent, NotSent, post

PAUSES = (60, 300, 1800, 7200)  # seconds before another try; after the last one it is given up
AT_ONCE = 100
LONGEST_TEXT = 100_000  # characters of a result in a mail; its page has it all
EXPIRES = 60.0  # seconds; the sweeper sends another hint

log = structlog.get_logger(__name__)


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
        _send(row)
    except NotSent as problem:
        _put_off(row, problem)
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
    rows = Delivery.objects.select_related("team", "user", "connection__created_by", "notice")
    rows = rows.select_related("run__flow_version", "run__user")
    return rows.get(pk=delivery_id)


def _put_off(row: Delivery, problem: NotSent) -> None:
    last = row.tries > len(PAUSES)
    _write(row, state=Delivery.State.FAILED if last else row.state, failure=str(problem)[:300])
    if problem.after and not last:
        asked = AppNow() + timedelta(seconds=problem.after)
        Delivery.objects.filter(pk=row.pk, tries=row.tries, next_at__lt=asked).update(next_at=asked)


def _write(row: Delivery, **changes: object) -> None:
    Delivery.objects.filter(pk=row.pk, tries=row.tries).update(**changes)


def _send(row: Delivery) -> None:
    if row.kind == Delivery.Kind.WEBHOOK:
        (_post_result if row.run else _post_notice)(row)
    else:
        _mail(row, *(_result(row) if row.run else _notice(row)))


# --- results ----------------------------------------------------------------------------


def _post_result(row: Delivery) -> None:
    post(row, event="run.succeeded", data=results.as_data(row.run, _text(row)), by=row.run.user)


def _result(row: Delivery) -> tuple[str, str]:
    url = settings.BASE_URL + reverse("run_detail", args=[row.team.slug, row.run_id])
    text = _text(row)
    told = {"row": row, "url": url, "text": text[:LONGEST_TEXT], "is_cut": len(text) > LONGEST_TEXT}
    return f"{row.team.name}: result of {row.run.title}", render_to_string("personas/mail/result.txt", told)


def _text(row: Delivery) -> str:
    result = results.result_of(row.run)
    if result is None or result.text is None:
        raise NeverToBeSent("There is no result any more.")
    return result.text


# --- mail -------------------------------------------------------------------------------


def _mail(row: Delivery, subject: str, text: str) -> None:
    member = Membership.objects.filter(team=row.team, user=row.user, user__is_active=True).first()
    if member is None or not allows(member.role, Permission.RUN_VIEW):
        raise NeverToBeSent(f"{row.user.email} is no longer a member who may read it.")
    try:
        send_mail(" ".join(subject.split())[:200], text, None, [row.user.email])
    except (OSError, smtplib.SMTPException) as error:
        raise NotSent(f"The mail server did not take it: {type(error).__name__}.") from error
    if row.run:
        _record_mailed(row)


def _record_mailed(row: Delivery) -> None:
    record(
        "personas.run.mailed",
        team_id=row.team_id,
        actor=Actor.system("worker"),
        target=f"run:{row.run_id}",
        target_name=row.run.title,
        run_id=row.run_id,
        details={"to": row.user.email},
    )


def _notice(row: Delivery) -> tuple[str, str]:
    url = settings.BASE_URL + reverse("notice_list", args=[row.team.slug])
    notice, begun = row.notice, row.what == "begun"
    subject = f"{row.team.name}: {notice.get_kind_display()}" if begun else f"{row.team.name}: over, {notice.name}"
    return subject, render_to_string("personas/mail/notice.txt", {"row": row, "begun": begun, "url": url})


def _post_notice(row: Delivery) -> None:
    """With the rights of whoever connected the webhook: a notice acts for nobody."""
    url = settings.BASE_URL + reverse("notice_list", args=[row.team.slug])
    notice = row.notice
    said = {"kind": notice.kind, "about": notice.name, "text": notice.text, "times": notice.times, "url": url}
    post(row, event=f"notice.{row.what}", data=said, by=row.connection.created_by)
