"""
Connecting by consent: a member agrees at the provider, and a worker exchanges the code for a key (OAuth with PKCE).

The verifier and the code are sealed to the workers when they are made or come in, as a pasted key is.
A code is good for one try, so an exchange that was lost is never made again.
"""

import secrets
from base64 import urlsafe_b64encode
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

from django.db import transaction
from django.views.decorators.debug import sensitive_variables

from accounts.models import Team, User
from audit.actions import Actor, record
from audit.clock import app_now
from audit.ids import uuid7
from integrations import actions
from integrations.advice import in_words
from integrations.clients import client_for
from integrations.errors import UpstreamError
from integrations.models import Connection, Consent
from integrations.models.consents import LIFETIME
from integrations.queue import redeem_later
from integrations.registry import Integration, get_integration
from vault.actions import LabelTaken
from vault.errors import Unreadable
from vault.models import Credential
from vault.posted import open_posted, seal_posted
from vault.secret import Secret

VERIFIER, CODE = 1, 2  # what of a consent is sealed: bound, so that neither opens as the other
MOST_CODE = 512
HINT_AGAIN = timedelta(seconds=10)
LONGEST_EXCHANGE = timedelta(minutes=2)
TOO_LATE = "Ten minutes passed before you came back. Begin anew."
LOST = (
    "The exchange was interrupted, so nobody knows whether a key was made. Look for a key called “{label}” in your "
    "account, delete it there, and begin anew."
)


class ConsentOver(Exception):
    """This way to the provider has ended, or a code came back before."""


class NotACode(Exception):
    """What was pasted cannot be a code. The message says what to do and repeats nothing."""


@transaction.atomic
@sensitive_variables("verifier")
def begin(*, team: Team, integration: Integration, label: str, by: User) -> Consent:
    """Set out for a provider. Raises LabelTaken when a live connection has this name."""
    if Credential.objects.live().filter(team=team, label=label).exists():
        raise LabelTaken
    now, id, verifier = app_now(), uuid7(), secrets.token_urlsafe(48)
    return Consent.objects.create(
        id=id,
        team=team,
        integration=integration.slug,
        label=label,
        challenge=urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
        verifier_sealed=seal_posted(verifier, team_id=team.pk, credential_id=id, version=VERIFIER),
        by=by,
        created_at=now,
        changed_at=now,
    )


def consent_url(consent: Consent, *, callback_url: str) -> str:
    """Where the member agrees. Without a `callback_url` a code is shown there, to be pasted here."""
    client = client_for(get_integration(consent.integration))
    return client.consent_url(
        code_challenge=consent.challenge, callback_url=callback_url, key_label=_key_label(consent)
    )


@transaction.atomic
@sensitive_variables("code")
def answer(*, consent: Consent, code: str) -> None:
    """Take the code that a member came back with. Raises NotACode, and ConsentOver on a second one or a late one."""
    value = code.strip()
    if not (value and len(value) <= MOST_CODE and all("!" <= letter <= "~" for letter in value)):
        raise NotACode("Paste the code as it was shown: letters, digits and signs without spaces.")
    sealed = seal_posted(value, team_id=consent.team_id, credential_id=consent.pk, version=CODE)
    _move(consent, Consent.State.WAITING, Consent.State.ANSWERED, code_sealed=sealed)
    redeem_later(consent.pk)


@transaction.atomic
def deny(*, consent: Consent) -> None:
    """Note that the member said no at the provider. Raises ConsentOver when it was decided before."""
    _move(consent, Consent.State.WAITING, Consent.State.DENIED, verifier_sealed=None)
    _record("integrations.consent.denied", consent)


def redeem(*, consent_id: UUID) -> None:
    """Exchange a code for a key and connect it. For workers; a second one finds nothing to do."""
    consent = Consent.objects.select_related("team__plan", "by").filter(pk=consent_id, state="answered").first()
    if consent is None:
        return
    try:
        _take(consent)
    except ConsentOver:
        return
    try:
        key = _exchange(consent)
    except UpstreamError as refusal:
        _fail(consent, in_words(refusal)[:300])
    except Unreadable:
        _fail(consent, "The code cannot be read by this installation's keys. Begin anew.")
    else:
        _connect(consent, key)


def sweep() -> None:
    """End what is late and what was lost, and hint again at codes that nobody exchanged."""
    now = app_now()
    for consent in Consent.objects.filter(state="waiting", changed_at__lt=now - LIFETIME)[:100]:
        _fail(consent, TOO_LATE)
    for consent in Consent.objects.filter(state="asking", changed_at__lt=now - LONGEST_EXCHANGE)[:100]:
        _fail(consent, LOST.format(label=_key_label(consent)))
    for id in Consent.objects.filter(state="answered", changed_at__lt=now - HINT_AGAIN).values_list("pk", flat=True)[
        :100
    ]:
        redeem_later(id)


def _key_label(consent: Consent) -> str:
    """What the provider calls the key that it makes."""
    return f"Definable: {consent.label}"


@transaction.atomic
def _take(consent: Consent) -> None:
    """Claim the one try that a code is good for; what will be sent is in the log before it is."""
    _move(consent, Consent.State.ANSWERED, Consent.State.ASKING)
    _record("integrations.consent.exchanging", consent)


def _exchange(consent: Consent) -> Secret:
    """Return the key. Raises UpstreamError and Unreadable."""
    client = client_for(get_integration(consent.integration))
    request = client.exchange_code(_open(consent, CODE), verifier=_open(consent, VERIFIER))
    return client.send(request, key=None, request_id=consent.pk).secret


def _open(consent: Consent, what: int) -> Secret:
    blob = bytes(consent.verifier_sealed if what == VERIFIER else consent.code_sealed)
    return Secret(open_posted(blob, team_id=consent.team_id, credential_id=consent.pk, version=what))


@transaction.atomic
def _connect(consent: Consent, key: Secret) -> None:
    connection = _connected(consent, key, consent.label)
    _move(
        consent,
        Consent.State.ASKING,
        Consent.State.DONE,
        connection=connection,
        verifier_sealed=None,
        code_sealed=None,
    )


def _connected(consent: Consent, key: Secret, label: str) -> Connection:
    """Connect the key, under another name if somebody took this one meanwhile: the key exists, so it is kept."""
    try:
        with transaction.atomic():
            return actions.connect(
                team=consent.team,
                integration=get_integration(consent.integration),
                label=label,
                kind=Credential.Kind.API_KEY,
                posted=key,
                by=consent.by,
            )
    except LabelTaken:
        return _connected(consent, key, f"{consent.label[:70]} {secrets.token_hex(3)}")


@transaction.atomic
def _fail(consent: Consent, reason: str) -> None:
    try:
        _move(consent, consent.state, Consent.State.FAILED, reason=reason, verifier_sealed=None, code_sealed=None)
    except ConsentOver:
        return
    _record("integrations.consent.failed", consent, reason=reason)


def _move(consent: Consent, before: str, after: str, **columns: object) -> None:
    """Step on, if nobody else did. Raises ConsentOver."""
    now = app_now()
    rows = Consent.objects.filter(pk=consent.pk, state=before)
    if before == Consent.State.WAITING and after != Consent.State.FAILED:
        rows = rows.filter(created_at__gt=now - LIFETIME)
    if not rows.update(state=after, changed_at=now, **columns):
        raise ConsentOver
    consent.state = after


def _record(action: str, consent: Consent, **details: object) -> None:
    record(
        action,
        team_id=consent.team_id,
        actor=Actor.user(consent.by),
        target=f"consent:{consent.pk}",
        target_name=consent.label,
        details={"integration": consent.integration, **details},
    )
