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
    """Removes the keys it knows, and anything that looks like a key, from text of a service."""

    def __init__(self, *keys: Secret | None) -> None:
        self._keys = tuple(key for key in keys if key is not None)

    def also(self, key: Secret) -> "Redactor":
        """Return a redactor that knows this one too."""
        return Redactor(*self._keys, key)

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
        """Whether a known key, or 17 characters of it in a row past its shown beginning, stand in these bytes."""
        plain = [key.use().encode() for key in self._keys]
        return any(key[at : at + 9] in body for key in plain for at in range(SHOWN, len(key) - 8, 9))

    def _clean(self, text: str) -> str:
        text = KEY_SHAPED.sub(MASK, text)
        return LONG_RUN.sub(lambda run: MASK if self._own(run[0]) else run[0], text)

    def _own(self, run: str) -> bool:
        """Whether any nine characters in a row are those of a known key."""
        return any(run[at : at + 9] in key.use() for key in self._keys for at in range(len(run) - 8))
