"""The flow builder without scripts: stages as numbered fieldsets, moved and added by buttons."""

import json
from collections.abc import Mapping
from typing import Any

from django import forms

from integrations.strict_json import NotPlainJson, load_object
from personas.chains import Routing, with_chain
from personas.forms import MODEL_HINT, ChainForm

KINDS = {"prompt": "Prompt", "tool": "Tool", "combine": "Combine"}
FIELDS = {
    "prompt": ["name", "persona", "template", "model", "fallback_model", "more_models", "routing"],
    "tool": ["name", "persona", "tool", "arguments"],
    "combine": ["name", "template"],
}


class FlowForm(forms.Form):
    """What a flow is called."""

    name = forms.CharField(max_length=60, label="Name")
    purpose = forms.CharField(max_length=120, required=False, label="Purpose", help_text="One line, shown in lists.")


class StageForm(ChainForm):
    """One stage; only the fields of its kind are there."""

    kind = forms.ChoiceField(choices=list(KINDS.items()), widget=forms.HiddenInput)
    name = forms.RegexField(
        r"^[a-z][a-z0-9_]{0,39}\Z",
        max_length=40,
        label="Stage name",
        help_text="Small letters, digits and _; later stages refer to it.",
        error_messages={"invalid": "Use small letters, digits and _, beginning with a letter."},
    )
    persona = forms.ChoiceField(label="Persona")
    tool = forms.ChoiceField(label="Tool")
    template = forms.CharField(
        max_length=100_000,
        label="Text",
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="May refer to {{ stage.name.output }} of an earlier stage and to {{ input.time }}.",
    )
    routing = forms.ChoiceField(
        required=False,
        choices=[("", "No rule of its own"), *Routing.choices],
        label="Which is asked first",
        help_text="Left alone: the models above in their order, or as the persona does where none is named.",
    )
    field_order = ("kind", "name", "persona", "tool", "template", "model", "fallback_model", "more_models", "routing")
    arguments = forms.CharField(
        required=False,
        max_length=100_000,
        label="Arguments",
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        help_text='One JSON object, such as {"q": "claude"}. Texts in it may refer to earlier stages.',
    )

    def __init__(self, *args: Any, kind: str, personas: list, tools: list, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stage_kind = kind if kind in KINDS else "prompt"
        self.fields["persona"].choices = personas
        self.fields["tool"].choices = tools
        self.fields["model"].help_text = f"Empty: the persona's own. {MODEL_HINT}"
        for name in set(self.fields) - {"kind", *FIELDS[self.stage_kind]}:
            del self.fields[name]

    @property
    def title(self) -> str:
        return KINDS[self.stage_kind]

    def clean_arguments(self) -> dict[str, Any]:
        text = self.cleaned_data["arguments"].strip()
        try:
            return load_object(text) if text else {}
        except NotPlainJson as error:
            raise forms.ValidationError(str(error)) from None


class Builder:
    """The stages of a flow on their way through a form: shown, then checked when `posted`."""

    def __init__(self, stages: list[dict[str, Any]], *, personas: list, tools: list, posted: bool) -> None:
        choices = {"personas": personas, "tools": tools}
        self.forms = [_stage_form(position, stage, posted, choices) for position, stage in enumerate(stages)]

    def is_valid(self) -> bool:
        """Check every stage, so that all errors are shown at once."""
        return not sum(not form.is_valid() for form in self.forms)

    def problems(self) -> list[str]:
        """What is wrong with the stages, for the summary on top of the page. Call is_valid first."""
        return [
            f"Stage {number}, {form.fields[name].label}: {error}"
            for number, form in enumerate(self.forms, start=1)
            for name, errors in form.errors.items()
            for error in errors
        ]

    def stages(self) -> list[dict[str, Any]]:
        """The stages as a flow version keeps them. Call is_valid first."""
        return [form.cleaned_data for form in self.forms]


def _stage_form(position: int, stage: dict[str, Any], posted: bool, choices: dict[str, list]) -> StageForm:
    prefix = f"stage-{position}"
    data = {f"{prefix}-{name}": value for name, value in stage.items()} if posted else None
    return StageForm(data, prefix=prefix, initial=_initial(stage), kind=stage.get("kind", ""), **choices)


def _initial(stage: Mapping[str, Any]) -> dict[str, Any]:
    """What the form shows: stored arguments as text, typed ones as they are."""
    arguments = stage.get("arguments") or ""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, indent=2, ensure_ascii=False)
    return ChainForm.fields_of(with_chain(stage).get("chain", ())) | dict(stage) | {"arguments": text}


def posted_stages(data: Mapping[str, str]) -> list[dict[str, str]]:
    """Return what a builder form posted, stage by stage, under names without their number."""
    count = _number(data.get("stages", ""))
    prefixes = [f"stage-{position}-" for position in range(count)]
    return [{name.removeprefix(prefix): data[name] for name in data if name.startswith(prefix)} for prefix in prefixes]


def changed(stages: list[dict[str, str]], do: str) -> list[dict[str, str]] | None:
    """
    Apply a builder button to the stages: add-KIND, remove-N, up-N or down-N, N counting from 0.

    Returns None for a button that changes no order, such as the one that saves.
    """
    verb, _, what = do.partition("-")
    if verb == "add" and what in KINDS:
        return [*stages, {"kind": what, "name": f"stage_{len(stages) + 1}"}]
    place = _number(what)
    if verb not in ("remove", "up", "down") or not what.isdecimal() or place >= len(stages):
        return None
    kept = list(stages)
    stage = kept.pop(place)
    if verb != "remove":
        kept.insert(max(0, place + (-1 if verb == "up" else 1)), stage)
    return kept


def _number(text: str) -> int:
    """A number of stages, at most 50; what is no number is none. Long digits are not worth reading."""
    return min(int(text[:3]) if text.isdecimal() else 0, 50)
