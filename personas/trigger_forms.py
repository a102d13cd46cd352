"""What members say when they make a trigger, checked. One field for each input that the flow declares."""

import re
from typing import Any

from django import forms

from personas.handing import LONGEST_PATH, WHOLE
from personas.models import Flow, Trigger

PATH = re.compile(r"\.|[^.\s]+(\.[^.\s]+)*")
BEFORE = [
    ("output", "What it gave"),
    ("state", "How it ended: succeeded or failed"),
    ("failure", "Why it failed"),
    ("flow", "Its name"),
    ("run", "The id of its run"),
]


class _Mapped(forms.Form):
    """How it is called, and from where each input is taken; one that is left empty has its default."""

    name = forms.CharField(max_length=60, required=False, label="Name", help_text="Tells it from others in lists.")

    def __init__(self, *args: Any, flow: Flow, trigger: Trigger | None = None, **kwargs: Any):
        super().__init__(*args, initial=_said(trigger) if trigger else {}, **kwargs)
        self.flow = flow
        self.inputs = {f"input_{each['name']}": each["name"] for each in flow.version.inputs}
        for field, name in self.inputs.items():
            self.fields[field] = self.mapped(name)

    def mapped(self, name: str) -> forms.Field:
        raise NotImplementedError

    @property
    def mapping(self) -> dict[str, str]:
        """As `handing.handed` takes it."""
        given = {name: self.cleaned_data[field] for field, name in self.inputs.items()}
        return {name: path for name, path in given.items() if path}


def _said(trigger: Trigger) -> dict[str, Any]:
    inputs = {f"input_{name}": path for name, path in trigger.mapping.items()}
    return {"name": trigger.name, "outcome": trigger.outcome} | inputs


class WebhookForm(_Mapped):
    """From which field of a request's body each input is taken."""

    def mapped(self, name: str) -> forms.Field:
        return forms.RegexField(
            rf"^(?:{PATH.pattern})\Z",
            max_length=LONGEST_PATH,
            required=False,
            label=f"Field for the input {name}",
            help_text=f"Names with dots between them, such as order.items.0.title; {WHOLE} is the whole body.",
            error_messages={"invalid": "Write names with dots between them, without spaces."},
            widget=forms.TextInput({"spellcheck": "false", "autocapitalize": "none"}),
        )


class AfterForm(_Mapped):
    """After which flow, when, and what of it becomes an input."""

    after = forms.ModelChoiceField(Flow.objects.none(), to_field_name="slug", label="After the flow")
    outcome = forms.ChoiceField(choices=Trigger.Outcome.choices, label="When it", initial=Trigger.Outcome.SUCCEEDED)

    def __init__(self, *args: Any, flow: Flow, trigger: Trigger | None = None, **kwargs: Any):
        super().__init__(*args, flow=flow, trigger=trigger, **kwargs)
        others = flow.team.flows.filter(archived_at=None).exclude(pk=flow.pk)
        self.fields["after"].queryset = others.order_by("name")
        if trigger:
            del self.fields["after"]

    def mapped(self, name: str) -> forms.Field:
        return forms.ChoiceField(
            choices=[("", "Its default"), *BEFORE], required=False, label=f"What the input {name} gets"
        )
