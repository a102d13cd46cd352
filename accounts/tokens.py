"""Secrets that travel in a link. We keep their hash; a stolen table opens nothing."""

import hashlib
import secrets


def new_token() -> str:
    """Return 256 random bits that fit in a URL."""
    return secrets.token_urlsafe(32)


def fingerprint(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()
