"""Which JSON Schemas may give an answer its form, decided without a database."""

import pytest

from personas.forms import PersonaForm
from personas.output_schema import problem_of_schema

GOOD = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}}},
    "$defs": {"tag": {"type": ["string", "null"]}},
    "required": ["name"],
    "additionalProperties": False,
}


def test_a_schema_of_an_object_is_taken():
    assert problem_of_schema(GOOD) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "array"}, "must describe an object"),
        ({"properties": []}, "must describe an object"),
        ({"properties": {"name": {"type": "text"}}}, "schema.properties.name.type"),
        ({"properties": {"name": {"type": {}}}}, "schema.properties.name.type"),
        ({"properties": {"name": "string"}}, "schema.properties.name must be an object"),
        ({"properties": {"name": {"$ref": "https://example.com/a"}}}, "leads out of the schema"),
        ({"required": ["nobody"]}, "schema.required names nobody"),
        ({"required": "name"}, "schema.required must be a list"),
        ({"$defs": {"tag": 7}}, "schema.$defs.tag must be an object"),
        ({"properties": {"name": {"anyOf": [{"type": "odd"}]}}}, "schema.properties.name.anyOf.1.type"),
    ],
)
def test_what_is_wrong_with_a_schema_is_named_with_its_place(change, said):
    assert said in problem_of_schema(GOOD | change)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no json", "This is not JSON."),
        ("[1]", "must be one JSON object"),
        ('{"type": "object", "type": "object"}', "names one field twice"),
        ("{" * 5_000, "This is not JSON."),
        ('{"a":' * 25 + "1" + "}" * 25, "nested more than"),
        ('{"type": NaN}', "NaN"),
        (" " * 3 + "{" + " " * 20_000 + "}", "at most 20000 characters"),
    ],
)
def test_text_that_is_no_schema_is_refused_with_words(text, said):
    form = PersonaForm({"name": "X", "max_tokens": "10", "output_schema": text})
    assert not form.is_valid()
    assert said in form.errors["output_schema"][0]


def test_without_a_schema_answers_are_free_text():
    form = PersonaForm({"name": "X", "max_tokens": "10", "output_schema": "  "})
    assert form.is_valid()
    assert form.cleaned_data["output_schema"] is None


def test_a_form_that_leaves_limits_out_gives_those_of_a_new_persona():
    form = PersonaForm({"name": "X", "max_tokens": "10"})
    assert form.is_valid()
    kept = {name: form.cleaned_data[name] for name in ("format", "most_steps", "most_tool_calls", "most_seconds")}
    assert kept == {"format": "chat", "most_steps": 8, "most_tool_calls": 20, "most_seconds": 300}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("most_steps", "21"),
        ("most_steps", "0"),
        ("most_tool_calls", "21"),
        ("most_seconds", "9"),
        ("most_seconds", "601"),
        ("most_credits", "0"),
        ("top_p", "0"),
        ("top_p", "1.01"),
        ("reasoning_effort", "boundless"),
        ("format", "telepathy"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_at_its_field(field, value):
    form = PersonaForm({"name": "X", "max_tokens": "10", field: value})
    assert not form.is_valid()
    assert list(form.errors) == [field]
