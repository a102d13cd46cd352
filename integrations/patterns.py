"""
Which model ids a list of patterns means. Pure, no regular expressions.

A pattern is a model id in which `*` stands for anything: `openai/*`, `*:free`, `*/gpt-*`. Capitals
do not count. Rules for what is more than an id:

- A suffix that only asks for another way to the same model (`:nitro`, `:floor`, …) is not part of
  what is allowed. Every suffix is part of what is denied: whoever denies a model denies its variants.
- A preset (`@preset/x`) and a router (`openrouter/auto`) decide elsewhere which model answers, so no
  pattern with a star means them: only their exact names do.
- An alias (`~openai/gpt-latest`) may turn into any model of its author: it is allowed where all of
  that author is, and denied where a pattern might mean one of that author's models.

Asking costs (number of patterns) × (length of the id), whatever the patterns are.
"""

import re
from collections.abc import Sequence

from integrations.facts import VIRTUAL_SUFFIXES

MOST_PATTERNS = 1_000
LONGEST = 200
PATTERN = re.compile(rf"[A-Za-z0-9~@_.:/*-]{{1,{LONGEST}}}")
ROUTERS = "openrouter/"


def is_pattern(text: str) -> bool:
    """Whether a text can be used as a pattern. A lone word could mean no id at all, so it is none."""
    return PATTERN.fullmatch(text) is not None and ("/" in text or "*" in text)


def is_allowed(model: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns allows a model."""
    model = model.lower()
    if is_indirect(model):
        return any(model == pattern.lower() for pattern in patterns)
    if model.startswith("~"):
        return any(model == pattern.lower() or _means_all_of(_author(model), pattern) for pattern in patterns)
    names = {model, _plain(model)}
    return any(matches(name, pattern) for pattern in patterns for name in names)


def is_denied(model: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns denies a model."""
    model = model.lower()
    if model.startswith("~"):
        author = _author(model)
        return any(matches(model, pattern) or _may_mean_one_of(author, pattern) for pattern in patterns)
    names = _with_fewer_suffixes(model)
    return any(matches(name, pattern) for pattern in patterns for name in names)


def is_indirect(model: str) -> bool:
    """Whether an id is a preset or a router: it says nothing about which model answers."""
    model = model.lower()
    return "@preset/" in model or model.startswith(ROUTERS)


def matches(text: str, pattern: str) -> bool:
    """Whether a text is what a pattern describes: `*` stands for anything, all else for itself."""
    text, pattern = text.lower(), pattern.lower()
    first, *rest = pattern.split("*")
    if not rest:
        return text == first
    *middle, last = rest
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    # From left to right, the first place where each piece fits is good enough: nothing is tried twice.
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _author(alias: str) -> str:
    return alias.lstrip("~").partition("/")[0]


def _means_all_of(author: str, pattern: str) -> bool:
    named, slash, rest = pattern.partition("/")
    return matches(author, named) and (rest == "*" if slash else named == "*")


def _may_mean_one_of(author: str, pattern: str) -> bool:
    named, slash, _ = pattern.lstrip("~").partition("/")
    return matches(author, named) if slash else "*" in pattern


def _plain(model: str) -> str:
    """An id without the suffixes that name no model of their own."""
    base, _, suffix = model.rpartition(":")
    return _plain(base) if base and suffix in VIRTUAL_SUFFIXES else model


def _with_fewer_suffixes(model: str) -> list[str]:
    parts = model.split(":")
    return [":".join(parts[:end]) for end in range(len(parts), 0, -1)]
