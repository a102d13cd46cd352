"""Signatures between us and others: what one side makes, the other takes, and nothing else."""

from datetime import UTC, datetime

import pytest

from integrations.signing import BadSigningSecret, NotSigned, check_secret, new_secret, sign, verify
from vault.secret import Secret

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
AT = int(NOW.timestamp())
BODY = b'{"type":"tide.turned"}'


def taken(headers: dict[str, str], *secrets: str, body: bytes = BODY, now: datetime = NOW) -> bool:
    try:
        verify(
            [Secret(secret) for secret in secrets],
            event=headers["webhook-id"],
            timestamp=headers["webhook-timestamp"],
            given=headers["webhook-signature"],
            body=body,
            now=now,
        )
    except NotSigned:
        return False
    return True


@pytest.mark.parametrize(
    "secret", [new_secret(), "a-secret-of-ones-own", "whsec_" + "A" * 32], ids=["new", "own", "long"]
)
def test_what_is_signed_is_taken_by_whoever_has_the_secret_and_nobody_else(secret):
    headers = sign(Secret(secret), event="msg_1", timestamp=AT, body=BODY)

    assert taken(headers, secret)
    assert taken(headers, new_secret(), secret)  # while a secret changes, two count
    assert not taken(headers, new_secret())
    assert not taken(headers)
    assert not taken(headers, secret, body=BODY + b" ")
    assert not taken(headers | {"webhook-id": "msg_2"}, secret)
    assert not taken(headers | {"webhook-timestamp": str(AT + 1)}, secret)
    assert not taken(headers | {"webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")}, secret)


def test_an_old_request_is_not_taken_however_well_it_is_signed():
    secret = new_secret()
    assert taken(sign(Secret(secret), event="msg_1", timestamp=AT - 299, body=BODY), secret)
    for late in (AT - 301, AT + 301):
        assert not taken(sign(Secret(secret), event="msg_1", timestamp=late, body=BODY), secret)


def test_a_secret_that_cannot_be_one_is_refused_before_it_is_kept():
    check_secret(new_secret())
    check_secret("any-text-of-ones-own")
    for wrong in ("whsec_", "whsec_AAAA", "whsec_no base64", "whsec_" + "A" * 400):
        with pytest.raises(BadSigningSecret):
            check_secret(wrong)
