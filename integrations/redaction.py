"""Taking keys out of what a service says back: it may echo the one it was given, or somebody else's."""

import re
from typing import Any

from vault.secret import Secret

MASK = "[key removed]"
KEY_SHAPED = re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{4,}[A-Za-z0-9]")
SHOWN = 12  # characters with which a key begins and which may be shown
# Nine characters of a key in a row give too much of it away.
LONG_RUN = re.compile(r"[A-Za-z0-9_-]{9,}")


class Redactor:
    """Removes one key, and anything that looks like a key, from text of a service."""

    def __init__(self, key: Secret | None) -> None:
        self._key = key

    def text(self, value: Any, limit: int = 2000) -> str:
        """Return clean text of at most `limit` characters; nothing for what is not text."""
        if not isinstance(value, str) or not value:
            return ""
        # Cut after cleaning: half a key at the edge would no longer look like one.
        return self._clean(value[: limit * 20])[:limit]

    def everything(self, value: Any) -> Any:
        """Return a copy of a JSON value in which every string, names included, is clean."""
        if isinstance(value, str):
            return self._clean(value)
        if isinstance(value, dict):
            return {self._clean(name): self.everything(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.everything(item) for item in value]
        return value

    def holds_own(self, body: bytes) -> bool:
        """Whether the key, or 17 characters of it in a row past its shown beginning, stand in these bytes."""
        key = self._key.use().encode() if self._key else b""
        return any(key[at : at + 9] in body for at in range(SHOWN, len(key) - 8, 9))

    def _clean(self, text: str) -> str:
        text = KEY_SHAPED.sub(MASK, text)
        return LONG_RUN.sub(lambda run: MASK if self._own(run[0]) else run[0], text)

    def _own(self, run: str) -> bool:
        """Whether any nine characters in a row are the key's."""
        return self._key is not None and any(run[at : at + 9] in self._key.use() for at in range(len(run) - 8))
