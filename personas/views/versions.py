"""A persona's versions: the history, one beside another, and what is done with the draft."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from personas import checking, comparing, drafting, history
from personas.models import Persona, PersonaVersion
from personas.views.people import persona_or_404

MOST_DIGITS = 9  # a number that the database can hold
MOST_LISTED = 200


@require_GET
@team_view(Permission.PERSONA_VIEW)
def persona_versions(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug, archived=True)
    page = history.version_page(persona=persona, before=_number(request.GET.get("before", "")))
    return render(request, "personas/persona_versions.html", {"persona": persona, "page": page})


@require_GET
@team_view(Permission.PERSONA_VIEW)
def persona_version(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    persona = persona_or_404(request, slug, archived=True)
    version = get_object_or_404(persona.versions.select_related("created_by"), number=number)
    context = _comparison(version, _other(request, persona, version)) | {
        "persona": persona,
        "version": version,
        "settings": comparing.settings_of(version),
        "newest": drafting.newest(persona),
        "numbers": _numbers(persona, version),
        "problems": _problems(persona, version),
        "may_edit": request.membership.allows(Permission.PERSONA_EDIT) and not persona.archived_at,
    }
    return render(request, "personas/persona_version.html", context)


@require_POST
@team_view(Permission.PERSONA_EDIT)
def persona_publish(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug)
    try:
        version = drafting.publish(persona=persona, number=_posted(request), by=request.user)
        messages.success(request, f"Version {version.number} published")
    except drafting.NotTheDraft:
        messages.error(request, "That is not the draft any more. Nothing was published; look at it again.")
    return redirect("persona_detail", request.team.slug, slug)


@require_POST
@team_view(Permission.PERSONA_EDIT)
def persona_discard(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug)
    number = _posted(request)
    try:
        drafting.discard(persona=persona, number=number, by=request.user)
        messages.success(request, f"Draft discarded; version {number} stays in the history")
    except drafting.NotTheDraft:
        messages.error(request, "That is not the draft any more. Nothing was discarded; look at it again.")
    except drafting.NothingElse:
        messages.error(request, "Nothing was discarded: this draft is all there is. Archive the persona instead.")
    return redirect("persona_detail", request.team.slug, slug)


@require_POST
@team_view(Permission.PERSONA_EDIT)
def persona_restore(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    persona = persona_or_404(request, slug)
    get_object_or_404(persona.versions, number=number)
    try:
        version = drafting.restore(persona=persona, number=number, by=request.user, seen=_posted(request, "seen"))
    except drafting.Outdated as conflict:
        newer = conflict.newest.number
        messages.error(request, f"Version {newer} was saved meanwhile. Nothing was restored; look at it first.")
        return redirect("persona_version", request.team.slug, slug, newer)
    messages.success(request, f"Version {number} restored as draft {version.number}")
    return redirect("persona_version", request.team.slug, slug, version.number)


def _problems(persona: Persona, version: PersonaVersion) -> list[str]:
    """What a draft would meet once it is in use. Versions that are not to be published are not checked."""
    if version.pk != persona.draft_id:
        return []
    return checking.problems_of_version(persona=persona, version=version, at=app_now())


# --- what to compare --------------------------------------------------------------------


def _comparison(version: PersonaVersion, other: PersonaVersion) -> dict[str, Any]:
    # What is newer is the new one, whichever of the two was asked for.
    old, new = sorted((version, other), key=lambda each: each.number)
    return {
        "old": old,
        "new": new,
        "other": other,
        "text": comparing.compare_texts(old.instructions, new.instructions),
        "changed": comparing.compare_settings(old, new),
    }


def _other(request: HttpRequest, persona: Persona, version: PersonaVersion) -> PersonaVersion:
    """The version to compare with: the one that ?with= names, else the one in use, else the one before."""
    wanted = request.GET.get("with")
    if wanted is not None:
        return get_object_or_404(persona.versions, number=_number(wanted) or 0)
    if persona.version and persona.version.number != version.number:
        return persona.version
    return persona.versions.filter(number__lt=version.number).order_by("-number").first() or version


def _numbers(persona: Persona, version: PersonaVersion) -> list[int]:
    others = persona.versions.exclude(pk=version.pk).order_by("-number")
    return list(others.values_list("number", flat=True)[:MOST_LISTED])


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None


def _posted(request: HttpRequest, name: str = "number") -> int:
    """The number of a version that a button carries; 0, which no version has, without one."""
    return _number(request.POST.get(name, "")) or 0
