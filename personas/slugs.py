"""Addresses of personas and flows, made of their names."""

from typing import Any

from django.utils.text import slugify

from accounts.models import Team


def free_slug(team: Team, rows: Any, name: str) -> str:
    """A slug for a name that no other of these rows of the team has. In the caller's transaction."""
    # One at a time: two tabs would otherwise pick one slug. no_key: other rows may point at the team meanwhile.
    Team.objects.select_for_update(no_key=True).get(pk=team.pk)
    base = slugify(name)[:50] or "unnamed"
    taken = {"new", *rows.filter(slug__startswith=base).values_list("slug", flat=True)}  # /new/ is a page
    return next(slug for slug in (base, *(f"{base}-{n}" for n in range(2, len(taken) + 3))) if slug not in taken)
