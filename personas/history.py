"""The history of a persona: its versions, newest first, each with what it changed."""

from dataclasses import dataclass
from itertools import zip_longest

from django.db.models.functions import MD5, Length

from personas import comparing
from personas.models import Persona, PersonaVersion
from personas.queries import PAGE, Page


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One line of a persona's history."""

    version: PersonaVersion
    changed: str


def version_page(*, persona: Persona, before: int | None = None) -> Page:
    """Return a page of a persona's versions, newest first, each with what it changed in a sentence."""
    # The texts stay in the database: fifty of them may hold five million characters.
    found = persona.versions.defer("instructions").select_related("created_by").order_by("-number")
    found = found.annotate(digest=MD5("instructions"), length=Length("instructions"))
    if before is not None:
        found = found.filter(number__lt=before)
    rows = list(found[: PAGE + 1])  # one more: the last line is told from the version before it
    lines = [VersionRow(row, _changed(old, row)) for row, old in zip_longest(rows, rows[1:])]
    return Page(lines[:PAGE], str(rows[PAGE - 1].number) if len(rows) > PAGE else "")


def _changed(old: PersonaVersion | None, new: PersonaVersion) -> str:
    if old is None:
        return "The first version."
    lengths = None if old.digest == new.digest else (old.length, new.length)
    return comparing.in_a_sentence(comparing.compare_settings(old, new), lengths)
