"""What becomes of a persona's versions: saved as a draft, published, thrown away, taken up again."""

from datetime import datetime
from typing import Any

from django.db import transaction

from accounts.models import User
from audit.actions import Actor, record
from audit.clock import app_now
from personas import checking
from personas.models import Persona, PersonaVersion


class IsArchived(Exception):
    """The persona is archived, so nothing about it changes until somebody brings it back."""


class Outdated(Exception):
    """Somebody saved a version since this one was opened. `newest` is theirs; nothing was saved."""

    def __init__(self, newest: PersonaVersion) -> None:
        super().__init__(f"Version {newest.number} was saved meanwhile.")
        self.newest = newest


class NotTheDraft(Exception):
    """That version is not the draft, or not any more."""


class NothingElse(Exception):
    """The draft is all that this persona has: publish or change it, or archive the persona."""


@transaction.atomic
def save_draft(
    *, persona: Persona, name: str, purpose: str, by: User, seen: int | None = None, **says: Any
) -> PersonaVersion:
    """
    Write the persona's next version without putting it to use. Name and purpose count at once.

    `says`: fields of PersonaVersion.SAYS; those left out take their defaults. `seen` is the number of
    the newest version when the editor was opened: another one since then raises Outdated, unless it
    says the same. Raises IsArchived.
    """
    now = app_now()
    persona = locked(persona)
    if again := _same_again(persona, seen, {"name": name, "purpose": purpose}, says):
        return again
    version = add_version(persona, by, now, says)
    persona.name, persona.purpose, persona.draft = name, purpose, version
    persona.save(update_fields=["name", "purpose", "draft"])
    tell("drafted", persona, by, now, version=version.number)
    return version


@transaction.atomic
def save_and_publish(
    *, persona: Persona, name: str, purpose: str, by: User, seen: int | None = None, **says: Any
) -> PersonaVersion:
    """Write the persona's next version and put it to use, in the place of a draft. Takes and raises as save_draft."""
    now = app_now()
    persona = locked(persona)
    again = _same_again(persona, seen, {"name": name, "purpose": purpose}, says)
    if again and again.pk == persona.version_id:
        return again
    version = again or add_version(persona, by, now, says)
    persona.name, persona.purpose = name, purpose
    persona.save(update_fields=["name", "purpose"])
    put_to_use(persona, version, by, now)
    tell("saved", persona, by, now, version=version.number)
    return version


@transaction.atomic
def publish(*, persona: Persona, number: int, by: User) -> PersonaVersion:
    """Put the draft of this number to use. Raises NotTheDraft when it is another by now, and IsArchived."""
    now = app_now()
    persona = locked(persona)
    version = _draft(persona, number)
    put_to_use(persona, version, by, now)
    tell("published", persona, by, now, version=number)
    return version


@transaction.atomic
def discard(*, persona: Persona, number: int, by: User) -> None:
    """
    Give up the draft of this number; it stays in the history.

    Raises NotTheDraft, NothingElse where no version is in use, and IsArchived.
    """
    now = app_now()
    persona = locked(persona)
    _draft(persona, number)
    if persona.version is None:
        raise NothingElse
    persona.draft = None
    persona.save(update_fields=["draft"])
    tell("draft_discarded", persona, by, now, version=number)


@transaction.atomic
def restore(*, persona: Persona, number: int, by: User, seen: int | None = None) -> PersonaVersion:
    """
    Write what an old version says as the next one, a draft. `seen` as in save_draft.

    Raises PersonaVersion.DoesNotExist, Outdated and IsArchived.
    """
    now = app_now()
    persona = locked(persona)
    old = persona.versions.get(number=number)
    if again := _same_again(persona, seen, {}, old.says):
        return again
    version = add_version(persona, by, now, old.says)
    persona.draft = version
    persona.save(update_fields=["draft"])
    tell("restored", persona, by, now, version=version.number, source=number)
    return version


# --- shared -----------------------------------------------------------------------------


def locked(persona: Persona) -> Persona:
    """Return the persona as it is now, locked until the transaction ends. Raises IsArchived."""
    found = Persona.objects.select_for_update(no_key=True, of=("self",)).select_related("team", "version", "draft")
    persona = found.get(pk=persona.pk)
    if persona.archived_at:
        raise IsArchived(persona.name)
    return persona


def newest(persona: Persona) -> PersonaVersion:
    """Return the version that was saved last, in use or not."""
    return persona.versions.select_related("created_by").latest("number")


def add_version(persona: Persona, by: User, at: datetime, says: dict[str, Any]) -> PersonaVersion:
    """Write the next version of a persona that the caller has locked, or has just made."""
    number = next_number(persona.versions)
    return PersonaVersion.objects.create(
        team=persona.team, persona=persona, number=number, created_by=by, created_at=at, **says
    )


def next_number(versions: Any) -> int:
    """Return the number of the version that comes next."""
    return (versions.order_by("-number").values_list("number", flat=True).first() or 0) + 1


def tell(verb: str, persona: Persona, by: User, at: datetime, **details: Any) -> None:
    """Write what a member did to a persona in the log."""
    record(
        f"personas.persona.{verb}",
        at=at,
        team_id=persona.team_id,
        actor=Actor.user(by),
        target=f"persona:{persona.pk}",
        target_name=persona.name,
        details=details,
    )


def _same_again(
    persona: Persona, seen: int | None, called: dict[str, str], says: dict[str, Any]
) -> PersonaVersion | None:
    """The newest version where it came after the one seen and says just the same: a form sent twice."""
    if seen is None:
        return None
    last = newest(persona)
    if last.number == seen:
        return None
    same = all(getattr(persona, name) == value for name, value in called.items())
    if same and all(getattr(last, name) == value for name, value in says.items()):
        return last
    raise Outdated(last)


def _draft(persona: Persona, number: int) -> PersonaVersion:
    if persona.draft is None or persona.draft.number != number:
        raise NotTheDraft
    return persona.draft


def put_to_use(persona: Persona, version: PersonaVersion, by: User, at: datetime) -> None:
    """Let a version be the one in use, in the place of a draft too. The caller holds the persona and tells the log."""
    PersonaVersion.objects.filter(pk=version.pk, published_at=None).update(published_at=at)
    version.refresh_from_db(fields=["published_at"])
    persona.version, persona.draft = version, None
    persona.save(update_fields=["version", "draft"])
    checking.check_persona(persona=persona, at=at, actor=Actor.user(by))
