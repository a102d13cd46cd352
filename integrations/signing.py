"""
Signatures of requests between us and others, as the Standard Webhooks specification has them. Pure.

HMAC-SHA256 over `id.timestamp.body`, with the body as it is on the wire; both sides hold the same secret.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from vault.secret import Secret

PREFIX = "whsec_"
MADE = 32  # bytes of a secret that we make
SHORTEST, LONGEST = 24, 64  # bytes of one that begins with the prefix
WINDOW = timedelta(minutes=5)  # how far the sender's clock may be from ours
MOST_GIVEN = 5  # signatures in one header: a sender that changes its secret sends two
TIMESTAMP = re.compile(r"[0-9]{1,12}")
EVENT = re.compile(r"[\x21-\x7e]{1,120}")


class BadSigningSecret(Exception):
    """The text cannot be a signing secret; the message says what to do."""


class NotSigned(Exception):
    """The request is not signed as it must be; the message says what is wrong with it."""


def new_secret() -> str:
    """Make a secret to sign with, as text that is shown once."""
    return PREFIX + base64.b64encode(secrets.token_bytes(MADE)).decode()


def check_secret(text: str) -> None:
    """Raise BadSigningSecret for what begins like a secret of the specification and is none."""
    if not text.startswith(PREFIX):
        return
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise BadSigningSecret(f"What follows {PREFIX} must be Base64. Paste the whole secret again.") from None
    if not SHORTEST <= len(key) <= LONGEST:
        raise BadSigningSecret(f"What follows {PREFIX} must stand for {SHORTEST} to {LONGEST} bytes.")


def sign(secret: Secret, *, event: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers that go with a body. `event` is its id; `timestamp` is in seconds since 1970."""
    signature = _signature(secret, b"%s.%d.%s" % (event.encode(), timestamp, body)).decode()
    return {"webhook-id": event, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def verify(secrets: Sequence[Secret], *, event: str, timestamp: str, given: str, body: bytes, now: datetime) -> None:
    """Raise NotSigned unless one of these secrets signed the body for this event, within five minutes of `now`."""
    if not EVENT.fullmatch(event):
        raise NotSigned("webhook-id must be 1 to 120 visible ASCII characters.")
    if not TIMESTAMP.fullmatch(timestamp):
        raise NotSigned("webhook-timestamp must be in seconds since 1970.")
    if not _one_matches(secrets, b"%s.%s.%s" % (event.encode(), timestamp.encode(), body), given):
        raise NotSigned("No signature in webhook-signature fits the body and the secret.")
    if abs(now.timestamp() - int(timestamp)) > WINDOW.total_seconds():
        raise NotSigned("webhook-timestamp is more than five minutes from now.")


def _one_matches(secrets: Sequence[Secret], message: bytes, given: str) -> bool:
    theirs = [text.encode() for text in given.split(" ")[:MOST_GIVEN]]
    ours = [_signature(secret, message) for secret in secrets]
    # All pairs, however early one fits: how long it takes says nothing.
    return sum(hmac.compare_digest(one, other) for one in ours for other in theirs) > 0


def _signature(secret: Secret, message: bytes) -> bytes:
    return b"v1," + base64.b64encode(hmac.digest(_key(secret), message, hashlib.sha256))


def _key(secret: Secret) -> bytes:
    # A secret without the prefix counts by its own characters.
    text = secret.use()
    return base64.b64decode(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else text.encode()
