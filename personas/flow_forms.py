"""The flow builder without scripts: stages as numbered fieldsets, moved and added by buttons."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from django import forms

from personas import stages
from personas.forms import SeenForm
from personas.referring import usable_in
from personas.stage_forms import KINDS, StageForm, initial, kind_of

INPUT_LINE = re.compile(r"(?P<name>[a-z][a-z0-9_]{0,39})\s*(?:=\s*(?P<default>.*))?\Z", re.DOTALL)


class FlowForm(SeenForm):
    """What a flow is called, and what a run of it may be given."""

    name = forms.CharField(max_length=60, label="Name")
    purpose = forms.CharField(max_length=120, required=False, label="Purpose", help_text="One line, shown in lists.")
    inputs = forms.CharField(
        required=False,
        max_length=stages.MAX_INPUT,
        label="Inputs",
        help_text="What a run may be given, one a line: topic = the default. Stages refer to {{ input.topic }}.",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "autocapitalize": "none"}),
    )

    def clean_inputs(self) -> list[dict[str, str]]:
        lines = [line.strip() for line in self.cleaned_data["inputs"].splitlines() if line.strip()]
        try:
            return [each.model_dump() for each in stages.read_inputs([_input(line) for line in lines])]
        except stages.BadInput as error:
            raise forms.ValidationError(str(error)) from None


def _input(line: str) -> dict[str, str]:
    found = INPUT_LINE.match(line)
    if not found:
        raise stages.BadInput(f"“{line[:60]}” is no input. Write a name of small letters, then = and its default.")
    return {"name": found["name"], "default": (found["default"] or "").strip()}


def inputs_as_text(inputs: list[dict[str, str]]) -> str:
    """How the form shows the inputs of a flow."""
    return "\n".join(f"{each['name']} = {each['default']}" if each.get("default") else each["name"] for each in inputs)


class Builder:
    """The stages of a flow on their way through a form: shown, then checked when `posted`."""

    def __init__(
        self, stages: list[dict[str, Any]], *, personas: list, tools: list, posted: bool, inputs: str = ""
    ) -> None:
        choices = {"personas": personas, "tools": tools}
        shown = [{"name": stage.get("name", ""), "kind": kind_of(stage)} for stage in stages]
        self.forms = [
            _stage_form(position, stage, posted, choices | {"usable": partial(_usable, shown, position, inputs)})
            for position, stage in enumerate(stages)
        ]

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
        return [form.stage() for form in self.forms]


def _usable(stages: list[dict[str, str]], position: int, inputs: str, field: str) -> list[str]:
    return usable_in(stages, position, field, inputs)


def _stage_form(position: int, stage: dict[str, Any], posted: bool, choices: dict[str, Any]) -> StageForm:
    prefix = f"stage-{position}"
    data = {f"{prefix}-{name}": value for name, value in stage.items()} if posted else None
    return StageForm(data, prefix=prefix, initial=initial(stage), kind=kind_of(stage), **choices)


def posted_stages(data: Mapping[str, str]) -> list[dict[str, str]]:
    """
    Return what a builder form posted, stage by stage, under names without their number.

    Lines end as they do in a stage: browsers end them otherwise, and a stage that nobody touched would be another one.
    """
    prefixes = [f"stage-{position}-" for position in range(_number(data.get("stages", "")))]
    lines = {name: value.replace("\r\n", "\n") for name, value in data.items()}
    return [
        {name.removeprefix(prefix): lines[name] for name in lines if name.startswith(prefix)} for prefix in prefixes
    ]


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
