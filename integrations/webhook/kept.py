"""
How a webhook is kept: its address and its signing secret as one sealed text.

Together, since an address may hold a secret of its own, and so that nobody can send what is signed
with one receiver's secret to another address.
"""

from collections.abc import Mapping

from integrations import signing
from integrations.addresses_out import BadAddress, Destination, check
from integrations.errors import InvalidRequest
from integrations.registry import CannotConnect, ConnectField, Connecting
from vault.secret import Secret

BETWEEN = "#"  # no address that we take has one
LONGEST_URL, SHORTEST_SECRET, LONGEST_SECRET = 400, 16, 100


def join(values: Mapping[str, str]) -> str:
    """Return an address and a secret as one text. Raises CannotConnect."""
    try:
        destination = check(values["url"].strip())
    except BadAddress as problem:
        raise CannotConnect("url", str(problem)) from None
    secret = values["secret"].strip()
    try:
        signing.check_secret(secret)
    except signing.BadSigningSecret as problem:
        raise CannotConnect("secret", str(problem)) from None
    if len(secret) < SHORTEST_SECRET:
        raise CannotConnect("secret", f"A secret has {SHORTEST_SECRET} characters or more. Leave it empty to get one.")
    return f"{destination.url}{BETWEEN}{secret}"


def split(kept: Secret) -> tuple[Destination, Secret]:
    """Return where to send, judged anew, and what to sign with. Raises InvalidRequest."""
    try:
        destination = check(kept.use().partition(BETWEEN)[0])
    except BadAddress as problem:
        raise InvalidRequest(str(problem), sent=False, advice="Connect another address.") from None
    return destination, Secret(kept.use().partition(BETWEEN)[2])


CONNECTING = Connecting(
    (
        ConnectField(
            "url",
            "Address",
            "Where deliveries go, such as https://hooks.example.com/in. It is sealed like a key.",
            most=LONGEST_URL,
        ),
        ConnectField(
            "secret",
            "Signing secret",
            "The receiver checks signatures with it. Leave it empty to have one made, which is shown once.",
            secret=True,
            most=LONGEST_SECRET,
            made=signing.new_secret,
        ),
    ),
    join=join,
    noun="webhook",
    verb="Connect a webhook",
    lede="Deliveries are signed as the Standard Webhooks specification has it. A test delivery is sent at once; "
    "personas get it only when you lend it to them.",
)
