"""What becomes of the versions of a persona or a flow: saved as a draft, published, thrown away, taken up again."""

from datetime import datetime
from typing import Any, TypeVar

from django.db import transaction

from accounts.models import User
from audit.actions import Actor, record
from audit.clock import app_now
from personas import checking, stages
from personas.models import Flow, FlowVersion, Persona, PersonaVersion

Versioned = Persona | Flow
Version = PersonaVersion | FlowVersion
Of = TypeVar("Of", Persona, Flow)


class IsArchived(Exception):
    """It is archived, so nothing about it changes until somebody brings it back."""


class Outdated(Exception):
    """Somebody saved a version since this one was opened. `newest` is theirs; nothing was saved."""

    def __init__(self, newest: Version) -> None:
        super().__init__(f"Version {newest.number} was saved meanwhile.")
        self.newest = newest


class NotTheDraft(Exception):
    """That version is not the draft, or not any more."""


class NothingElse(Exception):
    """The draft is all that there is: publish or change it, or archive the whole."""


@transaction.atomic
def save_draft(*, of: Versioned, name: str, purpose: str, by: User, seen: int | None = None, **says: Any) -> Version:
    """
    Write the next version without putting it to use. Name and purpose count at once.

    `says`: fields of its version's SAYS; those left out take their defaults. `seen` is the number of
    the newest version when the editor was opened: another one since then raises Outdated, unless it
    says the same. Raises IsArchived.
    """
    now = app_now()
    of = locked(of)
    if again := _same_again(of, seen, {"name": name, "purpose": purpose}, says):
        return again
    version = add_version(of, by, now, says)
    of.name, of.purpose, of.draft = name, purpose, version
    of.save(update_fields=["name", "purpose", "draft"])
    tell("drafted", of, by, now, version=version.number)
    return version


@transaction.atomic
def save_and_publish(
    *, of: Versioned, name: str, purpose: str, by: User, seen: int | None = None, **says: Any
) -> Version:
    """Write the next version and put it to use, in the place of a draft. Takes and raises as save_draft."""
    now = app_now()
    of = locked(of)
    again = _same_again(of, seen, {"name": name, "purpose": purpose}, says)
    if again and again.pk == of.version_id:
        return again
    version = again or add_version(of, by, now, says)
    of.name, of.purpose = name, purpose
    of.save(update_fields=["name", "purpose"])
    put_to_use(of, version, by, now)
    tell("saved", of, by, now, version=version.number)
    return version


@transaction.atomic
def publish(*, of: Versioned, number: int, by: User) -> Version:
    """
    Put the draft of this number to use. Raises NotTheDraft when it is another by now, and IsArchived.

    Raises BadStage for a stage of a flow whose persona is still to be chosen, or is gone.
    """
    now = app_now()
    of = locked(of)
    version = _draft(of, number)
    if isinstance(version, FlowVersion):
        checking.check_personas(of.team, stages.read_stages(version.stages, version.inputs))
    put_to_use(of, version, by, now)
    tell("published", of, by, now, version=number)
    return version


@transaction.atomic
def discard(*, of: Versioned, number: int, by: User) -> None:
    """
    Give up the draft of this number; it stays in the history.

    Raises NotTheDraft, NothingElse where no version is in use, and IsArchived.
    """
    now = app_now()
    of = locked(of)
    _draft(of, number)
    if of.version is None:
        raise NothingElse
    of.draft = None
    of.save(update_fields=["draft"])
    tell("draft_discarded", of, by, now, version=number)


@transaction.atomic
def restore(*, of: Versioned, number: int, by: User, seen: int | None = None) -> Version:
    """
    Write what an old version says as the next one, a draft. `seen` as in save_draft.

    Raises DoesNotExist, Outdated and IsArchived.
    """
    now = app_now()
    of = locked(of)
    old = of.versions.get(number=number)
    if again := _same_again(of, seen, {}, old.says):
        return again
    version = add_version(of, by, now, old.says)
    of.draft = version
    of.save(update_fields=["draft"])
    tell("restored", of, by, now, version=version.number, source=number)
    return version


# --- shared -----------------------------------------------------------------------------


def locked(of: Of) -> Of:
    """Return it as it is now, locked until the transaction ends. Raises IsArchived."""
    rows = type(of).objects.select_for_update(no_key=True, of=("self",)).select_related("team", "version", "draft")
    found = rows.get(pk=of.pk)
    if found.archived_at:
        raise IsArchived(found.name)
    return found


def newest(of: Versioned) -> Version:
    """Return the version that was saved last, in use or not."""
    return of.versions.select_related("created_by").latest("number")


def add_version(of: Versioned, by: User, at: datetime, says: dict[str, Any]) -> Version:
    """Write the next version of what the caller has locked, or has just made."""
    number = next_number(of.versions)
    return of.versions.create(team=of.team, number=number, created_by=by, created_at=at, **says)


def next_number(versions: Any) -> int:
    """Return the number of the version that comes next."""
    return (versions.order_by("-number").values_list("number", flat=True).first() or 0) + 1


def tell(verb: str, of: Versioned, by: User, at: datetime, **details: Any) -> None:
    """Write what a member did to it in the log."""
    kind = type(of)._meta.model_name
    record(
        f"personas.{kind}.{verb}",
        at=at,
        team_id=of.team_id,
        actor=Actor.user(by),
        target=f"{kind}:{of.pk}",
        target_name=of.name,
        details=details,
    )


def _same_again(of: Versioned, seen: int | None, called: dict[str, str], says: dict[str, Any]) -> Version | None:
    """The newest version where it came after the one seen and says just the same: a form sent twice."""
    if seen is None:
        return None
    last = newest(of)
    if last.number == seen:
        return None
    same = all(getattr(of, name) == value for name, value in called.items())
    if same and all(getattr(last, name) == value for name, value in says.items()):
        return last
    raise Outdated(last)


def _draft(of: Versioned, number: int) -> Version:
    if of.draft is None or of.draft.number != number:
        raise NotTheDraft
    return of.draft


def put_to_use(of: Versioned, version: Version, by: User, at: datetime) -> None:
    """Let a version be the one in use, in the place of a draft too. The caller holds it and tells the log."""
    type(version).objects.filter(pk=version.pk, published_at=None).update(published_at=at)
    version.refresh_from_db(fields=["published_at"])
    of.version, of.draft = version, None
    of.save(update_fields=["version", "draft"])
    if isinstance(of, Flow):
        checking.check_flow(flow=of, at=at, actor=Actor.user(by))
    else:
        checking.check_persona(persona=of, at=at, actor=Actor.user(by))
