"""What one stage is tried with: a text for each thing that it refers to."""

from collections.abc import Mapping
from typing import Any

from django import forms

from personas import trials
from personas.models import FlowVersion


class _Text(forms.CharField):
    """Lines end as they do in a stage: browsers end them otherwise."""

    def to_python(self, value: Any) -> str:
        return super().to_python(value).replace("\r\n", "\n")


class TrialForm(forms.Form):
    """A field for each reference of a stage. What is left empty is an empty text."""

    def __init__(self, *args: Any, version: FlowVersion, number: int, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.references = trials.referred(version.stages[number - 1])
        for name in self.references:
            self.fields[_field(name)] = _Text(
                label=_label(name),
                max_length=trials.LONGEST,
                required=False,
                strip=False,
                widget=forms.Textarea({"rows": 4}),
            )

    @staticmethod
    def label_of(reference: str) -> str:
        """How the page names a reference."""
        return _label(reference)

    @staticmethod
    def initial_of(values: Mapping[str, str]) -> dict[str, str]:
        """The first values of fields, from texts by reference."""
        return {_field(name): text for name, text in values.items()}

    @property
    def pinned(self) -> dict[str, str]:
        """What was written, by reference."""
        return {name: self.cleaned_data[_field(name)] for name in self.references}


def _field(reference: str) -> str:
    return reference.replace(".", "-")


def _label(reference: str) -> str:
    kind, name = reference.split(".")[:2]
    return f"Input {name}" if kind == "input" else f"What stage {name} gives"
