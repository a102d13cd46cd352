"""What people type about personas and the tools they run."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from django import forms

from integrations.forms_spec import Field
from integrations.registry import Tool
from integrations.strict_json import NotPlainJson, load_object
from personas import chains
from personas.models import FlowVersion, Persona, PersonaVersion
from personas.output_schema import MOST_SCHEMA, problem_of_schema
from personas.plain_text import problem_of_line, problem_of_text

MODEL_HINT = "As OpenRouter writes it, such as openai/gpt-5.4-mini."
LEFT_OUT = ("format", "most_steps", "most_tool_calls", "most_seconds", "most_credits")


def is_line(text: str) -> None:
    """Refuse what no name can be shown with."""
    if problem := problem_of_line(text):
        raise forms.ValidationError(problem)


def is_text(text: str) -> None:
    """Refuse characters that nobody sees and that a file of the persona could not carry."""
    if problem := problem_of_text(text):
        raise forms.ValidationError(problem)


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


class SchemaField(forms.CharField):
    """A JSON Schema of an object, as text."""

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"rows": 6, "spellcheck": "false", "autocapitalize": "none"}
        super().__init__(max_length=MOST_SCHEMA, widget=forms.Textarea(attrs=attrs), **kwargs)

    def clean(self, value: Any) -> dict[str, Any] | None:
        text = super().clean(value)
        if not text:
            return None
        try:
            schema = load_object(text)
        except NotPlainJson as error:
            raise forms.ValidationError(" ".join(filter(None, (str(error), error.hint)))) from None
        if problem := problem_of_schema(schema):
            raise forms.ValidationError(problem)
        return schema


@dataclass(frozen=True, slots=True)
class FoldedFields:
    """Fields behind a heading; unfolded where something is said or wrong."""

    title: str
    fields: list[forms.BoundField]

    @property
    def is_open(self) -> bool:
        return any(field.errors for field in self.fields)


class SeenForm(forms.Form):
    """A form that makes a version, and knows the newest one that was there when it was opened."""

    seen = forms.IntegerField(required=False, min_value=1, max_value=1_000_000_000, widget=forms.HiddenInput)

    def seeing(self, newest: PersonaVersion | FlowVersion) -> Self:
        """The same form, typed text and all, made on top of a newer version."""
        data = self.data.copy()
        data["seen"] = str(newest.number)
        return type(self)(data)


class PersonaForm(ChainForm, SeenForm):
    """A persona: who it is and how it answers."""

    name = forms.CharField(
        max_length=60,
        validators=[is_line],
        label="Name",
        help_text="Name and purpose are no part of a version: they change at once.",
    )
    purpose = forms.CharField(
        max_length=120, required=False, validators=[is_line], label="Purpose", help_text="One line, shown in lists."
    )
    instructions = forms.CharField(
        max_length=100_000,
        validators=[is_text],
        required=False,
        label="Instructions",
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text="What the model is told before every prompt.",
    )
    max_tokens = forms.IntegerField(
        min_value=1,
        max_value=128_000,
        initial=1024,
        label="Longest answer",
        help_text="In tokens. Platform credits for this many are held while a call runs.",
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
    top_p = forms.DecimalField(
        min_value=Decimal("0.01"),
        max_value=1,
        max_digits=3,
        decimal_places=2,
        required=False,
        label="Top P",
        help_text="0.01 to 1: only the likeliest words up to this share. Change it or the temperature, not both.",
    )
    reasoning_effort = forms.ChoiceField(
        choices=[("", "The model's own"), *PersonaVersion.Effort.choices],
        required=False,
        label="Reasoning effort",
        help_text="How long it thinks before it answers. Thinking counts as tokens of the answer.",
    )
    output_schema = SchemaField(
        required=False,
        label="Form of the answer",
        help_text=(
            "A JSON Schema of an object. Empty: free text. Most providers want “additionalProperties”: false "
            "and every property required."
        ),
    )
    format = forms.ChoiceField(
        choices=PersonaVersion.Format.choices,
        required=False,
        label="Models are spoken to by",
        help_text="Messages suit Anthropic's models: they read PDFs and think at length that way. "
        "The tool of that name must be lent: Create chat completion, or Create message.",
    )
    knows_time = forms.BooleanField(
        required=False, label="Is told the time", help_text="In a chat: date and time in the member's zone."
    )
    knows_member = forms.BooleanField(
        required=False, label="Is told who asks", help_text="In a chat: the member's name and role."
    )
    most_steps = forms.IntegerField(
        min_value=1, max_value=20, required=False, label="Answers in one turn", help_text="1 to 20."
    )
    most_tool_calls = forms.IntegerField(
        min_value=0, max_value=20, required=False, label="Tool calls in one turn", help_text="0 to 20."
    )
    most_seconds = forms.IntegerField(
        min_value=10, max_value=600, required=False, label="Seconds of one turn", help_text="10 to 600."
    )
    most_credits = forms.IntegerField(
        min_value=1,
        max_value=1_000_000,
        required=False,
        label="Platform credits of one turn",
        help_text="What a turn of a chat may take before it is ended.",
    )
    field_order = ("name", "purpose", "instructions", "model", "fallback_model", "more_models", "routing", "max_tokens")

    # What stands behind a heading of its own, folded.
    FOLDED = (
        ("How it answers", ("temperature", "top_p", "reasoning_effort", "output_schema", "format")),
        ("What it knows", ("knows_time", "knows_member")),
        ("Limits of one turn in a chat", ("most_steps", "most_tool_calls", "most_seconds", "most_credits")),
    )

    def clean_routing(self) -> str:
        return self.cleaned_data["routing"] or chains.Routing.ORDER

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        for name in LEFT_OUT:  # a form may leave these out: they stand as a new persona has them
            if name in data and data[name] in (None, ""):
                data[name] = PersonaVersion._meta.get_field(name).get_default()
        return data

    @property
    def said(self) -> dict[str, Any]:
        """What was typed, as the actions take it."""
        return {name: value for name, value in self.cleaned_data.items() if name != "seen"}

    @property
    def shown(self) -> list[forms.BoundField]:
        """What everybody needs."""
        folded = {name for _, names in self.FOLDED for name in names}
        return [field for field in self.visible_fields() if field.name not in folded]

    @property
    def folded(self) -> list[FoldedFields]:
        """The rest, under a heading each."""
        return [FoldedFields(title, [self[name] for name in names]) for title, names in self.FOLDED]

    @staticmethod
    def initial_of(persona: Persona, version: PersonaVersion) -> dict[str, Any]:
        """What the form shows of a version that is being edited or copied."""
        says = version.says
        chain, schema = says.pop("chain"), says["output_schema"]
        says["output_schema"] = "" if schema is None else json.dumps(schema, indent=2, ensure_ascii=False)
        return {"name": persona.name, "purpose": persona.purpose} | says | ChainForm.fields_of(chain)


class DuplicateForm(forms.Form):
    """A copy of a persona."""

    name = forms.CharField(max_length=60, validators=[is_line], label="Name of the copy")
    with_grants = forms.BooleanField(
        required=False,
        label="Lend it the same connections",
        help_text="With the same tools and limits. Otherwise the copy may use nothing; its page says what it lacks.",
    )


class ImportForm(forms.Form):
    """The text of an exported persona."""

    text = forms.CharField(
        max_length=1_048_576,
        label="Text of the file",
        widget=forms.Textarea(attrs={"rows": 12, "spellcheck": "false", "autocapitalize": "none"}),
        help_text="The whole JSON file, as it was exported.",
    )


class FlowImportForm(ImportForm):
    """The text of an exported flow."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["text"].help_text = "The whole YAML file, as it was exported."


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
