"""The form of one stage of a flow, for each kind, and what it makes of a stored stage and back."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from django import forms

from integrations.strict_json import NotPlainJson, load_object
from personas.chains import Routing, with_chain
from personas.forms import MODEL_HINT, ChainForm, FoldedFields, SchemaField
from personas.referring import TEXTS, Refers, refers
from personas.stages import MOST_AT_ONCE, MOST_ITEMS

KINDS = {
    "prompt": "Prompt",
    "tool": "Tool",
    "combine": "Combine",
    "approve": "Approve",
    "each_prompt": "Prompt for each",
    "each_tool": "Tool for each",
}
PROMPT = ["persona", "template", "model", "fallback_model", "more_models", "routing", "output_schema"]
TOOL = ["persona", "tool", "arguments"]
LIST = ["over", "most", "at_once"]
FIELDS = {
    "prompt": PROMPT,
    "tool": TOOL,
    "combine": ["template"],
    "approve": ["text"],
    "each_prompt": [*LIST, *PROMPT],
    "each_tool": [*LIST, *TOOL],
}
WORK = ["persona", "template", "chain", "routing", "output_schema", "tool", "arguments"]
BOUNDS = ["when_test", "when_stage", "when_value", "retries", "timeout", "most_usd"]
TESTS = [
    ("", "Always"),
    ("equals", "An output is"),
    ("contains", "An output contains"),
    ("above", "An output is a number above"),
    ("below", "An output is a number below"),
    ("done", "A stage was done"),
    ("failed", "A stage failed: on an error"),
]


class StageForm(ChainForm):
    """One stage; only the fields of its kind are there. `usable` says what one of its fields may refer to."""

    kind = forms.ChoiceField(choices=list(KINDS.items()), widget=forms.HiddenInput)
    name = forms.RegexField(
        r"^[a-z][a-z0-9_]{0,39}\Z",
        max_length=40,
        label="Stage name",
        help_text="Small letters, digits and _; later stages refer to it.",
        error_messages={"invalid": "Use small letters, digits and _, beginning with a letter."},
    )
    over = forms.CharField(
        max_length=100_000,
        label="List",
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="A JSON list or lines, such as {{ stage.name.output }}. Below, {{ item }} is one of them.",
    )
    most = forms.IntegerField(
        min_value=1, max_value=MOST_ITEMS, label="Items at most", help_text=f"Up to {MOST_ITEMS}."
    )
    at_once = forms.IntegerField(min_value=1, max_value=MOST_AT_ONCE, label="Items at once")
    persona = forms.ChoiceField(label="Persona")
    tool = forms.ChoiceField(label="Tool")
    template = forms.CharField(
        max_length=100_000,
        label="Text",
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="May refer to {{ stage.name.output }} of an earlier stage, and to {{ input.time }} or another input.",
    )
    text = forms.CharField(
        max_length=100_000,
        label="Text for whoever decides",
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="The run waits until a member approves or refuses. May refer to outputs of earlier stages.",
    )
    routing = forms.ChoiceField(
        required=False,
        choices=[("", "No rule of its own"), *Routing.choices],
        label="Which is asked first",
        help_text="Left alone: the models above in their order, or as the persona does where none is named.",
    )
    output_schema = SchemaField(
        required=False,
        label="Form of the answer",
        help_text="A JSON Schema of an object. An answer that does not fit counts as a failed try.",
    )
    arguments = forms.CharField(
        required=False,
        max_length=100_000,
        label="Arguments",
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        help_text='One JSON object, such as {"q": "claude"}. Texts in it may refer to earlier stages.',
    )
    when_test = forms.ChoiceField(required=False, choices=TESTS, label="Done when")
    when_stage = forms.CharField(
        required=False, max_length=40, label="Of the stage", help_text="The name of an earlier one."
    )
    when_value = forms.CharField(required=False, max_length=2_000, label="Compared with")
    retries = forms.IntegerField(
        required=False, min_value=0, max_value=5, label="Further tries", help_text="After a failure, up to 5."
    )
    timeout = forms.IntegerField(
        required=False, min_value=10, max_value=3600, label="Time limit in seconds", help_text="With all its tries."
    )
    most_usd = forms.DecimalField(
        required=False,
        min_value=0,
        max_digits=18,
        decimal_places=12,
        label="Dollars at most",
        help_text="What its calls may cost together at OpenRouter.",
    )
    field_order = ("kind", "name", *LIST, *PROMPT[:-1], "text", "tool", "arguments", "output_schema", *BOUNDS)

    def __init__(
        self,
        *args: Any,
        kind: str,
        personas: list,
        tools: list,
        usable: Callable[[str], list[str]] = lambda field: [],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.usable = usable
        self.stage_kind = kind if kind in KINDS else "prompt"
        self.fields["persona"].choices = personas
        self.fields["tool"].choices = tools
        self.fields["model"].help_text = f"Empty: the persona's own. {MODEL_HINT}"
        for name in set(self.fields) - {"kind", "name", *FIELDS[self.stage_kind], *BOUNDS}:
            del self.fields[name]

    @property
    def title(self) -> str:
        return KINDS[self.stage_kind]

    @property
    def main(self) -> list[tuple[forms.BoundField, Refers | None]]:
        """What the stage does, each field with what its text refers to where it may refer to anything."""
        return [(field, self._refers(field)) for field in self if field.name not in BOUNDS]

    def _refers(self, field: forms.BoundField) -> Refers | None:
        if field.name not in TEXTS:
            return None
        return refers(str(field.value() or ""), self.usable(field.name))

    @property
    def bounds(self) -> FoldedFields:
        """When it is done and how far it may go: folded, since most stages leave it alone."""
        return FoldedFields("When it is done, tries and limits", [self[name] for name in BOUNDS])

    @property
    def has_bounds(self) -> bool:
        """Whether anything is said there."""
        return self.bounds.is_open or any(str(self[name].value() or "") not in ("", "0") for name in BOUNDS)

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if data.get("when_test") and not data.get("when_stage"):
            self.add_error("when_stage", "Name the earlier stage that is looked at.")
        return data

    def clean_arguments(self) -> dict[str, Any]:
        text = self.cleaned_data["arguments"].strip()
        try:
            return load_object(text) if text else {}
        except NotPlainJson as error:
            raise forms.ValidationError(str(error)) from None

    def stage(self) -> dict[str, Any]:
        """The stage as a flow version keeps it. Call is_valid first."""
        data = self.cleaned_data
        kind, _, does = self.stage_kind.partition("_")
        stage = {"kind": kind, "name": data["name"]} | _bounds(data)
        stage |= {name: data[name] for name in (*LIST, "text") if name in data}
        work = {name: data[name] for name in WORK if name in data}
        return stage | ({"do": {"kind": does} | work} if does else work)


def _bounds(data: Mapping[str, Any]) -> dict[str, Any]:
    when = {"stage": data["when_stage"], "is": data["when_test"], "value": data["when_value"]}
    return {
        "when": when if data["when_test"] else None,
        "retries": data["retries"] or 0,
        "timeout": data["timeout"],
        "most_usd": f"{data['most_usd']:f}" if data["most_usd"] is not None else None,
    }


def kind_of(stage: Mapping[str, Any]) -> str:
    """The kind of form for a stored stage, or for what a form posted."""
    does = stage.get("do")
    return f"each_{does.get('kind')}" if isinstance(does, Mapping) else stage.get("kind", "")


def initial(stage: Mapping[str, Any]) -> dict[str, Any]:
    """What the form shows: stored JSON as text, typed fields as they are."""
    flat = dict(stage) | dict(stage.get("do") or {}) | {"kind": kind_of(stage)}
    when = stage.get("when") or {}
    if when:
        flat |= {"when_stage": when.get("stage"), "when_test": when.get("is"), "when_value": when.get("value")}
    texts = {name: _as_text(flat.get(name)) for name in ("arguments", "output_schema")}
    return {"most": 20, "at_once": 4} | ChainForm.fields_of(with_chain(flat).get("chain", ())) | flat | texts


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False) if value else ""
