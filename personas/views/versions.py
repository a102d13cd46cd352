"""Versions of personas and flows: the history, one beside another, and what is done with the draft."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts.permissions import Permission
from accounts.teams import team_view
from audit.clock import app_now
from personas import checking, comparing, drafting, flow_comparing, history
from personas.flow_forms import inputs_as_text
from personas.models import Flow
from personas.queries import Page
from personas.stages import BadInput, BadStage
from personas.views.flows import flow_or_404, persona_names
from personas.views.people import persona_or_404

MOST_DIGITS = 9  # a number that the database can hold
MOST_LISTED = 200


# --- of personas ------------------------------------------------------------------------


@require_GET
@team_view(Permission.PERSONA_VIEW)
def persona_versions(request: HttpRequest, slug: str) -> HttpResponse:
    persona = persona_or_404(request, slug, archived=True)
    page = history.version_page(persona=persona, before=_number(request.GET.get("before", "")))
    return _list_page(request, persona, page)


@require_GET
@team_view(Permission.PERSONA_VIEW)
def persona_version(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    persona = persona_or_404(request, slug, archived=True)
    version = get_object_or_404(persona.versions.select_related("created_by"), number=number)
    old, new, other = _both(request, persona, version)
    context = {
        "text": comparing.compare_texts(old.instructions, new.instructions),
        "changed": comparing.compare_settings(old, new),
        "settings": comparing.settings_of(version),
        "problems": _problems(persona, version),
        "may_edit": request.membership.allows(Permission.PERSONA_EDIT) and not persona.archived_at,
    }
    return _version_page(request, persona, version, (old, new, other), context)


@require_POST
@team_view(Permission.PERSONA_EDIT)
def persona_publish(request: HttpRequest, slug: str) -> HttpResponse:
    return _publish(request, persona_or_404(request, slug))


@require_POST
@team_view(Permission.PERSONA_EDIT)
def persona_discard(request: HttpRequest, slug: str) -> HttpResponse:
    return _discard(request, persona_or_404(request, slug))


@require_POST
@team_view(Permission.PERSONA_EDIT)
def persona_restore(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    return _restore(request, persona_or_404(request, slug), number)


# --- of flows ---------------------------------------------------------------------------


@require_GET
@team_view(Permission.FLOW_VIEW)
def flow_versions(request: HttpRequest, slug: str) -> HttpResponse:
    flow = flow_or_404(request, slug)
    return _list_page(
        request, flow, history.flow_version_page(flow=flow, before=_number(request.GET.get("before", "")))
    )


@require_GET
@team_view(Permission.FLOW_VIEW)
def flow_version(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    flow = flow_or_404(request, slug)
    version = get_object_or_404(flow.versions.select_related("created_by"), number=number)
    old, new, other = _both(request, flow, version)
    names = persona_names(request, old, new)
    context = {
        "changes": flow_comparing.compare_versions(old, new, names),
        "stages": [(stage["name"], flow_comparing.as_text(stage, names)) for stage in version.stages],
        "old_inputs": inputs_as_text(old.inputs),
        "new_inputs": inputs_as_text(new.inputs),
        "problems": _problems(flow, version),
        "may_edit": request.membership.allows(Permission.FLOW_EDIT),
        "may_start": request.membership.allows(Permission.RUN_START),
    }
    return _version_page(request, flow, version, (old, new, other), context)


@require_POST
@team_view(Permission.FLOW_EDIT)
def flow_publish(request: HttpRequest, slug: str) -> HttpResponse:
    return _publish(request, flow_or_404(request, slug))


@require_POST
@team_view(Permission.FLOW_EDIT)
def flow_discard(request: HttpRequest, slug: str) -> HttpResponse:
    return _discard(request, flow_or_404(request, slug))


@require_POST
@team_view(Permission.FLOW_EDIT)
def flow_restore(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    return _restore(request, flow_or_404(request, slug), number)


# --- pages of both ----------------------------------------------------------------------


def _list_page(request: HttpRequest, of: drafting.Versioned, page: Page) -> HttpResponse:
    return render(request, "personas/versions.html", {"of": of, "kind": kind_of(of), "page": page})


def _version_page(
    request: HttpRequest, of: drafting.Versioned, version: drafting.Version, compared: tuple, context: dict[str, Any]
) -> HttpResponse:
    old, new, other = compared
    shown = {"of": of, "kind": kind_of(of), kind_of(of): of, "version": version, "old": old, "new": new, "other": other}
    about = {"newest": drafting.newest(of), "numbers": _numbers(of, version)}
    return render(request, f"personas/{kind_of(of)}_version.html", shown | about | context)


def _publish(request: HttpRequest, of: drafting.Versioned) -> HttpResponse:
    try:
        version = drafting.publish(of=of, number=_posted(request), by=request.user)
        messages.success(request, f"Version {version.number} published")
    except drafting.NotTheDraft:
        messages.error(request, "That is not the draft any more. Nothing was published; look at it again.")
    except (BadStage, BadInput) as problem:
        messages.error(request, f"Nothing was published. {problem}")
    return _back(request, of)


def _discard(request: HttpRequest, of: drafting.Versioned) -> HttpResponse:
    number = _posted(request)
    try:
        drafting.discard(of=of, number=number, by=request.user)
        messages.success(request, f"Draft discarded; version {number} stays in the history")
    except drafting.NotTheDraft:
        messages.error(request, "That is not the draft any more. Nothing was discarded; look at it again.")
    except drafting.NothingElse:
        messages.error(request, f"Nothing was discarded: this draft is all there is of the {kind_of(of)}.")
    return _back(request, of)


def _restore(request: HttpRequest, of: drafting.Versioned, number: int) -> HttpResponse:
    get_object_or_404(of.versions, number=number)
    to = f"{kind_of(of)}_version"
    try:
        version = drafting.restore(of=of, number=number, by=request.user, seen=_posted(request, "seen"))
    except drafting.Outdated as conflict:
        newer = conflict.newest.number
        messages.error(request, f"Version {newer} was saved meanwhile. Nothing was restored; look at it first.")
        return redirect(to, request.team.slug, of.slug, newer)
    messages.success(request, f"Version {number} restored as draft {version.number}")
    return redirect(to, request.team.slug, of.slug, version.number)


def _back(request: HttpRequest, of: drafting.Versioned) -> HttpResponse:
    return redirect(f"{kind_of(of)}_detail", request.team.slug, of.slug)


def kind_of(of: drafting.Versioned) -> str:
    """Its word in addresses: persona or flow."""
    return "flow" if isinstance(of, Flow) else "persona"


def _problems(of: drafting.Versioned, version: drafting.Version) -> list[str]:
    """What a draft would meet once it is in use. Versions that are not to be published are not checked."""
    if version.pk != of.draft_id:
        return []
    if isinstance(of, Flow):
        return checking.problems_of_flow(flow=of, version=version, at=app_now())
    return checking.problems_of_version(persona=of, version=version, at=app_now())


# --- what to compare --------------------------------------------------------------------


def _both(request: HttpRequest, of: drafting.Versioned, version: drafting.Version) -> tuple[Any, Any, Any]:
    """The older one, the newer one, and which was asked to be compared with: whichever of them it is."""
    other = _other(request, of, version)
    return *sorted((version, other), key=lambda each: each.number), other


def _other(request: HttpRequest, of: drafting.Versioned, version: drafting.Version) -> drafting.Version:
    """The version to compare with: the one that ?with= names, else the one in use, else the one before."""
    wanted = request.GET.get("with")
    if wanted is not None:
        return get_object_or_404(of.versions, number=_number(wanted) or 0)
    if of.version and of.version.number != version.number:
        return of.version
    return of.versions.filter(number__lt=version.number).order_by("-number").first() or version


def _numbers(of: drafting.Versioned, version: drafting.Version) -> list[int]:
    others = of.versions.exclude(pk=version.pk).order_by("-number")
    return list(others.values_list("number", flat=True)[:MOST_LISTED])


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None


def _posted(request: HttpRequest, name: str = "number") -> int:
    """The number of a version that a button carries; 0, which no version has, without one."""
    return _number(request.POST.get(name, "")) or 0
