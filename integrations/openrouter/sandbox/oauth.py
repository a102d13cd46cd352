"""OAuth with PKCE: codes that a user agreed to, and the keys they are exchanged for, each once."""

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from . import wishes
from .accounts import user_id
from .clock import Clock
from .errors import ApiError, invalid
from .exchange import Reply, Request, json_reply
from .keys import Keys
from .router import Route

METHODS = ("S256", "plain")
LIFETIME = timedelta(minutes=10)
LONGEST_LABEL = 100
KEPT = 1_000
HERE = ("localhost", "127.0.0.1")
WRONG_METHOD = "Invalid code_challenge_method"
WRONG_CODE = "Invalid code or code_verifier"


@dataclass(frozen=True)
class Wish:
    """What an application asks a user to agree to. Without a callback the code is shown on the screen."""

    callback_url: str
    challenge: str
    method: str
    label: str

    @property
    def asker(self) -> str:
        """Who asks, as the user reads it."""
        return self.label or urlsplit(self.callback_url).hostname or "An application"

    def back(self, **said: str) -> str:
        """Where the browser goes with the answer; whatever the address held already stays in it."""
        parts = urlsplit(self.callback_url)
        return urlunsplit(parts._replace(query="&".join(part for part in (parts.query, urlencode(said)) if part)))


@dataclass(frozen=True)
class Consent:
    """What a code stands for."""

    wish: Wish
    account: str
    at: datetime
    key: dict[str, Any]


class Codes:
    """The codes that nobody has used yet; the oldest are forgotten when there are many."""

    def __init__(self) -> None:
        self._codes: OrderedDict[str, Consent] = OrderedDict()

    def issue(self, consent: Consent) -> str:
        code = f"auth_code_{secrets.token_urlsafe(24)}"
        self._codes[code] = consent
        if len(self._codes) > KEPT:
            self._codes.popitem(last=False)
        return code

    def redeem(self, code: str, *, verifier: str | None, method: str | None, now: datetime) -> Consent:
        """
        What this code stands for, for the only time: even a wrong verifier uses it up.

        Raises ApiError: 400 for another method than the one the user agreed to,
        which leaves the code as it is; 403 for anything else that does not fit.
        """
        consent = self._codes.get(code)
        if consent is None:
            raise ApiError(403, WRONG_CODE)
        if method is not None and method != consent.wish.method:
            raise ApiError(400, WRONG_METHOD)
        del self._codes[code]
        if consent.at + LIFETIME <= now:
            raise ApiError(403, "Authorization code expired")
        if not _fits(verifier, consent.wish):
            raise ApiError(403, WRONG_CODE)
        return consent


class OAuthDesk:
    """Agreeing, and exchanging codes for keys. Every handler raises ApiError."""

    def __init__(self, keys: Keys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._codes = Codes()

    def routes(self) -> list[Route]:
        return [("POST", "/auth/keys", self._exchange), ("POST", "/auth/keys/code", self._create_code)]

    def agree(self, wish: Wish, *, account: str) -> str:
        """Issue a code in the name of an account, which is opened if need be."""
        return self._issue(wish, self._keys.open_account(account), {})

    def _exchange(self, request: Request) -> Reply:
        now, body = self._clock.now(), request.json
        method = body.get("code_challenge_method")
        if method not in (None, *METHODS):
            raise ApiError(400, WRONG_METHOD)
        code, verifier = wishes.needed(body, "code"), wishes.word(body, "code_verifier")
        consent = self._codes.redeem(code, verifier=verifier, method=method, now=now)
        _key, text = self._keys.mint(now=now, account=consent.account, **_named(consent))
        return json_reply({"key": text, "user_id": user_id(consent.account)})

    def _create_code(self, request: Request) -> Reply:
        now, body = self._clock.now(), request.json
        key = self._keys.need(request.bearer, now=now)
        wishes.workspace(body, account=key.account, otherwise=invalid("workspace_id: no such workspace"))
        wish = read_wish(body | {"callback_url": wishes.needed(body, "callback_url")})
        limits = {
            "limit": wishes.amount(body, "limit"),
            "limit_reset": wishes.interval(body, "usage_limit_type"),
            "expires_at": wishes.expiry(body, "expires_at", now=now),
        }
        app_id = int.from_bytes(sha256(wish.callback_url.encode()).digest()[:3])
        code = self._issue(wish, key.account, limits)
        return json_reply({"data": {"id": code, "app_id": app_id, "created_at": now.isoformat()}})

    def _issue(self, wish: Wish, account: str, key: dict[str, Any]) -> str:
        return self._codes.issue(Consent(wish, account, self._clock.now(), key))


def read_wish(fields: dict[str, Any]) -> Wish:
    """What an application asks for; raises ApiError(400) for a callback or a challenge that will not do."""
    callback = wishes.word(fields, "callback_url") or ""
    challenge = wishes.word(fields, "code_challenge") or ""
    method = fields.get("code_challenge_method") or "plain"
    if method not in METHODS:
        raise ApiError(400, WRONG_METHOD)
    if callback and not _may_be_called(callback):
        raise invalid("callback_url: expected https, or http on localhost")
    if not callback and not challenge:
        raise invalid("code_challenge: required without a callback_url")
    return Wish(callback, challenge, method, wishes.word(fields, "key_label", most=LONGEST_LABEL) or "")


def _may_be_called(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in HERE))


def _named(consent: Consent) -> dict[str, Any]:
    return {"name": consent.wish.asker, **consent.key}


def _fits(verifier: str | None, wish: Wish) -> bool:
    """Whether the verifier is the one that was promised; none must come where none was."""
    if not wish.challenge or verifier is None:
        return not wish.challenge and verifier is None
    said = verifier.encode("utf-8", "surrogatepass")
    if wish.method == "S256":
        said = urlsafe_b64encode(sha256(said).digest()).rstrip(b"=")
    return hmac.compare_digest(said, wish.challenge.encode("utf-8", "surrogatepass"))
