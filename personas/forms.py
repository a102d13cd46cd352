"""What people type about personas and the tools they run."""

from collections.abc import Iterable, Sequence
from typing import Any

from django import forms

from integrations.forms_spec import Field
from integrations.registry import Tool
from personas import chains
from personas.models import PersonaVersion

MODEL_HINT = "As OpenRouter writes it, such as openai/gpt-5.4-mini."


class ModelField(forms.RegexField):
    """A model's id, or a pattern of several."""

    def __init__(self, **kwargs: Any) -> None:
        message = f"This is no model id. {MODEL_HINT}"
        super().__init__(chains.ENTRY, max_length=200, error_messages={"invalid": message}, **kwargs)
        self.widget.attrs.update(autocapitalize="none", spellcheck="false")


class ModelsField(forms.CharField):
    """Several models, one a line."""

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"rows": 3, "autocapitalize": "none", "spellcheck": "false"}
        super().__init__(max_length=2_000, widget=forms.Textarea(attrs=attrs), **kwargs)

    def clean(self, value: Any) -> list[str]:
        one = ModelField()
        return [one.clean(line.strip()) for line in super().clean(value).splitlines() if line.strip()]


class ChainForm(forms.Form):
    """The models that may be asked, and which of them first. Gives `chain` and `routing`."""

    model = ModelField(required=False, label="Model", help_text=f"{MODEL_HINT} With a rule below, also openai/*.")
    fallback_model = ModelField(
        required=False, label="Fallback model", help_text="Asked when the first one is rate limited or down."
    )
    more_models = ModelsField(
        required=False,
        label="More models",
        help_text=f"One a line, {chains.MOST_MODELS} in all. Asked after those above.",
    )
    routing = forms.ChoiceField(
        required=False,
        choices=chains.Routing.choices,
        label="Which is asked first",
        help_text="A rule picks from the models above, or from the whole catalog when there are none.",
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if "model" in self.fields and not self.errors:
            self._join(data)
        return data

    def _join(self, data: dict[str, Any]) -> None:
        first, second, more = (data.pop(name) for name in ("model", "fallback_model", "more_models"))
        if second and not first:
            self.add_error("model", "A fallback needs a first model.")
        data["chain"] = [entry for entry in (first, second, *more) if entry]
        problem = chains.problem_of(data["chain"], data["routing"] or chains.Routing.ORDER)
        if problem:
            self.add_error("more_models" if more else "fallback_model" if second else "model", problem)

    @staticmethod
    def fields_of(chain: Sequence[str]) -> dict[str, str]:
        """How the form shows a chain."""
        first, second, *more = [*chain, "", ""][: max(2, len(chain))]
        return {"model": first, "fallback_model": second, "more_models": "\n".join(more)}


class PersonaForm(ChainForm):
    """A persona: who it is and how it answers."""

    name = forms.CharField(max_length=60, label="Name")
    purpose = forms.CharField(max_length=120, required=False, label="Purpose", help_text="One line, shown in lists.")
    instructions = forms.CharField(
        max_length=100_000,
        required=False,
        label="Instructions",
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text="What the model is told before every prompt.",
    )
    temperature = forms.DecimalField(
        min_value=0,
        max_value=2,
        max_digits=3,
        decimal_places=2,
        required=False,
        label="Temperature",
        help_text="0 to 2. Empty: the model's own.",
    )
    max_tokens = forms.IntegerField(
        min_value=1,
        max_value=128_000,
        initial=1024,
        label="Longest answer",
        help_text="In tokens. Platform credits for this many are held while a call runs.",
    )

    field_order = ("name", "purpose", "instructions", "model", "fallback_model", "more_models", "routing")

    def clean_routing(self) -> str:
        return self.cleaned_data["routing"] or chains.Routing.ORDER

    @staticmethod
    def initial_of(persona_name: str, purpose: str, version: PersonaVersion) -> dict[str, Any]:
        """What the form shows of a version that is being edited or copied."""
        kept = {name: getattr(version, name) for name in ("instructions", "routing", "temperature", "max_tokens")}
        return {"name": persona_name, "purpose": purpose} | kept | ChainForm.fields_of(version.chain)


class ScopesForm(forms.Form):
    """Which tools of a connection a persona may use."""

    tools = forms.MultipleChoiceField(
        required=False,
        label="Allowed tools",
        widget=forms.CheckboxSelectMultiple,
        help_text="What is not ticked is off.",
    )

    def __init__(self, *args: Any, tools: Iterable[Tool], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["tools"].choices = [(tool.name, f"{tool.title}: {tool.summary}") for tool in tools]


class ToolForm(forms.Form):
    """A tool's arguments as simple fields; the tool's own model does the checking."""

    def __init__(self, *args: Any, spec: Iterable[Field], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        spec = list(spec)
        self.advanced = {field.name for field in spec if field.advanced}
        for field in spec:
            self.fields[field.name] = form_field(field)

    def shown(self) -> list[forms.BoundField]:
        """The fields that most people need."""
        return [field for field in self if field.name not in self.advanced]

    def folded(self) -> list[forms.BoundField]:
        """The rest, behind “More arguments”."""
        return [field for field in self if field.name in self.advanced]


def form_field(field: Field) -> forms.Field:
    """Return the form field that shows one argument of a tool."""
    shared = {"label": field.label, "help_text": field.help, "required": field.required}
    if field.kind in ("choice", "bool"):
        return forms.ChoiceField(choices=_choices(field), **shared)
    if field.kind == "list" and field.choices:
        options = [(choice, choice) for choice in field.choices]
        return forms.MultipleChoiceField(choices=options, widget=forms.CheckboxSelectMultiple, **shared)
    return forms.CharField(widget=_widget(field), initial=field.default if field.kind != "list" else None, **shared)


def _choices(field: Field) -> list[tuple[str, str]]:
    values = ("true", "false") if field.kind == "bool" else field.choices
    words = {"true": "Yes", "false": "No"} if field.kind == "bool" else {}
    unset = [] if field.required else [("", "Not set")]
    return [*unset, *((value, words.get(value, value)) for value in values)]


def _widget(field: Field) -> forms.Widget:
    attrs = {"placeholder": field.example} if field.example else {}
    if field.kind in ("textarea", "json", "list"):
        rows = {"textarea": 6, "json": 5, "list": 2}[field.kind]
        return forms.Textarea(attrs | {"rows": rows, "spellcheck": "false" if field.kind == "json" else "true"})
    if field.kind in ("integer", "number"):
        return forms.TextInput(attrs | {"inputmode": "decimal" if field.kind == "number" else "numeric"})
    return forms.TextInput(attrs)
