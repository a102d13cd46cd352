"""How allauth behaves here."""

import smtplib
from urllib.parse import urlsplit

import structlog
from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.exceptions import ImmediateHttpResponse
from django.conf import settings
from django.db import IntegrityError
from django.http import HttpRequest
from django.shortcuts import redirect
from django.urls import Resolver404, resolve

from accounts import actions
from accounts.models import User, canonical_email
from accounts.queries import has_owner

log = structlog.get_logger(__name__)


class AccountAdapter(DefaultAccountAdapter):
    error_messages = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": "The e-mail address or the password is wrong. Check both, or reset the password.",
        "email_taken": "This address has an account already. Sign in, or reset its password.",
        "enter_current_password": "This is not your current password.",
        "invalid_password_reset": "This link was used or is too old.",
        "too_many_login_attempts": "Too many tries for this address. Wait five minutes, then try again.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Nobody signs up before the first owner, whose link stands in the server's log."""
        return has_owner()

    def clean_email(self, email: str) -> str:
        return canonical_email(email)

    def save_user(self, request: HttpRequest, user: User, form, commit: bool = True) -> User:
        """Make the account and, unless an invitation brought the person, their team."""
        try:
            return form.create_account()
        except IntegrityError as error:  # the form was sent twice at once, and the other one was first
            raise ImmediateHttpResponse(redirect("account_login")) from error

    def set_password(self, user: User, password: str) -> None:
        actions.change_password(user=user, password=password)

    def get_reset_password_from_key_url(self, key: str) -> str:
        return own_address(super().get_reset_password_from_key_url(key))

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation) -> str:
        return own_address(super().get_email_confirmation_url(request, emailconfirmation))

    def send_mail(self, template_prefix: str, email: str, context: dict) -> None:
        """Send, or say in the log that we could not: the page must not tell whether an address is known."""
        try:
            super().send_mail(template_prefix, email, context | {"base_url": settings.BASE_URL})
        except (OSError, smtplib.SMTPException):
            log.exception("mail_not_sent", template=template_prefix)

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials) -> str:
        # Ours counts by person only. The original adds the Host header, whose port the caller chooses.
        return canonical_email(credentials.get("email", ""))


def own_address(url: str) -> str:
    """Return a link to our own address: whoever asks for a mail chooses the Host header, its port included."""
    return settings.BASE_URL + urlsplit(url).path


def invitation_token(path: str) -> str | None:
    """Return the token when a path leads to an invitation."""
    try:
        match = resolve(path)
    except Resolver404:
        return None
    return match.kwargs["token"] if match.url_name == "invitation_accept" else None
