"""The history of a persona or a flow: its versions, newest first, each with what it changed."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest

from django.db.models import QuerySet
from django.db.models.functions import MD5, Length

from personas import comparing, flow_comparing
from personas.models import Flow, FlowVersion, Persona, PersonaVersion
from personas.queries import PAGE, Page

FLOW_PAGE = 20  # stages are read whole


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One line of a history."""

    version: PersonaVersion | FlowVersion
    changed: str


def version_page(*, persona: Persona, before: int | None = None) -> Page:
    """Return a page of a persona's versions, newest first, each with what it changed in a sentence."""
    # The texts stay in the database: fifty of them may hold five million characters.
    found = persona.versions.defer("instructions").annotate(digest=MD5("instructions"), length=Length("instructions"))
    return _page(found, before, _changed, PAGE)


def flow_version_page(*, flow: Flow, before: int | None = None) -> Page:
    """Return a page of a flow's versions, newest first, each with what it changed in a sentence."""
    return _page(flow.versions.all(), before, flow_comparing.in_a_sentence, FLOW_PAGE)


def _page(found: QuerySet, before: int | None, changed: Callable, most: int) -> Page:
    found = found.select_related("created_by").order_by("-number")
    if before is not None:
        found = found.filter(number__lt=before)
    rows = list(found[: most + 1])  # one more: the last line is told from the version before it
    lines = [VersionRow(row, changed(old, row)) for row, old in zip_longest(rows, rows[1:])]
    return Page(lines[:most], str(rows[most - 1].number) if len(rows) > most else "")


def _changed(old: PersonaVersion | None, new: PersonaVersion) -> str:
    if old is None:
        return "The first version."
    lengths = None if old.digest == new.digest else (old.length, new.length)
    return comparing.in_a_sentence(comparing.compare_settings(old, new), lengths)
