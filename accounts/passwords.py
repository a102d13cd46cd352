"""What a password may be, beside Django's own validators. Never changed, only accepted or refused."""

import re
import unicodedata

from django.core.exceptions import ValidationError

from accounts.models import User

OUR_WORDS = ("definable", "openrouter", "persona")
SHORTEST_WORD = 4  # shorter words occur in good passwords by chance


class MaximumLengthValidator:
    """A limit far above any phrase, so that nobody makes us hash a megabyte."""

    def __init__(self, max_length: int = 128):
        self.max_length = max_length

    def validate(self, password: str, user: User | None = None) -> None:
        if len(password) > self.max_length:
            raise ValidationError(f"This password is longer than {self.max_length} characters.", "password_too_long")

    def get_help_text(self) -> str:
        return f"At most {self.max_length} characters."


class OwnWordsValidator:
    """
    Refuse a password that is little more than a word an attacker would try here first.

    Those are the product's name, the person's name and address, and their teams' names. A word
    is fine inside something longer: 8 other characters make it so.
    """

    def __init__(self, others: int = 8):
        self.others = others

    def validate(self, password: str, user: User | None = None) -> None:
        text = _plain(password)
        for word in _words(user):
            if word in text and len(text.replace(word, "")) < self.others:
                raise ValidationError(
                    "This password is mostly a name: yours, a team's or the product's. Add words that are not.",
                    "password_is_a_name",
                )

    def get_help_text(self) -> str:
        return "Not mostly your name, your team's or the product's."


def _words(user: User | None) -> set[str]:
    named = [user.email, user.name, getattr(user, "team_name", "")] if user else []
    if user and not user._state.adding:
        named += user.memberships.values_list("team__name", flat=True)
    pieces = {piece for text in named for piece in [_plain(text), *map(_plain, re.split(r"[^\w]+", text))]}
    return {*OUR_WORDS, *(piece for piece in pieces if len(piece) >= SHORTEST_WORD)}


def _plain(text: str) -> str:
    """Letters and digits only, in one case: "Def-inable" and "DEFINABLE" are one word."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())
