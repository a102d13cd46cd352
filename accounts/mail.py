"""Mail that we write ourselves; the rest is allauth's."""

import smtplib

import structlog
from django.core.mail import send_mail
from django.template.loader import render_to_string

from accounts.models import Invitation

log = structlog.get_logger(__name__)


def mail_invitation(*, invitation: Invitation, url: str) -> bool:
    """Send the link to the address it is for. False when the mail server did not take it."""
    context = {"invitation": invitation, "url": url}
    try:
        send_mail(
            f"Join {invitation.team.name} on Definable",
            render_to_string("accounts/mail/invitation.txt", context),
            None,
            [invitation.email],
        )
    except (OSError, smtplib.SMTPException):
        log.exception("mail_not_sent", template="invitation")
        return False
    return True
