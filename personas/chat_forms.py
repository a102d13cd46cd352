"""What members type in a chat."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

from django import forms

from accounts.models import Team, User
from integrations import catalog
from integrations.fitting import Needs
from integrations.patterns import matches
from personas.candidates import NoCandidates, pick
from personas.chains import is_pattern, named
from personas.chat import uploads
from personas.models import Attachment, Persona, PersonaVersion

MOST_OFFERED = 40  # models in a list
MODEL_UNCHANGED = ("", "As the persona says")
NOT_COMPARED = ("", "Nothing")


class FileInput(forms.FileInput):
    """Takes several files at once."""

    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Several files, each checked as one."""

    widget = FileInput

    def clean(self, data: Any, initial: Any = None) -> list[Any]:
        given = data if isinstance(data, list | tuple) else [data] if data else []
        return [super(FilesField, self).clean(each, initial) for each in given]


class MessageForm(forms.Form):
    """
    Something to say. `models`: the chosen ones, none or one, or two that are compared.

    Files are kept as soon as they are good, so that a form with a mistake need not be given them again.
    """

    text = forms.CharField(required=False, strip=False, label="Message", widget=forms.Textarea(attrs={"rows": 2}))
    model = forms.ChoiceField(required=False, label="Model")
    compare = forms.ChoiceField(required=False, label="Compare with")
    files = FilesField(required=False, label="Files", help_text=f"{uploads.ACCEPTED}, {uploads.MOST_FILES} at most.")
    upload = forms.TypedMultipleChoiceField(required=False, coerce=UUID, widget=forms.MultipleHiddenInput)

    def __init__(self, *args: Any, team: Team, by: User, version: PersonaVersion | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.team, self.by = team, by
        self.kept: list[Attachment] = []
        self.sent: list[UUID] = []  # of them, those that a message has already: this form may come a second time
        self.marks: list[str] = []  # what the files are, the same for a form that is sent twice
        offered = [(model, model) for model in models_of(version)]
        self.fields["model"].choices = [MODEL_UNCHANGED, *offered]
        self.fields["compare"].choices = [NOT_COMPARED, *offered]
        self.fields["files"].widget.attrs["accept"] = ",".join([*uploads.PICTURES, uploads.PDF])
        if self.is_bound:
            self._find_kept()

    def _find_kept(self) -> None:
        """Files that came with an earlier try of this form."""
        ids = [id for text in self.data.getlist("upload")[: uploads.MOST_FILES] if (id := as_uuid(text))]
        found = list(self.team.attachments.filter(owner=self.by, pk__in=ids)) if ids else []
        self.kept = [each for each in found if each.message_id is None]
        self.sent = [each.pk for each in found if each.message_id]
        self.marks = [str(id) for id in ids]
        self.fields["upload"].choices = [(each.pk, each.name) for each in found]

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if data.get("files"):
            self._take(data["files"])
        model, other = data.get("model", ""), data.get("compare", "")
        if other and not model:
            self.add_error("model", "Choose the first model of the comparison too.")
        data["models"] = [each for each in (model, other) if each]
        return data

    def _take(self, files: Sequence[Any]) -> None:
        given = [(each.name, each.read()) for each in files]
        self.marks += [sha256(data).hexdigest() for _, data in given]
        try:
            taken = uploads.take_all(team=self.team, by=self.by, files=given)
        except uploads.BadFile as error:
            self.add_error("files", str(error))
        else:
            self.kept = [*self.kept, *taken]

    @property
    def uploads(self) -> list[UUID]:
        return [*self.sent, *(each.pk for each in self.kept)]


class NewChatForm(MessageForm):
    """The first message of a chat, and how the chat is kept."""

    temporary = forms.BooleanField(
        required=False,
        label="Temporary",
        help_text="What is said is destroyed when you end the chat, or an hour after the last message. The log keeps "
        "that each call took place, and its figures.",
    )


class RenameForm(forms.Form):
    """What a chat is called."""

    title = forms.CharField(max_length=120, label="Title")


def models_of(version: PersonaVersion | None) -> list[str]:
    """
    Return the models that a member may choose for one message: those that the persona's chain means.

    Without a chain any will do; then those are offered that its rule finds best.
    """
    if version is None:
        return []
    if not version.chain:
        return _best_by_rule(version)
    patterns = [entry for entry in version.chain if is_pattern(entry)]
    known = catalog.current().models.values() if patterns else ()
    meant = [facts.id for facts in known if not facts.is_gone and any(matches(facts.id, each) for each in patterns)]
    return list(dict.fromkeys([*named(version.chain), *sorted(meant)]))[:MOST_OFFERED]


def _best_by_rule(version: PersonaVersion) -> list[str]:
    try:
        picked = pick((), version.routing, catalog.current(), Needs(), lambda model: "")
    except NoCandidates:
        return []
    return [candidate.model for candidate in picked.fitting]


def personas_to_talk_to(team: Team, search: str = "") -> list[Persona]:
    """Return the team's personas that have a model, by name."""
    found = team.personas.live().select_related("version").order_by("name")
    if search:
        found = found.filter(name__icontains=search)
    return [persona for persona in found[:200] if persona.version and persona.version.has_models]


def as_uuid(text: str) -> UUID | None:
    """Read an id out of an address or a form; None when it is none."""
    try:
        return UUID(text)
    except ValueError:
        return None
