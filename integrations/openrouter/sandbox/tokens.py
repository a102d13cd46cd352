"""A tokenizer simple enough to predict: short runs of letters, or of anything else."""

import re

PIECE = re.compile(r"\s*(?:\w{1,8}|[^\w\s]{1,3})|\s+")
MESSAGE_OVERHEAD = 4
IMAGE_TOKENS = 258


def split(text: str) -> list[str]:
    """The tokens of a text; joined, they are the text again."""
    return PIECE.findall(text)


def count(text: str) -> int:
    return sum(1 for _ in PIECE.finditer(text))
