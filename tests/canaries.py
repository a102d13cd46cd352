"""Values that must not be found, and the search for them in every spelling a leak could have."""

import base64
import html
import json
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote

from django.db import connection

PIECE = 9  # characters of a secret that may never be found together


@dataclass(frozen=True)
class Canary:
    """A planted value. `text` is searched for in pieces of nine characters, so leave out what may be shown."""

    name: str
    text: str

    @cached_property
    def spellings(self) -> set[str]:
        """Every piece of it as it is, reversed, as hex and percent-encoded; the whole in base64 and escaped."""
        pieces = {self.text[at : at + PIECE] for at in range(len(self.text) - PIECE + 1)}
        pieces |= {piece[::-1] for piece in pieces}
        encoded = {piece.encode().hex() for piece in pieces}
        encoded |= {"".join(f"%{byte:02x}" for byte in piece.encode()) for piece in pieces}
        whole = {json.dumps(self.text)[1:-1], html.escape(self.text), quote(self.text, safe="")}
        return {spelling.lower() for spelling in pieces | encoded | whole} | self._in_base64()

    def _in_base64(self) -> set[str]:
        """What is the same in base64 wherever in a longer text it stands: at three offsets, without the edges."""
        found = set()
        for offset in range(3):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                whole = encode(b"x" * offset + self.text.encode()).decode()[4:-4]
                found |= {whole[at : at + 14].lower() for at in range(max(1, len(whole) - 13))}
        return found

    def found_in(self, text: str) -> bool:
        lower = text.lower()
        return any(map(lower.__contains__, self.spellings))


def every_row() -> dict[str, str]:
    """Return all rows of each table as text (bytes as hex)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [name for (name,) in cursor.fetchall()]
        rows = {}
        for table in tables:
            cursor.execute(f'SELECT string_agg(whole::text, chr(10)) FROM "{table}" whole')
            rows[table] = cursor.fetchone()[0] or ""
    return rows
